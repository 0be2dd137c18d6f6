"""The interface of object stores: S3 or a directory, with the same guarantees."""

import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

DEADLINE_SECONDS = 120.0
"""How long one call to the store is retried before it raises StoreError (`POTSTILL_STORE_DEADLINE_SECONDS`)."""


class StoreError(Exception):
    """The store did not answer: the state of the key is unknown. Never treat it as absent."""


class NotFound(StoreError):
    """The store answered that the key does not exist."""


class NoDirectory(StoreError):
    """The directory of a store does not exist."""


class AlreadyExists(StoreError):
    """A conditional write was refused: the key exists (put_new), or has changed since it was read (put_if)."""


@dataclass(frozen=True)
class ObjectInfo:
    key: str
    size: int
    etag: str
    modified: float
    """Seconds since 1970, by the store's clock."""


class Store(Protocol):
    """Keys are relative to the root. Every method raises StoreError if the outcome is unknown after retries."""

    @property
    def url(self) -> str:
        """s3://bucket/prefix or file:///path, as `open_store` accepts it."""
        ...

    def get(self, key: str) -> bytes: ...

    def get_with_etag(self, key: str) -> tuple[bytes, str]: ...

    def head(self, key: str) -> ObjectInfo | None:
        """Returns None only if the store answered that the key is absent."""
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yields all keys that start with `prefix`, in key order, all of them or StoreError."""
        ...

    def put_new(self, key: str, data: bytes) -> str:
        """If-None-Match: *. Returns the etag.

        Raises AlreadyExists if the key exists, unless its content equals `data`.
        """
        ...

    def put_if(self, key: str, data: bytes, etag: str | None) -> str:
        """If-Match: `etag` (None: the key must be absent). Returns the new etag. Raises AlreadyExists if it has
        changed.

        Content that equals `data` already is success, as in `put_new`: it may come from this write, if its answer was
        lost.
        """
        ...

    def put(self, key: str, data: bytes) -> None:
        """Overwrites. Only for progress and logs of the writer's own attempt."""
        ...

    def upload(self, key: str, path: Path, sha256: str) -> None:
        """Uploads a file of any size, checked on arrival by its SHA-256 and size. Overwrites the writer's own key."""
        ...

    def download(self, key: str, path: Path) -> None:
        """Downloads atomically: `path` has either the whole object or does not exist."""
        ...

    def delete(self, key: str) -> None:
        """For `gc` and for pruning resume states. Does nothing if the key is absent."""
        ...

    def probe(self) -> None:
        """Writes twice with If-None-Match under probe/.

        Raises StoreError if the server ignores conditions or refuses writes.
        """
        ...


_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+=@:,-]{0,199}")


def check_key(key: str) -> str:
    """Returns the key if a store may write it: segments of letters, digits and ._+=@:,- that do not start with a dot.

    Raises ValueError. `api.store_keys` makes all keys, so a wrong one is an error of the program.
    """
    if len(key) > 900 or not all(_SEGMENT.fullmatch(segment) for segment in key.split("/")):
        raise ValueError(
            f"{key!r} is not a key of a store: use 1 to 200 of A-Z a-z 0-9 . _ + = @ : , - between slashes"
        )
    return key


@dataclass(frozen=True)
class StoreScheme:
    """The stores of one URL scheme. A new one is an entry of `workloads.storage.registry`.

    `example`: a URL, for messages. `open`: takes a URL, the environment and `make`, whether to create a store that does
    not exist. It raises ValueError for a URL that it cannot read, NoDirectory, and StoreError. `is_local`: whether the
    stores are on this machine, so that pods cannot reach them.

    A location in a store that is not local is SCHEME://HOST/KEY: SCHEME://HOST opens as a store that has KEY.
    """

    name: str
    example: str
    open: Callable[[str, Mapping[str, str], bool], Store]
    is_local: bool = False


def open_store(url: str, environment: Mapping[str, str] = os.environ, *, make: bool = True) -> Store:
    """Opens `s3://bucket/prefix`, with the AWS credential chain, or `file:///directory`, which `make` creates.

    Other distributions may add schemes (`workloads.storage.registry`). For s3, POTSTILL_S3_ENDPOINT names another
    server, whose buckets are then addressed by path unless POTSTILL_S3_ADDRESSING is virtual. POTSTILL_S3_KEYS names a
    folder of files with the keys (`s3.credentials`), instead of the chain. POTSTILL_CA_BUNDLE names a PEM file of
    additional CAs. Raises NoDirectory, StoreError, ValueError for any other URL.
    """
    from workloads.storage.registry import STORES

    scheme = urlsplit(url).scheme
    if scheme in STORES:
        return STORES[scheme].open(url, environment, make)
    raise ValueError(f"{url!r} is not a store: write {' or '.join(found.example for found in STORES.values())}")


def probe_conditions(store: Store) -> None:
    """Implements `Store.probe` for every store: conditional writes must be refused if their condition is false."""
    key = f"probe/{uuid.uuid4().hex}"
    etag = store.put_new(key, b"first")
    try:
        _expect_refusal(store, key, "If-None-Match", lambda: store.put_new(key, b"second"))
        changed = store.put_if(key, b"third", etag)
        _expect_refusal(store, key, "If-Match", lambda: store.put_if(key, b"fourth", etag))
        found, found_etag = store.get_with_etag(key)
        if (found, found_etag) != (b"third", changed):
            raise StoreError(f"{store.url}: {key} does not read as it was written; this store cannot be trusted")
    finally:
        store.delete(key)


def _expect_refusal(store: Store, key: str, condition: str, write: Callable[[], str]) -> None:
    try:
        write()
    except AlreadyExists:
        return
    raise StoreError(
        f"{store.url}: the server took a write to {key} whose {condition} did not hold. Without conditional writes two "
        "attempts could both win: use a server that has them (AWS S3, MinIO, Ceph from Squid on, versitygw)"
    )
