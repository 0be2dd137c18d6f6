"""A store in memory that keeps S3's promises and checks Potstill's: each call is a turn of the scheduler, and may fail.

`Objects` is the stored state. A `Client` is the access of one actor, with its own faults: calls that fail before or after
they took effect, and LISTs that are stale or torn.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.simulation.scheduler import Scheduler
from workloads.api.records import Marker
from workloads.storage.base import AlreadyExists, NotFound, ObjectInfo, StoreError, check_key


@dataclass(frozen=True)
class Object:
    data: bytes
    etag: str
    modified: float
    version: int


@dataclass
class Objects:
    """`relied_on`: files that markers name, with their SHA-256. `committed`: the content by marker's key."""

    scheduler: Scheduler
    standing: dict[str, Object] = field(default_factory=dict)
    version: int = 0
    relied_on: dict[str, tuple[str, str]] = field(default_factory=dict)
    committed: dict[str, str] = field(default_factory=dict)
    unit_lists: int = 0
    """The number of LISTs of one unit."""

    def put(self, key: str, data: bytes) -> str:
        self._check_write(key, data)
        self.version += 1
        etag = f"{self.version}-{hashlib.md5(data, usedforsecurity=False).hexdigest()}"
        self.standing[key] = Object(data, etag, self.scheduler.now.timestamp(), self.version)
        return etag

    def delete(self, key: str) -> None:
        self.standing.pop(key, None)
        if "/markers/" in key:
            self.relied_on = {file: who for file, who in self.relied_on.items() if who[0] != key}
        assert key not in self.relied_on, f"{key} is deleted while {self.relied_on[key][0]} names it"

    def damage(self, key: str, data: bytes) -> None:
        """Damages it like a failing disk: the store's promises do not apply."""
        self.version += 1
        self.standing[key] = Object(data, f"{self.version}-damaged", self.scheduler.now.timestamp(), self.version)

    def _check_write(self, key: str, data: bytes) -> None:
        """Checks that a committed file never changes, and that a result's marker never changes."""
        if key in self.relied_on:
            relying, sha256 = self.relied_on[key]
            assert hashlib.sha256(data).hexdigest() == sha256, f"{key} is overwritten, which {relying} names"
        if "/markers/" not in key:
            return
        before = self.standing.get(key)
        assert before is None or before.data == data, f"{key} is overwritten"
        marker = Marker.model_validate_json(data)
        content = self.committed.setdefault(key, marker.content)
        if marker.record.type != "state":
            assert marker.content == content, f"{key} was committed twice, with different content"
        for file in marker.files:
            standing = self.standing.get(file.key)
            assert standing is not None, f"{key} names {file.key}, which does not exist"
            assert hashlib.sha256(standing.data).hexdigest() == file.sha256, f"{key} names {file.key}, which differs"
            self.relied_on[file.key] = (key, file.sha256)


@dataclass
class Client:
    """A `workloads.storage.base.Store`.

    Probabilities apply to each call; `stale_versions`: a LIST may lack this number of the latest writes.
    """

    objects: Objects
    fails: float = 0.0
    stale: float = 0.0
    stale_versions: int = 20

    @property
    def url(self) -> str:
        return "s3://memory/store"

    def get(self, key: str) -> bytes:
        return self.get_with_etag(key)[0]

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        self._before()
        found = self.objects.standing.get(key)
        if found is None:
            raise NotFound(f"{key} does not exist")
        return found.data, found.etag

    def head(self, key: str) -> ObjectInfo | None:
        self._before()
        found = self.objects.standing.get(key)
        return None if found is None else _info(key, found)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self._before()
        self.objects.unit_lists += prefix.startswith("units/") and prefix.endswith("/")
        chance = self.objects.scheduler.random
        hidden = self.objects.version - self.stale_versions if chance.random() < self.stale else self.objects.version
        torn = chance.random() < 0.5
        found = [
            _info(key, one)
            for key, one in sorted(self.objects.standing.items())
            if key.startswith(prefix) and (one.version <= hidden or (torn and chance.random() < 0.5))
        ]
        return iter(found)

    def put_new(self, key: str, data: bytes) -> str:
        return self._conditional(key, data, None)

    def put_if(self, key: str, data: bytes, etag: str | None) -> str:
        return self._conditional(key, data, etag)

    def put(self, key: str, data: bytes) -> None:
        self._before()
        self.objects.put(check_key(key), data)
        self._after()

    def upload(self, key: str, path: Path, sha256: str) -> None:
        data = path.read_bytes()
        assert hashlib.sha256(data).hexdigest() == sha256
        self.put(key, data)

    def download(self, key: str, path: Path) -> None:
        path.write_bytes(self.get(key))

    def delete(self, key: str) -> None:
        self._before()
        self.objects.delete(key)
        self._after()

    def probe(self) -> None:
        self._before()

    def _conditional(self, key: str, data: bytes, etag: str | None) -> str:
        self._before()
        standing = self.objects.standing.get(check_key(key))
        if (standing.etag if standing else None) != etag:
            if standing is not None and standing.data == data:
                return standing.etag
            raise AlreadyExists(f"{key} exists already, or is not as it was")
        new = self.objects.put(key, data)
        self._after()
        return new

    def _before(self) -> None:
        self.objects.scheduler.turn()
        if self.objects.scheduler.random.random() < self.fails / 2:
            raise StoreError("the store did not answer")

    def _after(self) -> None:
        """The write has taken effect; its answer may be lost, and its writer may be killed before it reads the
        answer.
        """
        self.objects.scheduler.turn()
        if self.objects.scheduler.random.random() < self.fails / 2:
            raise StoreError("the answer was lost")


def _info(key: str, found: Object) -> ObjectInfo:
    return ObjectInfo(key, len(found.data), found.etag, found.modified)
