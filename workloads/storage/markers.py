"""Commits results: uploads files under keys that no other writer has, then writes the marker, If-None-Match. Readers
use only files that a marker names.

A process may be killed at any moment: a reader sees no marker, or a marker whose files all exist.
"""

import json
import logging
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from workloads.api import store_keys
from workloads.api.model import schema_version_of, sha256_of
from workloads.api.records import FileRef, Marker, Record, StateRecord, checksum_of, content_of
from workloads.api.units import UnitRef
from workloads.storage.base import AlreadyExists, NotFound, Store, check_key
from workloads.storage.content_digest import hash_file

READS = 2
"""How often a file is read before it counts as damaged, because one answer may be damaged in transfer."""
SLOW_SECONDS = 900.0
"""A commit that took longer checks whether its files still exist: `gc` may have deleted them as abandoned."""

logger = logging.getLogger("potstill")


class Superseded(Exception):
    """Another attempt has committed a marker of this name with other content.

    This attempt must end and write no more.
    """


class Corrupt(Exception):
    """A marker is unreadable, or its files are missing or differ. The message names the marker and each file."""


def commit_marker(
    store: Store,
    unit: UnitRef,
    attempt: int,
    name: str,
    files: Mapping[str, Path],
    record: Record,
    *,
    now: datetime,
    parent: str | None = None,
    content: str | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Marker:
    """Commits `files` (name -> path) and `record` under the marker `name`. Returns the committed marker.

    `content` (64 hex digits) is stated only if the marker names content that it does not have as files: whole weights
    at a location. If a marker with this name and content exists already, from any attempt, it is returned and nothing
    is written. Only a damaged resume state is replaced.

    Raises Superseded, StoreError.
    """
    commit = uuid.uuid4().hex[:12]
    refs = tuple(
        FileRef(
            name=file,
            key=store_keys.file_key(unit, attempt, name, commit, file),
            size=path.stat().st_size,
            sha256=hash_file(path),
        )
        for file, path in sorted(files.items())
    )
    marker = Marker(
        unit=unit,
        name=name,
        attempt=attempt,
        content=content or content_of(refs),
        files=refs,
        parent=parent,
        created=now,
        record=record,
    ).with_checksum()
    if isinstance(record, StateRecord):
        standing, etag = _standing_state(store, unit, name)
    else:
        standing, etag = _read_marker(store, unit, name)
    if standing is None:
        began = clock()
        for ref in refs:
            store.upload(ref.key, files[ref.name], ref.sha256)
        began = _upload_again(store, refs, files, began, clock)
        try:
            if etag is None:
                store.put_new(store_keys.marker_key(unit, name), marker.to_json())
            else:
                store.put_if(store_keys.marker_key(unit, name), marker.to_json(), etag)
        except AlreadyExists:
            standing = read_marker(store, unit, name)
        else:
            _upload_again(store, refs, files, began, clock)
            return marker
    if standing is None or standing.content != marker.content:
        whose = "has been deleted" if standing is None else f"is attempt {standing.attempt}'s, with other content"
        raise Superseded(f"{unit}: marker {name} {whose}; attempt {attempt} must end")
    return standing


def _standing_state(store: Store, unit: UnitRef, name: str) -> tuple[Marker | None, str | None]:
    """Returns the marker of a resume state and its etag; only the etag if the marker, or a file that it names, is
    damaged.

    Raises Corrupt for a marker of a later version, StoreError.
    """
    try:
        standing, etag = _read_marker(store, unit, name)
    except Corrupt:
        data, etag = store.get_with_etag(store_keys.marker_key(unit, name))
        if (schema_version_of(data) or 0) > Marker.model_fields["schema_version"].default:
            raise
        return None, etag
    if standing is not None and verify(store, standing, deep=True):
        return None, etag
    return standing, etag


def _upload_again(
    store: Store, refs: Iterable[FileRef], files: Mapping[str, Path], began: float, clock: Callable[[], float]
) -> float:
    """Uploads files that were deleted since `began`, until one pass was so fast that `gc` cannot have deleted any
    others.
    """
    while clock() - began > SLOW_SECONDS:
        began = clock()
        for ref in refs:
            if store.head(ref.key) is None:
                store.upload(ref.key, files[ref.name], ref.sha256)
    return began


def read_marker(store: Store, unit: UnitRef, name: str) -> Marker | None:
    """None only when the store answered that it is absent. Raises Corrupt, StoreError."""
    return _read_marker(store, unit, name)[0]


def _read_marker(store: Store, unit: UnitRef, name: str) -> tuple[Marker, str] | tuple[None, None]:
    """Returns the marker with its etag."""
    key = store_keys.marker_key(unit, name)
    try:
        data, etag = store.get_with_etag(key)
        try:
            return parse_marker(unit, key, data), etag
        except Corrupt:  # perhaps only this answer is damaged
            data, etag = store.get_with_etag(key)
            return parse_marker(unit, key, data), etag
    except NotFound:
        return None, None


def list_markers(store: Store, unit: UnitRef, damaged: Callable[[str, Corrupt], None] | None = None) -> list[Marker]:
    """Returns all markers of a unit, in the order of their names.

    Calls `damaged` with name and error of each one that cannot be read, and leaves it out. Without `damaged` it raises
    Corrupt. Raises StoreError.
    """
    found = []
    for info in store.list(store_keys.marker_prefix(unit)):
        name = info.key.removeprefix(store_keys.marker_prefix(unit)).removesuffix(".json")
        try:
            marker = read_marker(store, unit, name)
        except Corrupt as error:
            if damaged is None:
                raise
            damaged(name, error)
            continue
        if marker is not None:  # otherwise a state, pruned since the listing
            found.append(marker)
    return found


def train_markers(store: Store, unit: UnitRef) -> list[Marker]:
    """Returns all markers of a train unit, except unreadable resume states, which are logged. Like `list_markers`."""

    def damaged(name: str, error: Corrupt) -> None:
        if not name.startswith(store_keys.STATE):
            raise error
        logger.warning("resume state skipped: %s", error)

    return list_markers(store, unit, damaged)


def newest_state(markers: Iterable[Marker]) -> Marker | None:
    """Returns the resume state with the most steps, from a unit's markers."""
    states = [marker for marker in markers if isinstance(marker.record, StateRecord)]
    return max(states, key=lambda marker: marker.name, default=None)


def prune_states(store: Store, unit: UnitRef, keep: int = 2, newest: str | None = None) -> list[str]:
    """Deletes all resume states but the `keep` newest, marker before files. Returns the names of the deleted ones.

    `newest`: the state that was committed last. Later ones, which were skipped because they are damaged, stay and do
    not count for `keep`.
    """
    states = [marker for marker in train_markers(store, unit) if isinstance(marker.record, StateRecord)]
    reached = [marker for marker in states if newest is None or marker.name <= newest]
    pruned = sorted(reached, key=lambda marker: marker.name)[:-keep]
    for marker in pruned:
        store.delete(store_keys.marker_key(unit, marker.name))
        for file in marker.files:
            store.delete(file.key)
    return [marker.name for marker in pruned]


def verify(store: Store, marker: Marker, *, deep: bool = False) -> list[str]:
    """Returns a sentence for each file that is missing or differs. `deep` reads every byte, otherwise only sizes.

    Each problem is confirmed by a second read. Raises StoreError.
    """
    problems = []
    for file in marker.files:
        differs = _differs(store, file) and _differs(store, file)
        if differs is not None:
            problems.append(differs)
        elif deep:
            with tempfile.TemporaryDirectory() as folder:
                problems += _download(store, file, Path(folder) / "file")
    return problems


def _differs(store: Store, file: FileRef) -> str | None:
    found = store.head(file.key)
    if found is None:
        return f"{file.name} is missing (key {file.key})"
    if found.size != file.size:
        return f"{file.name} has {found.size} bytes in place of {file.size} (key {file.key})"
    return None


def fetch(store: Store, marker: Marker, names: Iterable[str], into: Path) -> dict[str, Path]:
    """Downloads the files `names` of a marker to `into`/name and checks their SHA-256. Returns their paths.

    A correct file that exists already is not downloaded again. Raises Corrupt, StoreError.
    """
    held = {file.name: file for file in marker.files}
    paths: dict[str, Path] = {}
    problems: list[str] = []
    for name in names:
        if name not in held:
            problems.append(f"it holds no file {name}, only {', '.join(sorted(held)) or 'none'}")
            continue
        paths[name] = into / name
        paths[name].parent.mkdir(parents=True, exist_ok=True)
        if not (paths[name].is_file() and hash_file(paths[name]) == held[name].sha256):
            problems += _download(store, held[name], paths[name])
    if problems:
        raise Corrupt(f"{marker.unit}: marker {marker.name} of attempt {marker.attempt}: {'; '.join(problems)}")
    return paths


def read_file(store: Store, marker: Marker, name: str) -> bytes:
    """Returns one file of a marker, small enough for memory, checked by its SHA-256. Raises Corrupt, StoreError.

    A missing or different file is read twice before it counts as damaged.
    """
    whose = f"{name} of marker {marker.name} of {marker.unit}"
    file = next((file for file in marker.files if file.name == name), None)
    if file is None:
        raise Corrupt(f"{whose} is not among its files")
    problem = ""
    for _ in range(READS):
        try:
            data = store.get(file.key)
        except NotFound:
            problem = f"{whose} is missing (key {file.key})"
            continue
        if sha256_of(data) == file.sha256:
            return data
        problem = f"{whose} is not what was committed (key {file.key})"
    raise Corrupt(problem)


def _download(store: Store, file: FileRef, path: Path) -> list[str]:
    """Returns the problems of the file if two downloads have them; otherwise none, and the file is at `path`."""
    problem = ""
    for _ in range(READS):
        try:
            store.download(file.key, path)
        except NotFound:
            problem = f"{file.name} is missing (key {file.key})"
            continue
        arrived = hash_file(path)
        if arrived == file.sha256:
            return []
        problem = f"{file.name} hashes to {arrived} in place of {file.sha256} (key {file.key})"
        path.unlink()
    return [problem]


def parse_marker(unit: UnitRef, key: str, data: bytes) -> Marker:
    """Parses the marker that was read from `key`.

    Raises Corrupt if it is unreadable, differs from its checksum, belongs to another key, or names an impossible file.
    """
    try:
        marker = Marker.model_validate_json(data)
    except ValidationError as error:
        raise Corrupt(f"{key} is not a marker that this version can read: {first_problem(error)}") from error
    if marker.checksum is not None and marker.checksum != checksum_of(json.loads(data)):
        raise Corrupt(f"{key} differs from its own checksum: it was damaged since it was written")
    if store_keys.marker_key(unit, marker.name) != key or marker.unit != unit:
        raise Corrupt(f"{key} holds the marker {marker.name} of {marker.unit}: it was copied there")
    for file in marker.files:
        try:
            check_key(file.key)
        except ValueError as error:
            raise Corrupt(f"{key}: {error}") from error
    if marker.files and marker.content != content_of(marker.files):
        raise Corrupt(f"{key}: its content is not that of the files that it names")
    return marker


def first_problem(error: ValidationError) -> str:
    """Returns the first of the errors in one line: field and reason."""
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]
