"""Which units of the store are listed in a round, and which are taken as they were listed before.

`EveryRound` lists all but those that are done, as `potstill run` does. `ByNotice` lists a unit only where something
says that it may have changed, so that an experiment at which nothing happens costs no LIST.
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
"""A unit with an open attempt is listed again after so long, whatever the notices say."""
SETTLED_SECONDS = 300.0
"""The same of a unit without one. Both are longer where `ListBudget` has no more."""
JITTER = 0.2
OPEN_LISTS_PER_SECOND = 3.0
SETTLED_LISTS_PER_SECOND = 1.0
PROGRESS_SECONDS = 10.0
"""Progress of an attempt is read at most so often while its unit is not listed."""


class Listing(Protocol):
    def begin(self, jobs: Mapping[str, Job], always: Collection[UnitRef], /) -> None:
        """A round begins. `always`: units to which others may write without a Job or a notice."""
        ...

    def kept(self, unit: UnitRef, /) -> UnitView | None:
        """The unit as it was listed, None where it is to be listed now."""
        ...

    def before(self, unit: UnitRef, /) -> Notices:
        """To be called before the unit is listed, and handed to `keep`."""
        ...

    def keep(self, view: UnitView, notices: Notices, /) -> None: ...

    def forget(self, units: Iterable[UnitRef], /) -> None:
        """They are listed when they are next asked for."""
        ...

    def forget_all(self) -> None: ...

    def unlisted(self, units: Iterable[UnitRef], /) -> list[UnitRef]:
        """Those of the units that were not listed in this round."""
        ...

    def end(self, units: Collection[UnitRef], /) -> None:
        """The round saw these units, and no others."""
        ...

    def progress_due(self, view: UnitView, /) -> list[Attempt]:
        """Attempts of a kept unit whose progress is to be read. They count as read."""
        ...

    def update(self, view: UnitView, /) -> None:
        """A kept unit with newer progress."""
        ...


class EveryRound:
    """A unit that is done and has no open attempt is listed every `SETTLED_ROUNDS` rounds, any other in each."""

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
        """Nothing that is written to a done unit by its own experiment changes what is seen of it."""

    def forget_all(self) -> None:
        """As `forget`."""

    def unlisted(self, _units: Iterable[UnitRef], /) -> list[UnitRef]:
        return []

    def end(self, _units: Collection[UnitRef], /) -> None:
        """All stay."""

    def progress_due(self, _view: UnitView, /) -> list[Attempt]:
        return []

    def update(self, _view: UnitView, /) -> None:
        """It has none."""


class ListBudget:
    """How many LISTs of units that nothing says have changed a controller makes: so many a second, and no burst."""

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
    """`phases`: of the Jobs of its open attempts, by task key, when it was listed."""

    view: UnitView
    notices: Notices
    phases: Mapping[str, str | None]
    due: float
    progress_read: float


class ByNotice:
    """A unit is listed where a notice or a Job of it has changed, where this controller wrote to it, where an open
    attempt may have a program that writes no notices, and seldom otherwise.

    `polls`: the last round had a unit that is to be listed in each round.
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
        """Who commits, and then notifies, is seen by a LIST that is made after the notice was."""
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
        """The experiment is not looked at any more."""
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
        """Keeps the unit with newer progress; it counts as listed when it was."""
        self._kept[view.unit] = replace(self._kept[view.unit], view=view)

    def _is_polled(self, view: UnitView) -> bool:
        """Nothing will say when it changes, or what was read of it may be damaged."""
        if view.unreadable or (view.unit in self._always and not view.done):
            return True
        return any(not self._is_heard(attempt) for attempt in view.open_attempts)

    def _is_heard(self, attempt: Attempt) -> bool:
        """A notice or its Job will say when the attempt writes something."""
        jobs = [job for key, _, _ in self._runners(attempt) if (job := self._jobs.get(key)) is not None]
        if jobs and all(job.phase in {"pending", "ended"} for job in jobs):
            return True
        return any(self._board.has(unit, number) for _, unit, number in self._runners(attempt))

    def _is_working(self, attempt: Attempt) -> bool:
        """Its own program may write progress: a task that an engine took has none."""
        job = self._jobs.get(attempt.task.key)
        if job is None:
            return not isinstance(attempt.task, GenerateTask) or attempt.task.host is None
        return job.phase in {"running", "stopping"}

    def _phases(self, view: UnitView) -> dict[str, str | None]:
        keys = (key for attempt in view.open_attempts for key, _, _ in self._runners(attempt))
        return {key: job.phase if (job := self._jobs.get(key)) is not None else None for key in keys}

    def _runners(self, attempt: Attempt) -> Iterator[tuple[str, UnitRef, int]]:
        """(task key, unit, number) of the tasks whose program may do the attempt: its own or its group's, its engine's.

        That a group was given to an engine is known once its first task has been listed.
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
