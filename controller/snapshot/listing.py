"""Decides which units of the store are listed in a round, and for which the last listing is reused.

`EveryRound` lists all units but those that are done, as `potstill run` does. `ByNotice` lists a unit only after a sign
that it may have changed, so that an idle experiment needs no LIST.
"""

import random
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from controller.snapshot.notices import Follower, NoticeBoard, Notices
from controller.snapshot.types import Attempt, Job, UnitView
from workloads.api.tasks import GenerateTask, MemberPointer, Task
from workloads.api.units import UnitRef

SETTLED_ROUNDS = 30
OPEN_SECONDS = 300.0
"""A unit with an open attempt is listed again after this time, with or without a notice."""
SETTLED_SECONDS = 300.0
"""The same for a unit without an open attempt. Both times are longer if `ListBudget` is used up."""
JITTER = 0.2
OPEN_LISTS_PER_SECOND = 3.0
SETTLED_LISTS_PER_SECOND = 1.0
PROGRESS_SECONDS = 10.0
"""The interval at which progress of an attempt is read while its unit is not listed."""


class Listing(Protocol):
    def begin(self, jobs: Mapping[str, Job], always: Collection[UnitRef], /) -> None:
        """Begins a round. `always`: units to which others may write without a Job or a notice."""
        ...

    def kept(self, unit: UnitRef, /) -> UnitView | None:
        """Returns the last listing of the unit; None if it must be listed now."""
        ...

    def before(self, unit: UnitRef, /) -> Notices:
        """Call it before the unit is listed, and pass the result to `keep`."""
        ...

    def keep(self, view: UnitView, notices: Notices, /) -> None: ...

    def forget(self, units: Iterable[UnitRef], /) -> None:
        """Lists these units when they are next needed."""
        ...

    def forget_all(self) -> None: ...

    def unlisted(self, units: Iterable[UnitRef], /) -> list[UnitRef]:
        """Returns those of the units that were not listed in this round."""
        ...

    def end(self, units: Collection[UnitRef], /) -> None:
        """Ends a round, which saw exactly these units."""
        ...

    def progress_due(self, view: UnitView, /) -> list[Attempt]:
        """Returns attempts of an unlisted unit whose progress must be read. They count as read."""
        ...

    def update(self, view: UnitView, /) -> None:
        """Replaces an unlisted unit by one with newer progress."""
        ...


class EveryRound:
    """Lists a unit that is done and has no open attempt every `SETTLED_ROUNDS` rounds, and any other unit in each
    round.
    """

    def __init__(self) -> None:
        self._settled: dict[UnitRef, UnitView] = {}
        self._rounds = 0

    def begin(self, _jobs: Mapping[str, Job], _always: Collection[UnitRef], /) -> None:
        self._rounds += 1
        if self._rounds % SETTLED_ROUNDS == 0:
            self._settled.clear()

    def kept(self, unit: UnitRef, /) -> UnitView | None:
        return self._settled.get(unit)

    def before(self, _unit: UnitRef, /) -> Notices:
        return frozenset()

    def keep(self, view: UnitView, _notices: Notices, /) -> None:
        if view.done and not view.open_attempts and not view.unreadable:
            self._settled[view.unit] = view

    def forget(self, _units: Iterable[UnitRef], /) -> None:
        """Does nothing, because an experiment does not change its own done units."""

    def forget_all(self) -> None:
        """Does nothing, like `forget`."""

    def unlisted(self, _units: Iterable[UnitRef], /) -> list[UnitRef]:
        return []

    def end(self, _units: Collection[UnitRef], /) -> None:
        """Keeps all units."""

    def progress_due(self, _view: UnitView, /) -> list[Attempt]:
        return []

    def update(self, _view: UnitView, /) -> None:
        """Does nothing: no unit has newer progress."""


