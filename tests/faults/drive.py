"""Makes the faults of a schedule while an experiment runs, wherever it runs, and measures how soon work went on."""

import json
import random
import time
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Protocol

from tests.faults.schedules import Fault, Schedule

DEADLINE_SECONDS = 240.0
POLL_SECONDS = 0.05


class Run(Protocol):
    """One run of the experiment under faults."""

    def begin(self) -> None: ...

    def is_over(self) -> bool:
        """Returns whether the experiment has succeeded, and restarts processes that a fault has ended.

        Raises AssertionError if it failed.
        """
        ...

    def has_target(self, kind: str) -> bool:
        """Returns whether a target of this kind of fault exists."""
        ...

    def fault(self, fault: Fault, chance: random.Random) -> AbstractContextManager[None]:
        """Makes the fault; ends it with the block."""
        ...

    def work(self) -> int:
        """Programs started and markers committed."""
        ...

    def markers(self) -> int: ...

    def settle(self) -> None:
        """Waits for the end of what faults have started beside the run."""
        ...

    def last_words(self) -> str:
        """The end of a log, for the message of a failure."""
        ...


@dataclass(frozen=True)
class Recovery:
    """`seconds` from the fault's end to the next committed marker, or to the end of the experiment. None: the fault was
    not made, because the experiment ended before it was due, or before its target was there again."""

    fault: str
    seconds: float | None


@dataclass
class Played:
    schedule: Schedule
    seconds: float = 0.0
    runs: int = 0
    recoveries: list[Recovery] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """What was not kept, a sentence each."""
    notes: list[str] = field(default_factory=list)


@dataclass
class Due:
    """A fault that is not made yet. Its delay counts from `since`: when enough work was done and its target was there."""

    fault: Fault
    since: float | None = None

    def is_ripe(self, run: Run, now: float) -> bool:
        if run.work() < self.fault.after or not run.has_target(self.fault.kind):
            self.since = None
            return False
        self.since = self.since if self.since is not None else now
        return now - self.since >= self.fault.delay_seconds


@dataclass
class Beginning:
    """A fault that has begun: when it ends, and when a marker was committed after that."""

    fault: Fault
    ends: float
    undo: ExitStack
    ended: float | None = None
    markers: int = 0
    recovered: float | None = None


def drive(run: Run, schedule: Schedule, played: Played, deadline_seconds: float = DEADLINE_SECONDS) -> None:
    """Raises AssertionError when the experiment has not succeeded by the deadline, or has failed."""
    chance = random.Random(schedule.seed)
    due = [Due(fault) for fault in schedule.faults]
    begun: list[Beginning] = []
    deadline = time.monotonic() + deadline_seconds
    run.begin()
    try:
        while True:
            now = time.monotonic()
            assert now < deadline, f"stuck: not finished after {deadline_seconds:.0f} s: {run.last_words()}"
            end_those_over(begun, run, now)
            for waiting in list(due):
                if waiting.is_ripe(run, now):  # asked after the fault before has begun, which may have taken its target
                    due.remove(waiting)
                    begun.append(begin(run, waiting.fault, chance))
            if run.is_over():
                break
            time.sleep(POLL_SECONDS)
            note_recovered(begun, run)
    finally:
        for one in begun:
            one.undo.close()
    end = time.monotonic()
    for one in begun:
        since = one.ended if one.ended is not None else end
        played.recoveries.append(Recovery(one.fault.kind, (one.recovered or end) - since))
    played.recoveries += [Recovery(waiting.fault.kind, None) for waiting in due]
    run.settle()


def begin(run: Run, due: Fault, chance: random.Random) -> Beginning:
    undo = ExitStack()
    undo.enter_context(run.fault(due, chance))
    return Beginning(due, time.monotonic() + due.lasts_seconds, undo)


def end_those_over(begun: list[Beginning], run: Run, now: float) -> None:
    for one in begun:
        if one.ended is None and now >= one.ends:
            one.undo.close()
            one.ended, one.markers = time.monotonic(), run.markers()


def note_recovered(begun: list[Beginning], run: Run) -> None:
    open_ones = [one for one in begun if one.ended is not None and one.recovered is None]
    if open_ones:
        markers = run.markers()
        for one in open_ones:
            if markers > one.markers:
                one.recovered = time.monotonic()


def as_line(played: Played) -> str:
    """Returns the play as one line of JSON, for the table and for a later run that continues."""
    return json.dumps(
        {
            "seed": played.schedule.seed,
            "store": played.schedule.store,
            "seconds": round(played.seconds, 1),
            "runs": played.runs,
            "recoveries": [
                [one.fault, None if one.seconds is None else round(one.seconds, 2)] for one in played.recoveries
            ],
            "broken": played.broken,
            "notes": played.notes,
        }
    )
