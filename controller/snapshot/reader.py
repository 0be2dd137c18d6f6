"""Reads an experiment's part of the store into a StoreSnapshot.

If the store does not answer, or a stage is not installed, the result is Unknown: no object is taken to be absent.

One LIST per unit shows its objects. Tasks, ends and markers never change and are read once; progress and failures are
read again when their etag changes. `listing` decides which units are listed in a round.

A record that cannot be read is read again at once. If the second read fails too, the error is in
`UnitView.unreadable`, and only that unit fails. Unreadable progress, failures and resume states are ignored, with a
warning.
"""

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from controller.planner.added_stages import all_units
from controller.planner.evaluations import resolve_evaluations, units_of
from controller.snapshot.listing import EveryRound, Listing
from controller.snapshot.types import Attempt, Folded, Job, StoreSnapshot, UnitView, Unknown
from workloads.api import store_keys
from workloads.api.evaluation_matrix import train_unit
from workloads.api.experiment import FrozenExperiment
from workloads.api.records import Failure, Marker, Progress, TaskEnd
from workloads.api.tasks import GenerateTask, MemberPointer, Offer, Task, parse_task
from workloads.api.units import ReportInputs, UnitRef, unit_of
from workloads.registry import RegistryError
from workloads.stages.generate import GENERATE
from workloads.stages.grade import GRADE
from workloads.storage.base import NotFound, ObjectInfo, Store, StoreError
from workloads.storage.markers import READS, Corrupt, first_problem, parse_marker

STATE = f"markers/{store_keys.STATE}"
NEWER = "Use the newest potstill that writes to this store, or restore this file"
"""What to do with a record that cannot be read."""
DELETABLE = "Restore this file, or delete it to have its result computed again"
"""What to do with a marker that cannot be read."""
TASK = re.compile(r"tasks/(\d+)\.json")
END = re.compile(r"tasks/(\d+)\.end\.json")
RETRY = re.compile(r"tasks/(\d+)\.retry\.json")
OFFER = re.compile(r"tasks/(\d+)\.offers/(\d+)\.json")
MARKER = re.compile(r"markers/([^/]+)\.json")
PROGRESS = re.compile(r"attempts/(\d+)/progress\.json")
FAILURE = re.compile(r"attempts/(\d+)/failure\.json")

Record = TypeVar("Record", bound=BaseModel)
Parsed = TypeVar("Parsed")

logger = logging.getLogger("potstill")


