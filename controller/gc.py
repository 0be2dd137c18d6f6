"""`potstill gc`: looks at a whole store, and sweeps what `sweep.plan_sweep` lets go. Mark first, delete late.

An experiment may be accepted while this is at work, and may name what is about to go. So markers go first; then the
store is looked at again, and what is named by now gets its markers back and stays; then files go, then tasks. Whoever
looks before the second look is seen by it, and whoever looks after it sees no result and makes one, as an attempt of a
new number, under keys that are not among those that go.
"""

import logging
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from controller.sweep import UNIT_KEY, Doomed, Snapshot, plan_sweep
from controller.view import FINAL_MARKER
from workloads.commit import Corrupt, verify
from workloads.contract import layout
from workloads.contract.experiment import FrozenExperiment
from workloads.contract.manifest import Manifest
from workloads.contract.model import sha256_of
from workloads.contract.records import Marker
from workloads.contract.tasks import Task, parse_task
from workloads.contract.units import UnitRef
from workloads.store import AlreadyExists, NotFound, ObjectInfo, Store

READERS = 16
TASK, END, MARKER = (re.compile(p) for p in (r"tasks/(\d+)\.json", r"tasks/(\d+)\.end\.json", r"markers/[^/]+\.json"))
REDONE = frozenset({"generate", "grade", "report"})
"""Units whose one marker is their result: without it they are done again."""

Item = TypeVar("Item")
Result = TypeVar("Result")
Parsed = TypeVar("Parsed", bound=BaseModel)

logger = logging.getLogger("potstill")


@dataclass(frozen=True)
class Swept:
    objects: int
    bytes: int
    spared: int
    """Objects that were planned to go and were needed by then."""


def look(store: Store, *, deep: bool = False) -> Snapshot:
    """The store as it is. `deep` reads every result of a generation or grading against its marker.

    Raises StoreError, and Corrupt for an experiment, manifest, task or marker that this version cannot read: what it
    names is not known, so that nothing may be swept.
    """
    folders = tuple(info for info in store.list(layout.EXPERIMENTS))
    objects = (*store.list(layout.UNITS), *store.list(layout.BLOBS))
    experiments = _keys(folders, "experiment.json")
    manifests = _keys(folders, "manifest.json")
    with ThreadPoolExecutor(READERS) as readers:
        read = _Reader(store, readers)
        frozen = read.all(experiments, lambda key, data: _parsed(FrozenExperiment, key, data))
        folded = read.all(manifests, lambda key, data: (sha256_of(data), _parsed(Manifest, key, data)))
        tasks = read.all(_open_tasks(objects), _task)
        markers = _by_unit(read.all(_markers(objects), lambda key, data: _parsed(Marker, key, data)))
        corrupt = dict(read.map(lambda unit: _why_corrupt(store, unit, markers), markers)) if deep else {}
    why = {unit: reason for unit, reason in corrupt.items() if reason}
    return Snapshot(objects, frozen, dict(folded), tasks, markers, why)


class _Reader:
    """Reads many objects at once; one that has gone since it was listed is left out."""

    def __init__(self, store: Store, threads: ThreadPoolExecutor) -> None:
        self._store, self._threads = store, threads

    def all(self, keys: Iterable[str], parse: Callable[[str, bytes], Result]) -> tuple[Result, ...]:
        def one(key: str) -> tuple[Result, ...]:
            try:
                return (parse(key, self._store.get(key)),)
            except NotFound:
                return ()

        return tuple(result for found in self._threads.map(one, keys) for result in found)

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[tuple[Item, Result]]:
        listed = list(items)
        return list(zip(listed, self._threads.map(work, listed), strict=True))


def _keys(infos: Iterable[ObjectInfo], name: str) -> list[str]:
    """`name` of each experiment's folder."""
    return [info.key for info in infos if info.key.endswith("/" + name) and info.key.count("/") == 3]


