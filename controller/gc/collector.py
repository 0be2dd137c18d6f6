"""`potstill gc`: lists a whole store, and deletes the objects that `sweep.plan_sweep` returns.

An experiment may be accepted during the sweep, and may need objects that are about to be deleted. So a second listing
confirms the plan before any change. Then markers and unnamed blobs are parked: copied to gc/parked/ and deleted. A
controller that now reads the store finds no result and makes one, in an attempt with a new number, whose keys are not
in the plan. A third listing finds parked objects that are needed by now, and they are restored. Only then the sweep
deletes the parked copies, then files, then tasks. If a sweep is killed before it deletes its parked copies, the next
sweep restores them; if it is killed later, the next sweep continues.
"""

import logging
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from controller.gc.sweep import Doomed, StoreListing, plan_sweep, unit_key
from workloads.api import store_keys
from workloads.api.experiment import FrozenExperiment
from workloads.api.manifest import Manifest
from workloads.api.model import sha256_of
from workloads.api.records import Marker
from workloads.api.tasks import Task, parse_task
from workloads.api.units import UnitRef
from workloads.registry import RegistryError
from workloads.stages.registry import final_marker, stage_named, stages_of
from workloads.storage.base import AlreadyExists, NotFound, ObjectInfo, Store, StoreError, check_key
from workloads.storage.markers import READS, Corrupt, parse_marker, verify

READERS = 16
TASK, END, MARKER = (re.compile(p) for p in (r"tasks/(\d+)\.json", r"tasks/(\d+)\.end\.json", r"markers/[^/]+\.json"))
NOTHING_SWEPT = (
    "What it names is not known, so that nothing is swept: use the newest potstill that writes to this store"
)
UNIT_PREFIX = re.compile(r"units/[a-z]+/[0-9a-f]{64}/")

Item = TypeVar("Item")
Result = TypeVar("Result")
Parsed = TypeVar("Parsed", bound=BaseModel)

logger = logging.getLogger("potstill")


@dataclass(frozen=True)
class Swept:
    objects: int
    bytes: int
    spared: int
    """Planned objects that were needed at the second or third listing."""


def look(store: Store, *, deep: bool = False) -> StoreListing:
    """Lists the store. `deep`: compares every result of a generation or grading with its marker, and every blob with
    its name.

    Raises StoreError, and Corrupt for an experiment, manifest, task or marker that this version cannot read: the
    objects that it names are unknown, so nothing may be deleted.
    """
    folders = tuple(info for info in store.list(store_keys.EXPERIMENTS))
    notices = (info for info in store.list(store_keys.NOTICES) if _is_key(info.key))
    objects = (*store.list(store_keys.UNITS), *store.list(store_keys.BLOBS), *notices)
    experiments = _keys(folders, "experiment.json")
    manifests = _keys(folders, "manifest.json")
    with ThreadPoolExecutor(READERS) as readers:
        read = _Reader(store, readers)
        frozen = read.all(experiments, _experiment)
        folded = read.all(manifests, lambda key, data: (sha256_of(data), _parsed(Manifest, key, data)))
        tasks = read.all(_open_tasks(objects), _task)
        markers = _by_unit(read.all(_markers(objects), _marker))
        corrupt = dict(read.map(lambda unit: _why_corrupt(store, unit, markers), markers)) if deep else {}
        blobs = [info.key for info in objects if info.key.startswith(store_keys.BLOBS)] if deep else []
        damaged = frozenset(key for key, differs in read.map(lambda key: _blob_differs(store, key), blobs) if differs)
    why = {unit: reason for unit, reason in corrupt.items() if reason}
    return StoreListing(objects, frozen, dict(folded), tasks, markers, why, damaged)


class _Reader:
    """Reads many objects at the same time. Objects that were deleted since the listing are left out."""

    def __init__(self, store: Store, threads: ThreadPoolExecutor) -> None:
        self._store, self._threads = store, threads

    def all(self, keys: Iterable[str], parse: Callable[[str, bytes], Result]) -> tuple[Result, ...]:
        def one(key: str) -> tuple[Result, ...]:
            try:
                with suppress(Corrupt):  # perhaps only this answer is damaged
                    return (parse(key, self._store.get(key)),)
                return (parse(key, self._store.get(key)),)
            except NotFound:
                return ()

        return tuple(result for found in self._threads.map(one, keys) for result in found)

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[tuple[Item, Result]]:
        listed = list(items)
        return list(zip(listed, self._threads.map(work, listed), strict=True))


def _is_key(key: str) -> bool:
    """Returns whether the key is valid: a forged notice may have any name."""
    with suppress(ValueError):
        return check_key(key) == key
    return False


