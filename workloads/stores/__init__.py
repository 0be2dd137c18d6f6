"""The two stores: a directory, and S3. `workloads.store.open_store` picks one by its URL."""