class UnreadableRecord(Exception):
    """An object exists but this version cannot read it. The message states the object, the cause and the remedy."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


class SnapshotReader:
    """Caches records, so that later rounds need LISTs and few GETs.

    A new reader returns the same result, more slowly.
    """

    def __init__(self, store: Store, listing: Listing | None = None) -> None:
        self._store = store
        self._listing = listing or EveryRound()
        self._read: dict[str, tuple[str, object]] = {}
        self._tasks: dict[str, Task] = {}
        self._told: set[str] = set()

    def read(
        self, frozen: FrozenExperiment, folded: Folded | None, jobs: Mapping[str, Job] | None = None
    ) -> StoreSnapshot | Unknown:
        """Reads the store at the beginning of a round.

        `folded`: the manifest that this process wrote last, None if it wrote none. `jobs`: the executor's Jobs, which
        must be read before the store: then the markers of a Job that has ended are in the store already.
        """
        published = [train_unit(run) for run in frozen.runs if run.published]
        self._listing.begin(jobs or {}, published)
        return self._snapshot(frozen, folded)

    def confirm(
        self, frozen: FrozenExperiment, folded: Folded | None, units: Iterable[UnitRef]
    ) -> StoreSnapshot | Unknown:
        """Returns a second snapshot in the same round, after listing these units again."""
        self._listing.forget(units)
        return self._snapshot(frozen, folded)

    def unconfirmed(self, units: Iterable[UnitRef]) -> list[UnitRef]:
        """Returns the units that were not listed in this round. An action on them needs `confirm` first."""
        return self._listing.unlisted(units)

    def forget(self, units: Iterable[UnitRef]) -> None:
        """Call it for units that were written to: they are listed again in the next round."""
        self._listing.forget(units)

    def _snapshot(self, frozen: FrozenExperiment, folded: Folded | None) -> StoreSnapshot | Unknown:
        try:
            views = self._units(frozen, folded)
        except StoreError as error:
            return Unknown("StoreUnavailable", str(error))
        except RegistryError as error:
            return Unknown("StageMissing", str(error))
        self._listing.end(views.keys())
        return StoreSnapshot(views, folded)

    def _units(self, frozen: FrozenExperiment, folded: Folded | None) -> dict[UnitRef, UnitView]:
        """Reads stage by stage: checkpoints' markers determine the generate units, outputs' markers the grade units."""
        views: dict[UnitRef, UnitView] = {}
        self._look(views, (train_unit(run) for run in frozen.runs))
        for _ in (GENERATE, GRADE):
            self._look(views, units_of(frozen, resolve_evaluations(frozen, StoreSnapshot(views))))
        if frozen.stages:
            seen = StoreSnapshot(views)
            self._look(views, all_units(frozen, resolve_evaluations(frozen, seen), seen))
        if folded is not None:
            self._look(views, [unit_of(ReportInputs(manifest_content=folded.sha256))])
        for _ in range(2):  # first the leaders of groups, then the hosts of these leaders
            self._look(views, list(_leads(views.values())))
        return views

    def _look(self, views: dict[UnitRef, UnitView], units: Iterable[UnitRef]) -> None:
        for unit in units:
            if unit in views:
                continue
            kept = self._listing.kept(unit)
            if kept is not None:
                views[unit] = self._with_progress(kept)
                continue
            notices = self._listing.before(unit)
            views[unit] = self.unit(unit)
            self._listing.keep(views[unit], notices)

    def _with_progress(self, view: UnitView) -> UnitView:
        """Returns the last listing of the unit, with newer progress if its programs have written some."""
        due = self._listing.progress_due(view)
        if not due:
            return view
        newer = {attempt.number: self._newer_progress(view.unit, attempt) for attempt in due}
        attempts = tuple(replace(a, progress=newer.get(a.number, a.progress)) for a in view.attempts)
        view = replace(view, attempts=attempts)
        self._listing.update(view)
        return view

    def _newer_progress(self, unit: UnitRef, attempt: Attempt) -> Progress | None:
        """Returns the earlier progress if the newer one is missing or cannot be read. Raises StoreError."""
        try:
            data = self._store.get(store_keys.progress_key(unit, attempt.number))
            return Progress.model_validate_json(data)
        except (NotFound, ValidationError):
            return attempt.progress

    def unit(self, unit: UnitRef) -> UnitView:
        """Lists one unit and reads its records. Raises StoreError."""
        prefix = store_keys.unit_prefix(unit)
        listed = {info.key.removeprefix(prefix): info for info in self._store.list(prefix)}
        attempts: list[Attempt] = []
        markers: dict[str, Marker] = {}
        unreadable: dict[str, str] = {}
        for name, info in listed.items():
            try:
                if found := TASK.fullmatch(name):
                    attempt = self._attempt(int(found[1]), info, listed)
                    attempts += [attempt] if attempt is not None else []
                elif found := MARKER.fullmatch(name):
                    marker = self._marker(unit, info)
                    markers |= {found[1]: marker} if marker is not None else {}
            except UnreadableRecord as error:
                if name.startswith(STATE):
                    self._warn(error)  # training resumes from another state, and replaces this one
                else:
                    unreadable[error.key] = str(error)
        retries = [int(found[1]) for name in listed if (found := RETRY.fullmatch(name))]
        ordered = tuple(sorted(attempts, key=lambda attempt: attempt.number))
        return UnitView(unit, ordered, markers, max(retries, default=0), unreadable)

    def _attempt(self, number: int, info: ObjectInfo, listed: dict[str, ObjectInfo]) -> Attempt | None:
        task = self._task(info)
        if task is None:
            return None
        offer_names = sorted(
            (int(m[2]), name) for name in listed if (m := OFFER.fullmatch(name)) and int(m[1]) == number
        )
        offers = [self._get(listed[name], Offer) for _, name in offer_names]
        end = self._get(listed.get(f"tasks/{number}.end.json"), TaskEnd)
        if end is not None and end.number != number:
            key = store_keys.end_key(task.unit, number)
            raise UnreadableRecord(key, f"{key} holds the end of attempt {end.number}: it was copied there. {NEWER}")
        failure = None if end is not None else listed.get(f"attempts/{number}/failure.json")
        return Attempt(
            task,
            end,
            self._get_if_readable(listed.get(f"attempts/{number}/progress.json"), Progress),
            self._get_if_readable(failure, Failure),
            tuple(offer.task_key for offer in offers if offer is not None),
        )

    def _task(self, info: ObjectInfo) -> Task | None:
        if info.key not in self._tasks:
            task = self._parsed(info, parse_task, "task", NEWER)
            if task is None:
                return None
            if task.key != info.key:
                raise UnreadableRecord(info.key, f"{info.key} holds the task {task.key}: it was copied there. {NEWER}")
            self._tasks[info.key] = task
        return self._tasks[info.key]

    def _marker(self, unit: UnitRef, info: ObjectInfo) -> Marker | None:
        kept = self._read.get(info.key)
        if kept is not None and kept[0] == info.etag and isinstance(kept[1], Marker):
            return kept[1]
        marker = self._parsed(info, lambda data: parse_marker(unit, info.key, data), "marker", DELETABLE)
        if marker is not None:
            self._read[info.key] = (info.etag, marker)
        return marker

    def _get_if_readable(self, info: ObjectInfo | None, model: type[Record]) -> Record | None:
        try:
            return self._get(info, model)
        except UnreadableRecord as error:
            self._warn(error)
            return None

    def _warn(self, error: UnreadableRecord) -> None:
        """Logs one warning for each record."""
        if error.key not in self._told:
            self._told.add(error.key)
            logger.warning("%sThis file is ignored", str(error).removesuffix(NEWER).removesuffix(DELETABLE))

    def _get(self, info: ObjectInfo | None, model: type[Record]) -> Record | None:
        """Returns None if the record is absent, or was deleted between the LIST and the GET."""
        if info is None:
            return None
        kept = self._read.get(info.key)
        if kept is not None and kept[0] == info.etag and isinstance(kept[1], model):
            return kept[1]
        record = self._parsed(info, model.model_validate_json, model.__name__, NEWER)
        if record is not None:
            self._read[info.key] = (info.etag, record)
        return record

    def _parsed(self, info: ObjectInfo, parse: Callable[[bytes], Parsed], what: str, remedy: str) -> Parsed | None:
        """Returns None for an object that is absent. Raises UnreadableRecord if two reads in a row cannot be parsed."""
        problem = ""
        for _ in range(READS):
            data = self._bytes(info)
            if data is None:
                return None
            try:
                return parse(data)
            except ValidationError as error:
                problem = f"{info.key} is not a {what} that this version can read: {first_problem(error)}"
            except Corrupt as error:
                problem = str(error)
        raise UnreadableRecord(info.key, f"{problem}. {remedy}")

    def _bytes(self, info: ObjectInfo) -> bytes | None:
        """Returns None for an object that was deleted after the LIST, as old resume states are."""
        try:
            return self._store.get(info.key)
        except NotFound:
            return None


def _leads(views: Iterable[UnitView]) -> Iterable[UnitRef]:
    """Yields the leaders of the open groups of these units, and the hosts: units whose engine was to take a task.

    Some of them belong to other experiments.
    """
    for view in views:
        for attempt in view.open_attempts:
            if isinstance(attempt.task, MemberPointer):
                yield attempt.task.lead
            elif isinstance(attempt.task, GenerateTask) and attempt.task.host is not None:
                yield attempt.task.host.unit