def _keys(infos: Iterable[ObjectInfo], name: str) -> list[str]:
    """Returns the key of `name` in each experiment's folder."""
    return [info.key for info in infos if info.key.endswith("/" + name) and info.key.count("/") == 3]


def _open_tasks(objects: Iterable[ObjectInfo]) -> list[str]:
    units = [found for info in objects if (found := unit_key().fullmatch(info.key))]
    ended = {(m[1], m[2], found[1]) for m in units if (found := END.fullmatch(m[3]))}
    return [m[0] for m in units if (found := TASK.fullmatch(m[3])) and (m[1], m[2], found[1]) not in ended]


def _markers(objects: Iterable[ObjectInfo]) -> list[str]:
    return [info.key for info in objects if (m := unit_key().fullmatch(info.key)) and MARKER.fullmatch(m[3])]


def _by_unit(markers: Iterable[Marker]) -> dict[UnitRef, dict[str, Marker]]:
    found: dict[UnitRef, dict[str, Marker]] = {}
    for marker in markers:
        found.setdefault(marker.unit, {})[marker.name] = marker
    return found


def _why_corrupt(store: Store, unit: UnitRef, markers: Mapping[UnitRef, Mapping[str, Marker]]) -> str | None:
    marker = markers[unit].get(final_marker(unit.kind))
    if not stage_named(unit.kind).is_remade or marker is None:
        return None
    return "; ".join(verify(store, marker, deep=True)) or None


def _blob_differs(store: Store, key: str) -> bool:
    """Returns whether a blob does not hash to its name in two reads."""
    sha256 = key.removeprefix(store_keys.BLOBS)
    try:
        return all(sha256_of(store.get(key)) != sha256 for _ in range(READS))
    except NotFound:
        return False


def _experiment(key: str, data: bytes) -> FrozenExperiment:
    """Parses an experiment.

    Raises Corrupt also if one of its stages is not installed here, because its units are then unknown.
    """
    frozen = _parsed(FrozenExperiment, key, data)
    try:
        stages_of(frozen)
    except RegistryError as error:
        raise Corrupt(f"{key}: {error}. Nothing is swept until then") from error
    return frozen


def _marker(key: str, data: bytes) -> Marker:
    """Parses the marker of `key`.

    Raises Corrupt also for a marker of another unit, because the original content is then unknown.
    """
    found = unit_key().fullmatch(key)
    assert found is not None, f"{key} is not a key of a unit"
    unit = UnitRef(kind=found[1], digest=found[2])
    try:
        return parse_marker(unit, key, data)
    except Corrupt as error:
        raise Corrupt(f"{error}. {NOTHING_SWEPT}, or restore this file, or delete it if its result may go") from error


def _task(key: str, data: bytes) -> Task:
    try:
        task = parse_task(data)
    except ValidationError as error:
        raise _unreadable(key, "task", error) from error
    if task.key != key:
        raise Corrupt(f"{key} holds the task {task.key}: it was copied there. {NOTHING_SWEPT}")
    return task


def _parsed(model: type[Parsed], key: str, data: bytes) -> Parsed:
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise _unreadable(key, model.__name__, error) from error


def _unreadable(key: str, what: str, error: ValidationError) -> Corrupt:
    return Corrupt(f"{key} is not a {what} that this version can read. {NOTHING_SWEPT} ({error.error_count()} errors)")


def sweep(
    store: Store,
    plan: Sequence[Doomed],
    look_again: Callable[[], StoreListing],
    now_seconds: float,
    age_floor_seconds: float,
    proceed: Callable[[], None] = lambda: None,
) -> Swept:
    """Deletes planned objects that are still not needed. On StoreError, call `restore_parked` and list the store again.

    `proceed` is called before each deletion; it may raise an error to stop the sweep.
    """
    planned = {info.key: info for doomed in plan for info in doomed.objects}
    corrupt = {doomed.unit for doomed in plan if doomed.why == "corrupt result"}
    corrupt_blobs = {info.key for doomed in plan if doomed.why == "corrupt blob" for info in doomed.objects}

    def look_with(parked: Mapping[str, Parked]) -> tuple[set[str], set[str]]:
        """Returns the keys of the plan that may still be deleted, as if parked objects were in their places; and all
        existing keys.
        """
        seen = look_again()
        shown = _with_parked(seen, parked, corrupt, corrupt_blobs)
        going = (info for one in plan_sweep(shown, now_seconds, age_floor_seconds) for info in one.objects)
        unchanged = {info.key for info in going if info.key in planned and info.etag == planned[info.key].etag}
        return unchanged, {info.key for info in seen.objects}

    confirmed, _ = look_with({})
    parked: dict[str, Parked] = {}
    try:
        for info in (planned[key] for key in sorted(confirmed - corrupt_blobs)):
            proceed()
            _park(store, info, parked)
        unneeded, present = look_with(parked)
    except (StoreError, Corrupt, KeyboardInterrupt):
        with suppress(StoreError):  # otherwise the next sweep does it
            _restore(store, parked)
        raise
    anew = {key for key in parked if key in present}
    units = tuple(found[0] for key in anew if (found := UNIT_PREFIX.match(key)))
    going = {key for key in confirmed & unneeded if key not in anew and not key.startswith(units)}
    _restore(store, [key for key in parked if key not in going])
    for key in sorted(parked.keys() & going):
        proceed()
        store.delete(store_keys.parked_key(key))
    for key in sorted(going - parked.keys(), key=_order):
        proceed()
        store.delete(key)
    return Swept(len(going), sum(planned[key].size for key in going), len(planned.keys() - going))


