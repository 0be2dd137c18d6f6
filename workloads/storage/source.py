"""Reads another program's directory or bucket through the store's interface; creates nothing there."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from workloads.storage.base import Store, open_store
from workloads.storage.directory import DirectoryStore
from workloads.storage.registry import is_in_store, remote_schemes


def open_source(location: str) -> Store:
    """`location` is a path, file:// or a prefix in a store (s3://bucket/prefix).

    Reading a directory that does not exist raises StoreError.
    """
    parts = urlsplit(location)
    if is_in_store(location):
        return open_store(location.rstrip("/"))
    if parts.scheme not in ("", "file"):
        known = " or ".join(remote_schemes())
        raise ValueError(f"{location}: {parts.scheme}:// is not known here; use a path or {known}bucket/prefix")
    return DirectoryStore(Path(unquote(parts.path)) if parts.scheme else Path(location))
