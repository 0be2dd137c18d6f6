"""Reads an experiment's part of the store into a StoreView. Any doubt about the store is Unknown, never 'absent'.

One LIST per unit tells what is there. Tasks, ends and markers never change and are read once; progress and failures are
read again when their etag changes. A unit that is done and has no open task is not looked at again for a while.
"""

import re
from collections.abc import Iterable
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from controller.decide.pieces import resolve_pieces, units_of
from controller.view import Attempt, Folded, StoreView, UnitView, Unknown
from workloads.contract import layout
from workloads.contract.experiment import FrozenExperiment
from workloads.contract.records import Failure, Marker, Progress, TaskEnd
from workloads.contract.tasks import GenerateTask, MemberPointer, Offer, Task, parse_task
from workloads.contract.units import ReportInputs, UnitRef, unit_of
from workloads.contract.wanted import train_unit
from workloads.store import NotFound, ObjectInfo, Store, StoreError

SETTLED_ROUNDS = 30
TASK = re.compile(r"tasks/(\d+)\.json")
END = re.compile(r"tasks/(\d+)\.end\.json")
RETRY = re.compile(r"tasks/(\d+)\.retry\.json")
OFFER = re.compile(r"tasks/(\d+)\.offers/(\d+)\.json")
MARKER = re.compile(r"markers/([^/]+)\.json")
PROGRESS = re.compile(r"attempts/(\d+)/progress\.json")
FAILURE = re.compile(r"attempts/(\d+)/failure\.json")

Record = TypeVar("Record", bound=BaseModel)


class Unreadable(Exception):
    """An object is there but this version cannot read it."""


class Observer:
    """Keeps what was read, so that a round costs LISTs and little else. A new one sees the same, only slower."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read: dict[str, tuple[str, object]] = {}
        self._settled: dict[UnitRef, UnitView] = {}
        self._tasks: dict[str, Task] = {}
        self._rounds = 0

    def observe(self, frozen: FrozenExperiment, folded: Folded | None) -> StoreView | Unknown:
        """`folded`: the manifest as this process last wrote it, if it did."""
        self._rounds += 1
        if self._rounds % SETTLED_ROUNDS == 0:
            self._settled.clear()
        try:
            return StoreView(self._units(frozen, folded), folded)
        except Unreadable as error:
            return Unknown("UnreadableRecord", str(error))
        except StoreError as error:
            return Unknown("StoreUnavailable", str(error))

    def _units(self, frozen: FrozenExperiment, folded: Folded | None) -> dict[UnitRef, UnitView]:
        """Stage by stage: a checkpoint's marker names the generate units, the outputs' marker the grade units."""
        views: dict[UnitRef, UnitView] = {}
        self._look(views, (train_unit(run) for run in frozen.runs))
        for _ in ("generate", "grade"):
            self._look(views, units_of(frozen, resolve_pieces(frozen, StoreView(views))))
        if folded is not None:
            self._look(views, [unit_of(ReportInputs(manifest_content=folded.sha256))])
        for _ in ("leads of groups", "their engines"):
            self._look(views, list(_leads(views.values())))
        return views

    def _look(self, views: dict[UnitRef, UnitView], units: Iterable[UnitRef]) -> None:
        for unit in units:
            if unit not in views:
                views[unit] = self._settled.get(unit) or self.unit(unit)
                if views[unit].done and not views[unit].open_attempts:
                    self._settled[unit] = views[unit]

    def unit(self, unit: UnitRef) -> UnitView:
        """One unit as it stands now. Raises StoreError, Unreadable."""
        prefix = layout.unit_prefix(unit)
        listed = {info.key.removeprefix(prefix): info for info in self._store.list(prefix)}
        attempts = []
        for name, info in listed.items():
            if found := TASK.fullmatch(name):
                attempts.append(self._attempt(int(found[1]), info, listed))
        markers = {}
        for name, info in listed.items():
            if (found := MARKER.fullmatch(name)) and (marker := self._get(info, Marker)) is not None:
                markers[found[1]] = marker
        retries = [int(found[1]) for name in listed if (found := RETRY.fullmatch(name))]
        ordered = tuple(sorted((a for a in attempts if a is not None), key=lambda attempt: attempt.number))
        return UnitView(unit, ordered, markers, max(retries, default=0))

    def _attempt(self, number: int, info: ObjectInfo, listed: dict[str, ObjectInfo]) -> Attempt | None:
        task = self._task(info)
        if task is None:
            return None
        log = sorted((int(m[2]), name) for name in listed if (m := OFFER.fullmatch(name)) and int(m[1]) == number)
        offers = [self._get(listed[name], Offer) for _, name in log]
        end = self._get(listed.get(f"tasks/{number}.end.json"), TaskEnd)
        failure = None if end is not None else listed.get(f"attempts/{number}/failure.json")
        return Attempt(
            task,
            end,
            self._get(listed.get(f"attempts/{number}/progress.json"), Progress),
            self._get(failure, Failure),
            tuple(offer.task_key for offer in offers if offer is not None),
        )

    def _task(self, info: ObjectInfo) -> Task | None:
        if info.key not in self._tasks:
            data = self._bytes(info)
            if data is None:
                return None
            try:
                self._tasks[info.key] = parse_task(data)
            except ValidationError as error:
                raise Unreadable(f"{info.key} is no task that this version can read: {error}") from error
        return self._tasks[info.key]

    def _get(self, info: ObjectInfo | None, model: type[Record]) -> Record | None:
        """None when it is not there, also when it went between the LIST and the GET (pruned states do)."""
        if info is None:
            return None
        kept = self._read.get(info.key)
        if kept is not None and kept[0] == info.etag and isinstance(kept[1], model):
            return kept[1]
        data = self._bytes(info)
        if data is None:
            return None
        try:
            record = model.model_validate_json(data)
        except ValidationError as error:
            raise Unreadable(f"{info.key} is no {model.__name__} that this version can read: {error}") from error
        self._read[info.key] = (info.etag, record)
        return record

    def _bytes(self, info: ObjectInfo) -> bytes | None:
        try:
            return self._store.get(info.key)
        except NotFound:
            return None


def _leads(views: Iterable[UnitView]) -> Iterable[UnitRef]:
    """Leads of open groups that our units are members of, and of engines that took them: some are no units of ours."""
    for view in views:
        for attempt in view.open_attempts:
            if isinstance(attempt.task, MemberPointer):
                yield attempt.task.lead
            elif isinstance(attempt.task, GenerateTask) and attempt.task.host is not None:
                yield attempt.task.host.unit
