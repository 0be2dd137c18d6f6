"""The object store: a directory or S3, one interface; markers, content digests and credentials."""