def _open_tasks(objects: Iterable[ObjectInfo]) -> list[str]:
    units = [found for info in objects if (found := UNIT_KEY.fullmatch(info.key))]
    ended = {(m[1], m[2], found[1]) for m in units if (found := END.fullmatch(m[3]))}
    return [m[0] for m in units if (found := TASK.fullmatch(m[3])) and (m[1], m[2], found[1]) not in ended]


def _markers(objects: Iterable[ObjectInfo]) -> list[str]:
    return [info.key for info in objects if (m := UNIT_KEY.fullmatch(info.key)) and MARKER.fullmatch(m[3])]


def _by_unit(markers: Iterable[Marker]) -> dict[UnitRef, dict[str, Marker]]:
    found: dict[UnitRef, dict[str, Marker]] = {}
    for marker in markers:
        found.setdefault(marker.unit, {})[marker.name] = marker
    return found


def _why_corrupt(store: Store, unit: UnitRef, markers: Mapping[UnitRef, Mapping[str, Marker]]) -> str | None:
    marker = markers[unit].get(FINAL_MARKER[unit.kind])
    if unit.kind not in REDONE or marker is None:
        return None
    return "; ".join(verify(store, marker, deep=True)) or None


def _task(key: str, data: bytes) -> Task:
    try:
        return parse_task(data)
    except ValidationError as error:
        raise _unreadable(key, "task", error) from error


def _parsed(model: type[Parsed], key: str, data: bytes) -> Parsed:
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise _unreadable(key, model.__name__, error) from error


def _unreadable(key: str, what: str, error: ValidationError) -> Corrupt:
    return Corrupt(
        f"{key} is no {what} that this version can read, so that nobody knows what it names and nothing is swept: "
        f"use the newest potstill that writes to this store ({error.error_count()} errors)"
    )


def sweep(
    store: Store,
    plan: Sequence[Doomed],
    look_again: Callable[[], Snapshot],
    now_seconds: float,
    age_floor_seconds: float,
) -> Swept:
    """Deletes what was planned and is still not needed. Raises StoreError: called again it goes on."""
    planned = {info.key: info for doomed in plan for info in doomed.objects}
    removed: dict[str, tuple[ObjectInfo, bytes]] = {}
    for key, info in planned.items():
        if (found := UNIT_KEY.fullmatch(key)) and MARKER.fullmatch(found[3]):
            try:
                removed[key] = (info, store.get(key))
            except NotFound:
                continue
            store.delete(key)
    again = _with_markers(look_again(), removed, {doomed.unit for doomed in plan if doomed.why == "corrupt result"})
    confirmed = {
        info.key for doomed in plan_sweep(again, now_seconds, age_floor_seconds) for info in doomed.objects
    } & planned.keys()
    for key in removed.keys() - confirmed:
        try:
            store.put_new(key, removed[key][1])
        except AlreadyExists:
            logger.info("%s was committed anew meanwhile", key)
    for key in sorted(confirmed - removed.keys(), key=_order):
        store.delete(key)
    return Swept(len(confirmed), sum(planned[key].size for key in confirmed), len(planned.keys() - confirmed))


def _with_markers(
    snapshot: Snapshot, removed: Mapping[str, tuple[ObjectInfo, bytes]], corrupt: Collection[UnitRef | None]
) -> Snapshot:
    """As if the markers that were taken away still stood; one that was committed anew stays as it is."""
    standing = {info.key for info in snapshot.objects}
    markers = {unit: dict(found) for unit, found in snapshot.markers.items()}
    why = dict(snapshot.corrupt)
    lent = []
    for key, (info, data) in removed.items():
        if key not in standing:
            marker = _parsed(Marker, key, data)
            markers.setdefault(marker.unit, {})[marker.name] = marker
            lent.append(info)
            if marker.unit in corrupt:
                why[marker.unit] = "found before"
    return replace(snapshot, objects=(*snapshot.objects, *lent), markers=markers, corrupt=why)


def _order(key: str) -> tuple[int, str]:
    """Files before tasks, and a task before its end: what is half swept is never taken for a task at work."""
    found = UNIT_KEY.fullmatch(key)
    if found is None or not found[3].startswith("tasks/"):
        return 0, key
    return (2 if END.fullmatch(found[3]) else 1), key
