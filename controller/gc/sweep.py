"""Plans a sweep: finds objects of a store that no existing experiment and no running task needs. Pure.

Kept at any age:
- every experiment's folder;
- every unit that an existing experiment (one with an experiment.json) or a current manifest names, with all files that
  its markers name, and with logs, progress and failures of its attempts;
- every unit that a running task writes or reads. A task runs until its end is written, or until its experiment is
  deleted and nothing has been written in its unit for the age floor, a day at least;
- every blob that named outputs name, and all blobs while a task generates outputs or reads some.

Everything else is deleted when it is older than the age floor: units that no experiment names (by their youngest
object); in kept units the files of attempts that no marker names, and the resume states of finished trainings; blobs;
notices.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

from controller.planner.added_stages import all_units
from controller.planner.evaluations import resolve_evaluations
from controller.snapshot.types import StoreSnapshot, UnitView, members_of
from workloads.api import store_keys
from workloads.api.experiment import FrozenExperiment
from workloads.api.manifest import Manifest
from workloads.api.records import Marker, OutputsRecord, StateRecord
from workloads.api.tasks import GenerateTask, GradeTask, MemberPointer, Owner, StageTask, Task
from workloads.api.units import ReportInputs, UnitRef, unit_of
from workloads.stages.generate import GENERATE
from workloads.stages.grade import GRADE
from workloads.stages.registry import STAGES, final_marker
from workloads.stages.report import REPORT
from workloads.stages.train import TRAIN
from workloads.storage.base import ObjectInfo

Why = Literal[
    "unnamed unit",
    "unnamed file",
    "finished training's state",
    "corrupt result",
    "unnamed blob",
    "corrupt blob",
    "old notice",
]
DEAD_SECONDS = 86_400.0


@cache
def unit_key() -> re.Pattern[str]:
    """Matches the keys of units of installed stages, (kind, digest, name). Other keys are never swept.

    Raises RegistryError for an added stage that cannot be used.
    """
    kinds = sorted({stage.unit_kind for stage in STAGES.values()})
    return re.compile(rf"units/({'|'.join(kinds)})/([0-9a-f]{{64}})/(.+)")


ATTEMPT_FILE = re.compile(r"attempts/\d+/(.+)")
TOLD = frozenset({"log.txt", "progress.json", "failure.json"})
"""Files that an attempt writes about itself. No marker names them, and they are kept."""


@dataclass(frozen=True)
class StoreListing:
    """The listing of a store.

    `manifests` by the SHA-256 of their bytes; `open_tasks` are those without an end; `corrupt`: the reason, by unit,
    for results that do not match their marker; `corrupt_blobs` are keys of blobs that do not hash to their names.
    """

    objects: tuple[ObjectInfo, ...]
    experiments: tuple[FrozenExperiment, ...]
    manifests: Mapping[str, Manifest]
    open_tasks: tuple[Task, ...]
    markers: Mapping[UnitRef, Mapping[str, Marker]]
    corrupt: Mapping[UnitRef, str] = field(default_factory=dict)
    corrupt_blobs: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Doomed:
    """Objects that are deleted together, and the reason. `modified`: the youngest object's time, seconds since 1970."""

    why: Why
    unit: UnitRef | None
    objects: tuple[ObjectInfo, ...]

    @property
    def bytes(self) -> int:
        return sum(info.size for info in self.objects)

    @property
    def modified(self) -> float:
        return max(info.modified for info in self.objects)


def plan_sweep(snapshot: StoreListing, now_seconds: float, age_floor_seconds: float) -> tuple[Doomed, ...]:
    """Returns the objects that may be deleted, in no particular order. Times are seconds since 1970."""
    by_unit: dict[UnitRef, dict[str, ObjectInfo]] = defaultdict(dict)
    for info in snapshot.objects:
        if parts := unit_key().fullmatch(info.key):
            by_unit[UnitRef(kind=parts[1], digest=parts[2])][parts[3]] = info
    named = _named(snapshot)
    busy = _busy(snapshot, by_unit, named, now_seconds, age_floor_seconds)

    def old(info: ObjectInfo) -> bool:
        return now_seconds - info.modified >= age_floor_seconds

    doomed: list[Doomed] = []
    for unit, objects in by_unit.items():
        if unit in busy:
            continue
        if unit not in named:
            if all(map(old, objects.values())):
                doomed.append(Doomed("unnamed unit", unit, tuple(objects.values())))
            continue
        for why, going in _within(unit, objects, snapshot, old):
            if going:
                doomed.append(Doomed(why, unit, tuple(going)))
    corrupt = tuple(info for info in snapshot.objects if info.key in snapshot.corrupt_blobs)
    blobs = tuple(
        info for info in _unnamed_blobs(snapshot, named, busy) if old(info) and info.key not in snapshot.corrupt_blobs
    )
    doomed += [Doomed("corrupt blob", None, corrupt)] if corrupt else []
    doomed += [Doomed("unnamed blob", None, blobs)] if blobs else []
    notices = tuple(info for info in snapshot.objects if info.key.startswith(store_keys.NOTICES) and old(info))
    doomed += [Doomed("old notice", None, notices)] if notices else []
    return tuple(doomed)


