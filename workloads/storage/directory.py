"""A store in a directory of a POSIX file system with hard links: gives S3's guarantees by link(2) and rename(2).

A write goes to a file under `.writing/`, is flushed to the disk, and is then linked or renamed to its key: a reader
sees the old object or the new one, even if a writer is killed. Compare-and-set uses a lock file under `.locks/`.
"""

import errno
import fcntl
import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from workloads.storage.base import AlreadyExists, NotFound, ObjectInfo, StoreError, check_key, probe_conditions

WRITING = ".writing"
LOCKS = ".locks"
HASHED_BYTES = 4 * 1024 * 1024
"""Up to this size an etag is the content's SHA-256; for a larger file it is the file's version (inode, time, size)."""
ABANDONED_SECONDS = 3600.0
"""A file under `.writing/` that no process has open and that has not changed for this long was left by a killed
writer.
"""


class DirectoryStore:
    """Safe for any number of threads and processes on one machine, and on NFS with working flock."""

    def __init__(self, root: Path, now: Callable[[], float] = time.time) -> None:
        self.root = root.absolute()
        self._now = now

    @property
    def url(self) -> str:
        return self.root.as_uri()

    def get(self, key: str) -> bytes:
        return self.get_with_etag(key)[0]

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        with self._reading(key) as file:
            data = file.read()
            return data, _etag(os.fstat(file.fileno()), data)

    def head(self, key: str) -> ObjectInfo | None:
        try:
            with self._reading(key) as file:
                return _info(key, file)
        except NotFound:
            return None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        folder = prefix.rpartition("/")[0]
        self._path(folder or "x")
        self._require_root()
        for key in self._keys(folder + "/" if folder else ""):
            if key.startswith(prefix) and (found := self.head(key)) is not None:
                yield found

    def put_new(self, key: str, data: bytes) -> str:
        target = self._path(check_key(key))
        with self._explained("write", key), self._written(data) as (written, etag):
            try:
                _in_folder(target, lambda: os.link(written, target))
            except FileExistsError:
                return self._same_or_lost(key, data)
            _flush_folder(target.parent)
            return etag

    def put_if(self, key: str, data: bytes, etag: str | None) -> str:
        if etag is None:
            return self.put_new(key, data)
        target = self._path(check_key(key))
        with self._explained("write", key), self._written(data) as (written, new_etag), self._locked(key):
            found = self.head(key)
            if found is None or found.etag != etag:
                return self._same_or_lost(key, data)
            _replace(written, target)
            return new_etag

    def put(self, key: str, data: bytes) -> None:
        target = self._path(check_key(key))
        with self._explained("write", key), self._written(data) as (written, _):
            _replace(written, target)

    def upload(self, key: str, path: Path, sha256: str) -> None:
        target = self._path(check_key(key))
        with self._explained("write", key), path.open("rb") as source, self._unfinished() as file:
            arrived = _copy(source, file)
            if arrived != sha256:
                raise StoreError(f"{self.url}/{key}: {path} hashes to {arrived}, not {sha256}: it changed since")
            _replace(Path(file.name), target)

    def download(self, key: str, path: Path) -> None:
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
        with self._reading(key) as source, self._explained("copy", key):
            try:
                with partial.open("xb") as file:
                    _copy(source, file)
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)

    def delete(self, key: str) -> None:
        target = self._path(check_key(key))
        with self._explained("delete", key), self._locked(key):
            try:
                target.unlink()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return
            for folder in target.parents:
                if folder == self.root or not _remove_if_empty(folder):
                    break

    def probe(self) -> None:
        self.clean()
        probe_conditions(self)

    def clean(self) -> int:
        """Deletes files of killed writers under `.writing/`. Returns how many."""
        removed = 0
        with self._explained("clean", WRITING):
            for left in self.root.joinpath(WRITING).glob("*"):
                removed += self._remove_if_abandoned(left)
        return removed

    def _remove_if_abandoned(self, left: Path) -> bool:
        try:
            with left.open("rb") as file:
                if os.fstat(file.fileno()).st_mtime > self._now() - ABANDONED_SECONDS:
                    return False
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()
        except (BlockingIOError, FileNotFoundError):
            return False
        return True

    def _path(self, key: str) -> Path:
        parts = PurePosixPath(key).parts
        if not parts or key.startswith("/") or any(part.startswith(".") for part in parts) or "\0" in key:
            raise ValueError(
                f"{key!r} is not a key of a store: it is empty, absolute, or has a segment that starts with a dot"
            )
        return self.root.joinpath(*parts)

    def _require_root(self) -> None:
        if not self.root.is_dir():
            raise StoreError(f"{self.url}: the store's directory does not exist. Is its volume mounted? If so, make it")

    @contextmanager
    def _explained(self, doing: str, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            advice = "Look at the directory's permissions and free space"
            if error.errno in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
                advice = "The file system may have no hard links: keep the store on ext4, xfs, APFS or NFS"
            raise StoreError(f"{self.url}: cannot {doing} {key}: {error}. {advice}") from error

    @contextmanager
    def _reading(self, key: str) -> Iterator[BinaryIO]:
        with self._explained("read", key):
            try:
                file = self._path(key).open("rb")
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                self._require_root()
                raise NotFound(f"{self.url}/{key} does not exist") from None
            with file:
                yield file

    @contextmanager
    def _unfinished(self) -> Iterator[BinaryIO]:
        self._require_root()
        path = self.root / WRITING / uuid.uuid4().hex
        path.parent.mkdir(exist_ok=True)
        with path.open("xb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                yield file
            finally:
                path.unlink(missing_ok=True)

    @contextmanager
    def _written(self, data: bytes) -> Iterator[tuple[Path, str]]:
        with self._unfinished() as file:
            file.write(data)
            _flush(file)
            yield Path(file.name), _etag(os.fstat(file.fileno()), data)

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        self._require_root()
        lock = self.root / LOCKS / hashlib.sha256(key.encode()).hexdigest()[:2]
        lock.parent.mkdir(exist_ok=True)
        with lock.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _same_or_lost(self, key: str, data: bytes) -> str:
        try:
            found, etag = self.get_with_etag(key)
        except NotFound:
            raise AlreadyExists(f"{self.url}/{key} does not exist any more") from None
        if found != data:
            raise AlreadyExists(f"{self.url}/{key} exists already, with other content")
        return etag

    def _keys(self, folder: str) -> Iterator[str]:
        """Yields keys under a folder ('' or 'a/b/'), in the order of their bytes, like S3."""
        with self._explained("list", folder):
            try:
                with os.scandir(self.root / folder) as entries:
                    names = [entry.name + ("/" if entry.is_dir() else "") for entry in entries]
            except (FileNotFoundError, NotADirectoryError):
                return
        for name in sorted(name for name in names if not name.startswith(".")):
            if name.endswith("/"):
                yield from self._keys(folder + name)
            else:
                yield folder + name


def _etag(status: os.stat_result, data: bytes) -> str:
    if status.st_size <= HASHED_BYTES:
        return hashlib.sha256(data).hexdigest()
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"


def _info(key: str, file: BinaryIO) -> ObjectInfo:
    status = os.fstat(file.fileno())
    data = file.read() if status.st_size <= HASHED_BYTES else b""
    return ObjectInfo(key, status.st_size, _etag(status, data), status.st_mtime)


def _copy(source: BinaryIO, file: BinaryIO) -> str:
    """Copies all and flushes to the disk. Returns the SHA-256 of the copy."""
    digest = hashlib.sha256()
    while block := source.read(1024 * 1024):
        digest.update(block)
        file.write(block)
    _flush(file)
    return digest.hexdigest()


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _in_folder(target: Path, place: Callable[[], object]) -> None:
    """Places a file in a folder that may not exist yet, and that `delete` may remove at the same moment."""
    for _ in range(100):
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "other keys start with this key and a slash", str(target))
        made = [folder for folder in target.parents if not folder.exists()]
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(errno.ENOTDIR, "a part of this key is a key itself", str(target)) from error
        try:
            for folder in reversed(made):
                _flush_folder(folder.parent)
            place()
        except FileNotFoundError:
            continue
        return
    raise OSError(errno.ENOENT, f"{target.parent} is removed as often as it is made")


def _replace(written: Path, target: Path) -> None:
    _in_folder(target, lambda: written.replace(target))
    _flush_folder(target.parent)


def _remove_if_empty(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True
