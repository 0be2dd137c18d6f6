"""The object store, in a directory or S3, with one interface; markers, content digests and credentials."""