def _named(snapshot: StoreListing) -> set[UnitRef]:
    """Returns the units that existing experiments name, and those that manifests name, which may come from an older
    grader.
    """
    view = StoreSnapshot({unit: UnitView(unit, markers=markers) for unit, markers in snapshot.markers.items()})
    named: set[UnitRef] = set()
    for frozen in snapshot.experiments:
        named.update(all_units(frozen, resolve_evaluations(frozen, view), view))
    for sha256, manifest in snapshot.manifests.items():
        named.add(unit_of(ReportInputs(manifest_content=sha256)))
        named.update(TRAIN.unit(run.digest) for run in manifest.runs)
        for evaluation in manifest.evaluations:
            if evaluation.generate is not None:
                named.add(GENERATE.unit(evaluation.generate))
            if evaluation.grade is not None:
                named.add(GRADE.unit(evaluation.grade))
    return named


def _busy(
    snapshot: StoreListing,
    by_unit: Mapping[UnitRef, Mapping[str, ObjectInfo]],
    named: Collection[UnitRef],
    now_seconds: float,
    age_floor_seconds: float,
) -> set[UnitRef]:
    """Returns the units that a running task writes or reads.

    The task of a replaced manifest's report is never closed. It counts as running until it has been silent for some
    time.
    """
    living = {Owner(experiment=frozen.name, uid8=frozen.uid8) for frozen in snapshot.experiments}
    silence_seconds = max(age_floor_seconds, DEAD_SECONDS)
    busy: set[UnitRef] = set()
    for task in snapshot.open_tasks:
        is_report = task.unit.kind == REPORT.unit_kind
        if is_report and REPORT.final_marker in snapshot.markers.get(task.unit, {}):
            continue  # earlier versions never closed it
        written = max((info.modified for info in by_unit.get(task.unit, {}).values()), default=now_seconds)
        has_owner = task.owner in living and (task.unit in named or not is_report)
        if has_owner or now_seconds - written < silence_seconds:
            busy.update(_units_of_task(task))
    return busy


def _units_of_task(task: Task) -> Iterator[UnitRef]:
    yield task.unit
    if isinstance(task, MemberPointer):
        yield task.lead
        return
    yield from (unit for unit, _ in members_of(task))
    if isinstance(task, GradeTask):
        yield from (member.outputs for member in task.members)
    if isinstance(task, GenerateTask):
        yield from (member.adapter.unit for member in task.members if member.adapter is not None)
        if task.host is not None:
            yield task.host.unit
    if isinstance(task, StageTask):
        yield task.inputs.source


def _within(
    unit: UnitRef, objects: Mapping[str, ObjectInfo], snapshot: StoreListing, old: Callable[[ObjectInfo], bool]
) -> Iterator[tuple[Why, list[ObjectInfo]]]:
    """Yields the objects of a kept unit that may be deleted."""
    markers = snapshot.markers.get(unit, {})
    done = final_marker(unit.kind) in markers
    named_keys: set[str] = set()
    for name, marker in markers.items():
        keys = {file.key for file in marker.files} | {store_keys.marker_key(unit, name)}
        standing = [info for info in objects.values() if info.key in keys]
        if isinstance(marker.record, StateRecord) and done and all(map(old, standing)):
            yield "finished training's state", standing
        elif unit in snapshot.corrupt and name == final_marker(unit.kind):
            yield "corrupt result", standing
        named_keys |= keys
    loose = (
        info
        for name, info in objects.items()
        if (parts := ATTEMPT_FILE.fullmatch(name)) and parts[1] not in TOLD and info.key not in named_keys and old(info)
    )
    yield "unnamed file", list(loose)


def _unnamed_blobs(snapshot: StoreListing, named: set[UnitRef], busy: set[UnitRef]) -> Iterable[ObjectInfo]:
    if any(unit.kind == GENERATE.unit_kind for unit in busy):
        return ()
    outputs = (markers.get(GENERATE.final_marker) for unit, markers in snapshot.markers.items() if unit in named)
    known = {
        store_keys.blob_key(marker.record.tokenizer_sha256)
        for marker in outputs
        if marker is not None and isinstance(marker.record, OutputsRecord)
    }
    return (info for info in snapshot.objects if info.key.startswith(store_keys.BLOBS) and info.key not in known)
