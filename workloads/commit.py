"""Commit: files first, under keys of their own attempt; the marker last, If-None-Match. Readers believe markers only.

Whatever is killed when, a reader sees no marker or a marker whose files all stand.
"""

import tempfile
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from workloads.contents import hash_file
from workloads.contract import layout
from workloads.contract.model import sha256_of
from workloads.contract.records import FileRef, Marker, Record, StateRecord, content_of
from workloads.contract.units import UnitRef
from workloads.store import AlreadyExists, NotFound, Store


class Superseded(Exception):
    """Another attempt's marker of this name stands, with other content. This attempt must end and write no more."""


class Corrupt(Exception):
    """A marker is unreadable, or its files are missing or differ. The message names the marker and each file."""


def publish(
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
) -> Marker:
    """Makes `files` (name -> path) and `record` count under the marker `name`; the marker that stands afterwards.

    `content` (64 hex digits) is stated only for what the marker names but does not hold: whole weights at a location.
    If a marker of this name and content stands already, by whichever attempt, it is returned and nothing is written.

    Raises Superseded, StoreError.
    """
    prefix = f"{layout.attempt_prefix(unit, attempt)}{name}/"
    refs = tuple(
        FileRef(name=file, key=prefix + file, size=path.stat().st_size, sha256=hash_file(path))
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
    )
    standing = read_marker(store, unit, name)
    if standing is None:
        for ref in refs:
            store.upload(ref.key, files[ref.name], ref.sha256)
        try:
            store.put_new(layout.marker_key(unit, name), marker.to_json())
            return marker
        except AlreadyExists:
            standing = read_marker(store, unit, name)
    if standing is None or standing.content != marker.content:
        whose = "has been deleted" if standing is None else f"is attempt {standing.attempt}'s, with other content"
        raise Superseded(f"{unit}: marker {name} {whose}; attempt {attempt} must end")
    return standing


def read_marker(store: Store, unit: UnitRef, name: str) -> Marker | None:
    """None only when the store answered that it is absent. Raises Corrupt, StoreError."""
    key = layout.marker_key(unit, name)
    try:
        data = store.get(key)
    except NotFound:
        return None
    return _parse(unit, key, data)


def list_markers(store: Store, unit: UnitRef) -> list[Marker]:
    """All markers of a unit, in the order of their names. Raises Corrupt, StoreError."""
    found = []
    for info in store.list(layout.marker_prefix(unit)):
        try:
            found.append(_parse(unit, info.key, store.get(info.key)))
        except NotFound:
            continue  # a state, pruned since it was listed
    return found


def newest_state(markers: Iterable[Marker]) -> Marker | None:
    """The resume state with the most steps, of a unit's markers."""
    states = [marker for marker in markers if isinstance(marker.record, StateRecord)]
    return max(states, key=lambda marker: marker.name, default=None)


def prune_states(store: Store, unit: UnitRef, keep: int = 2) -> list[str]:
    """Deletes all resume states but the `keep` newest, marker before files; the names of those deleted."""
    states = [marker for marker in list_markers(store, unit) if isinstance(marker.record, StateRecord)]
    pruned = sorted(states, key=lambda marker: marker.name)[:-keep]
    for marker in pruned:
        store.delete(layout.marker_key(unit, marker.name))
        for file in marker.files:
            store.delete(file.key)
    return [marker.name for marker in pruned]


def verify(store: Store, marker: Marker, *, deep: bool = False) -> list[str]:
    """What is missing or differs, a sentence per file; empty: all stands. `deep` reads every byte, else sizes only."""
    problems = []
    for file in marker.files:
        found = store.head(file.key)
        if found is None:
            problems.append(f"{file.name} is missing (key {file.key})")
        elif found.size != file.size:
            problems.append(f"{file.name} has {found.size} bytes in place of {file.size} (key {file.key})")
        elif deep:
            with tempfile.TemporaryDirectory() as folder:
                problems += _download(store, file, Path(folder) / "file")
    return problems


def fetch(store: Store, marker: Marker, names: Iterable[str], into: Path) -> dict[str, Path]:
    """Downloads the files `names` of a marker to `into`/name and checks their SHA-256; where each one lies.

    A file that lies there already and is right is not downloaded again. Raises Corrupt, StoreError.
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
    """One file of a marker, small enough for memory, checked against its SHA-256. Raises Corrupt, StoreError."""
    whose = f"{name} of marker {marker.name} of {marker.unit}"
    file = next((file for file in marker.files if file.name == name), None)
    if file is None:
        raise Corrupt(f"{whose} is not among its files")
    try:
        data = store.get(file.key)
    except NotFound:
        raise Corrupt(f"{whose} is missing (key {file.key})") from None
    if sha256_of(data) != file.sha256:
        raise Corrupt(f"{whose} is not what was committed (key {file.key})")
    return data


def _download(store: Store, file: FileRef, path: Path) -> list[str]:
    try:
        store.download(file.key, path)
    except NotFound:
        return [f"{file.name} is missing (key {file.key})"]
    arrived = hash_file(path)
    if arrived == file.sha256:
        return []
    path.unlink()
    return [f"{file.name} hashes to {arrived} in place of {file.sha256} (key {file.key})"]


def _parse(unit: UnitRef, key: str, data: bytes) -> Marker:
    try:
        marker = Marker.model_validate_json(data)
    except ValidationError as error:
        raise Corrupt(f"{key} is no marker that this version can read: {error}") from error
    if layout.marker_key(unit, marker.name) != key or marker.unit != unit:
        raise Corrupt(f"{key} holds the marker {marker.name} of {marker.unit}: it was copied there")
    return marker
