"""The object store: S3 or a directory, one interface with the same guarantees."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class StoreError(Exception):
    """The store could not answer: the state of the key is unknown. Never read as 'absent'."""


class NotFound(StoreError):
    """The store answered that the key is not there."""


class AlreadyExists(StoreError):
    """A conditional write lost: the key is there (put_new), or is not as it was read (put_if)."""


@dataclass(frozen=True)
class ObjectInfo:
    key: str
    size: int
    etag: str
    modified: float
    """Seconds since 1970, by the store's clock."""


class Store(Protocol):
    """Keys are relative to the root. Every method raises StoreError when the outcome is unknown after retries."""

    @property
    def url(self) -> str:
        """s3://bucket/prefix or file:///path: what `open_store` takes."""
        ...

    def get(self, key: str) -> bytes: ...

    def get_with_etag(self, key: str) -> tuple[bytes, str]: ...

    def head(self, key: str) -> ObjectInfo | None:
        """None only when the store answered that the key is absent."""
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """All keys that start with `prefix`, in key order, whole or StoreError."""
        ...

    def put_new(self, key: str, data: bytes) -> str:
        """If-None-Match: *. The etag; AlreadyExists if the key is there, unless its content equals `data`."""
        ...

    def put_if(self, key: str, data: bytes, etag: str | None) -> str:
        """If-Match: `etag` (None: the key must be absent). The new etag; AlreadyExists if it changed meanwhile."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Overwrites. For progress and logs of the writer's own attempt only."""
        ...

    def upload(self, key: str, path: Path, sha256: str) -> None:
        """A file of any size, checked on arrival against its SHA-256 and size. Overwrites the writer's own key."""
        ...

    def download(self, key: str, path: Path) -> None:
        """Atomically in place: either the whole object stands at `path` or nothing does."""
        ...

    def delete(self, key: str) -> None:
        """For `gc` and for pruning resume state. Absent is fine."""
        ...

    def probe(self) -> None:
        """PUT twice If-None-Match under probe/: StoreError if the server ignores conditions or refuses writes."""
        ...