@dataclass(frozen=True)
class Parked:
    """A marker or blob that was moved to parked/; `marker` is None for a blob."""

    info: ObjectInfo
    marker: Marker | None


def _park(store: Store, info: ObjectInfo, parked: dict[str, Parked]) -> None:
    """Deletes a marker or blob after copying it, and adds it to `parked` by its key."""
    found = unit_key().fullmatch(info.key)
    is_marker = found is not None and MARKER.fullmatch(found[3])
    if not is_marker and not info.key.startswith(store_keys.BLOBS):
        return
    try:
        data = store.get(info.key)
    except NotFound:
        return
    marker = _marker(info.key, data) if is_marker else None
    store.put(store_keys.parked_key(info.key), data)
    parked[info.key] = Parked(info, marker)
    store.delete(info.key)


def restore_parked(store: Store) -> int:
    """Restores the parked objects of a sweep that was killed or failed. Returns their number. Raises StoreError."""
    prefix = store_keys.parked_key("")
    return _restore(store, [info.key.removeprefix(prefix) for info in store.list(prefix)])


def _restore(store: Store, keys: Iterable[str]) -> int:
    """Restores parked objects. Returns the number of restored objects.

    If another attempt of a unit has committed since, markers of the unit stay parked, so that results are not mixed.
    """
    by_unit: defaultdict[str, list[str]] = defaultdict(list)
    for key in keys:
        found = UNIT_PREFIX.match(key)
        by_unit[found[0] if found else key].append(key)
    restored = 0
    for unit, together in by_unit.items():
        copies = {key: store.get(store_keys.parked_key(key)) for key in together}
        since = min(info.modified for key in together if (info := store.head(store_keys.parked_key(key))) is not None)
        if unit.endswith("/") and _committed_since(store, unit, copies, since):
            logger.warning("%s: another attempt committed while it was swept: its former markers stay away", unit)
        else:
            for key, data in copies.items():
                with suppress(AlreadyExists):
                    store.put_new(key, data)
            restored += len(copies)
        for key in together:
            store.delete(store_keys.parked_key(key))
    return restored


def _committed_since(store: Store, unit: str, copies: Mapping[str, bytes], since: float) -> bool:
    return any(
        info.modified > since and (info.key not in copies or store.get(info.key) != copies[info.key])
        for info in store.list(f"{unit}markers/")
    )


def _with_parked(
    snapshot: StoreListing,
    parked: Mapping[str, Parked],
    corrupt: Collection[UnitRef | None],
    corrupt_blobs: Collection[str],
) -> StoreListing:
    """Returns the listing as if parked objects were in their places.

    A marker that was committed again since stays as it is.
    """
    present = {info.key for info in snapshot.objects}
    markers = {unit: dict(found) for unit, found in snapshot.markers.items()}
    away = {key: one for key, one in parked.items() if key not in present}
    for one in away.values():
        if one.marker is not None:
            markers.setdefault(one.marker.unit, {})[one.marker.name] = one.marker
    return replace(
        snapshot,
        objects=(*snapshot.objects, *(one.info for one in away.values())),
        markers=markers,
        corrupt={unit: "found before" for unit in corrupt if unit is not None},
        corrupt_blobs=frozenset(corrupt_blobs),
    )


def _order(key: str) -> tuple[int, str]:
    """Orders files before tasks, and a task before its end, so that a half-deleted task never looks like a
    running one.
    """
    found = unit_key().fullmatch(key)
    if found is None or not found[3].startswith("tasks/"):
        return 0, key
    return (2 if END.fullmatch(found[3]) else 1), key
