"""Kinds of stores, by URL scheme. A new one is an entry here, or an entry point in `potstill.stores`."""

from urllib.parse import urlsplit

from workloads.registry import Registry
from workloads.storage import file_scheme
from workloads.storage.base import StoreScheme
from workloads.storage.s3 import scheme as s3_scheme

STORES = Registry[StoreScheme](
    "store", "potstill.stores", StoreScheme, {one.name: one for one in (s3_scheme.SCHEME, file_scheme.SCHEME)}
)


def is_in_store(location: str) -> bool:
    """Returns whether a location is a key of a store that pods can reach: s3://bucket/key, but not a path or
    file://.
    """
    scheme = urlsplit(location).scheme if "://" in location else ""
    return scheme in STORES and not STORES[scheme].is_local


def remote_schemes() -> list[str]:
    """Returns the schemes of stores that pods can reach, each with ://."""
    return [f"{scheme.name}://" for scheme in STORES.values() if not scheme.is_local]
