"""`file://`: a store in a directory of this machine."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from workloads.storage.base import NoDirectory, Store, StoreError, StoreScheme
from workloads.storage.directory import DirectoryStore

EXAMPLE = "file:///an/absolute/directory"


def open_directory(url: str, _environment: Mapping[str, str], make: bool) -> Store:
    """Raises ValueError for another URL, NoDirectory without `make`, StoreError for one that cannot be made."""
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise ValueError(f"{url!r} is not a store: write {EXAMPLE}")
    root = Path(unquote(parts.path))
    if not make and not root.is_dir():
        raise NoDirectory(f"{root}: there is no such directory")
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{url}: cannot make the store's directory: {error}") from error
    return DirectoryStore(root)


SCHEME = StoreScheme(name="file", example=EXAMPLE, open=open_directory, is_local=True)
