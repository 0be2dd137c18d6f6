"""Benchmarks whose data do not come with the package: downloaded from their publisher, checked, and cached.

The folder `cache_folder()`/benchmarks/<name>/ has the published file, which the user can also put there, and the
problems made from it. Potstill writes both to a temporary file and renames it, so that a file that it wrote is
complete. The published file is checked before it is converted.
"""

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workloads.benchmarks.model import BenchmarkError
from workloads.data.sources import download_https
from workloads.storage.base import StoreError
from workloads.storage.content_digest import ContentError, cache_folder, locked


@dataclass(frozen=True)
class PublishedData:
    """`url`: the published file, at a fixed revision. `problems`: name of the file that `convert` makes from it.

    `check`: why the published bytes are not the known ones, or None. `convert` raises ValueError, KeyError or TypeError
    for data that are not in the published form, and BenchmarkError for what this machine lacks. Increase `version` when
    `convert` changes.
    """

    benchmark: str
    url: str
    problems: str
    check: Callable[[bytes], str | None]
    convert: Callable[[bytes], bytes]
    version: int = 1

    @property
    def folder(self) -> Path:
        return cache_folder() / "benchmarks" / self.benchmark

    @property
    def published_path(self) -> Path:
        return self.folder / self.url.rpartition("/")[2]

    @property
    def problems_path(self) -> Path:
        return self.folder / f"v{self.version}" / self.problems

    def locate(self) -> Path:
        """Returns the file of problems. Raises BenchmarkError if it is not on this machine: downloads nothing."""
        if not self.problems_path.is_file():
            raise BenchmarkError(f"{self.benchmark}: its problems are not on this machine")
        return self.problems_path

    def fetch(self) -> Path:
        """Returns the file of problems, made from the published file if it does not exist. Raises BenchmarkError."""
        try:
            return self._made()
        except OSError as error:
            raise BenchmarkError(
                f"{self.folder} cannot be used ({error.strerror or error}): make it a writable folder, or name "
                "another cache in POTSTILL_CACHE"
            ) from error

    def _made(self) -> Path:
        """Like `fetch`. Raises BenchmarkError, OSError."""
        if self.problems_path.is_file():
            return self.problems_path
        with locked(self.folder.with_suffix(".lock")):
            if not self.problems_path.is_file():
                data = self._published()
                try:
                    converted = self.convert(data)
                except (ValueError, KeyError, TypeError) as error:
                    message = f"{self.published_path}: not in the form that {self.benchmark} is published in: {error}"
                    raise BenchmarkError(message) from error
                self._write(self.problems_path, converted)
        return self.problems_path

    def _published(self) -> bytes:
        """Returns the checked content of the published file, downloaded if it does not exist. Raises BenchmarkError."""
        path = self.published_path
        if not path.is_file():
            unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
            try:
                download_https(self.url, unfinished)
                data = unfinished.read_bytes()
            except (ContentError, StoreError) as error:
                reason = str(error).removeprefix(f"{self.url}: ")
                raise BenchmarkError(
                    f"download {self.url} and put it at {path}: {self.benchmark} is not on this machine and could not "
                    f"be fetched ({reason})"
                ) from error
            finally:
                unfinished.unlink(missing_ok=True)
            if (wrong := self.check(data)) is not None:
                raise BenchmarkError(f"{self.url}: {wrong}: another file was fetched; put the right one at {path}")
            self._write(path, data)
            return data
        data = path.read_bytes()
        if (wrong := self.check(data)) is not None:
            raise BenchmarkError(f"{path}: {wrong}: delete it, or put the file of {self.url} there")
        return data

    @staticmethod
    def _write(path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        unfinished.write_bytes(data)
        unfinished.replace(path)


def hash_mismatch(algorithm: str, known: str, data: bytes) -> str | None:
    """Returns a text, for `check`, if the hash of `data` is not `known`; None if it is."""
    found = hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()
    return None if found == known else f"its {algorithm} is {found}, not {known}"