class ListBudget:
    """Limits the LISTs of units without a sign of change, per second for the whole controller, without bursts."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = {OPEN_LISTS_PER_SECOND: 0.0, SETTLED_LISTS_PER_SECOND: 0.0}

    def take(self, per_second: float) -> bool:
        with self._lock:
            now = self._clock()
            if self._free_at[per_second] > now:
                return False
            self._free_at[per_second] = now + 1.0 / per_second
            return True


@dataclass
class _Kept:
    """`phases`: the phases of the Jobs of its open attempts at the time of the listing, by task key."""

    view: UnitView
    notices: Notices
    phases: Mapping[str, str | None]
    due: float
    progress_read: float


class ByNotice:
    """Lists a unit if its notice or Job has changed, if this controller wrote to it, if an open attempt may have a
    program that writes no notices, and otherwise rarely.

    `polls`: whether the last round had a unit that must be listed in each round.
    """

    def __init__(
        self,
        board: NoticeBoard,
        budget: ListBudget,
        follower: Follower,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._board = board
        self._budget = budget
        self._follower = follower
        self._clock = clock
        self._chance = chance
        self._kept: dict[UnitRef, _Kept] = {}
        self._listed: set[UnitRef] = set()
        self._jobs: Mapping[str, Job] = {}
        self._always: Collection[UnitRef] = ()
        self.polls = False

    def begin(self, jobs: Mapping[str, Job], always: Collection[UnitRef], /) -> None:
        self._jobs, self._always = jobs, always
        self._listed = set()
        self.polls = False

    def kept(self, unit: UnitRef, /) -> UnitView | None:
        kept = self._kept.get(unit)
        if kept is None:
            return None
        if unit in self._listed:
            return kept.view
        if self._is_polled(kept.view):
            self.polls = True
            return None
        if self._board.of(unit) - kept.notices or self._phases(kept.view) != kept.phases:
            return None
        rate = OPEN_LISTS_PER_SECOND if kept.view.open_attempts else SETTLED_LISTS_PER_SECOND
        if self._clock() >= kept.due and self._budget.take(rate):
            return None
        return kept.view

    def before(self, unit: UnitRef, /) -> Notices:
        """Returns the notices before the LIST: a program commits first and then writes its notice, so the LIST contains
        the commit.
        """
        return self._board.of(unit)

    def keep(self, view: UnitView, notices: Notices, /) -> None:
        seconds = OPEN_SECONDS if view.open_attempts else SETTLED_SECONDS
        now = self._clock()
        due = now + seconds * (1.0 - JITTER + 2.0 * JITTER * self._chance())
        self._kept[view.unit] = _Kept(view, notices, self._phases(view), due, now)
        self._listed.add(view.unit)
        self.polls = self.polls or self._is_polled(view)

    def forget(self, units: Iterable[UnitRef], /) -> None:
        for unit in units:
            self._kept.pop(unit, None)
            self._listed.discard(unit)

    def forget_all(self) -> None:
        self._kept.clear()
        self._listed.clear()

    def unlisted(self, units: Iterable[UnitRef], /) -> list[UnitRef]:
        return [unit for unit in units if unit not in self._listed]

    def end(self, units: Collection[UnitRef], /) -> None:
        for unit in self._kept.keys() - set(units):
            del self._kept[unit]
        self._board.follow(self._follower, units)

    def close(self) -> None:
        """Call it when the experiment is not read any more."""
        self._board.unfollow(self._follower)

    def progress_due(self, view: UnitView, /) -> list[Attempt]:
        kept, now = self._kept.get(view.unit), self._clock()
        if kept is None or now - kept.progress_read < PROGRESS_SECONDS:
            return []
        kept.progress_read = now
        return [
            attempt
            for attempt in view.open_attempts
            if not isinstance(attempt.task, MemberPointer) and self._is_working(attempt)
        ]

    def update(self, view: UnitView, /) -> None:
        """Keeps the unit with newer progress; the time of its listing stays the same."""
        self._kept[view.unit] = replace(self._kept[view.unit], view=view)

    def _is_polled(self, view: UnitView) -> bool:
        """Returns whether no notice will come for a change of the unit, or its records may be damaged."""
        if view.unreadable or (view.unit in self._always and not view.done):
            return True
        return any(not self._is_heard(attempt) for attempt in view.open_attempts)

    def _is_heard(self, attempt: Attempt) -> bool:
        """Returns whether a notice or its Job will show when the attempt writes something."""
        jobs = [job for key, _, _ in self._runners(attempt) if (job := self._jobs.get(key)) is not None]
        if jobs and all(job.phase in {"pending", "ended"} for job in jobs):
            return True
        return any(self._board.has(unit, number) for _, unit, number in self._runners(attempt))

    def _is_working(self, attempt: Attempt) -> bool:
        """Returns whether the attempt's own program may write progress.

        A task that another engine took has no program.
        """
        job = self._jobs.get(attempt.task.key)
        if job is None:
            return not isinstance(attempt.task, GenerateTask) or attempt.task.host is None
        return job.phase in {"running", "stopping"}

    def _phases(self, view: UnitView) -> dict[str, str | None]:
        keys = (key for attempt in view.open_attempts for key, _, _ in self._runners(attempt))
        return {key: job.phase if (job := self._jobs.get(key)) is not None else None for key in keys}

    def _runners(self, attempt: Attempt) -> Iterator[tuple[str, UnitRef, int]]:
        """Yields (task key, unit, number) of the tasks whose program may run the attempt: its own, its group's, or its
        engine's.

        The engine of a group is known once the leader's unit has been listed.
        """
        task: Task | None = attempt.task
        if isinstance(task, MemberPointer):
            yield attempt.lead_key, task.lead, task.lead_number
            lead, number = self._kept.get(task.lead), task.lead_number
            task = next((a.task for a in lead.view.attempts if a.number == number), None) if lead else None
        else:
            yield attempt.task.key, attempt.task.unit, attempt.number
        if isinstance(task, GenerateTask) and task.host is not None:
            yield task.host.key, task.host.unit, task.host.number
