"""Plays a schedule: runs the experiment, makes the faults, goes on until it has succeeded, and says what was not kept."""

import json
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.faults import fault, has_target
from tests.faults.lab import Lab, compared
from tests.faults.schedules import Fault, Schedule
from tests.faults.stack import Stack, stack
from workloads.api.records import Marker
from workloads.storage.markers import verify

DEADLINE_SECONDS = 240.0
POLL_SECONDS = 0.05
OLD_SECONDS = 7200.0
ORPHAN = f"units/generate/{'0' * 64}/attempts/1/outputs/outputs.jsonl"


@dataclass(frozen=True)
class Recovery:
    """`seconds` from the fault's end to the next committed marker, or to the end of the experiment. None: the fault was
    not made, because the experiment ended before it was due, or before its program was running again."""

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
    """A fault that is not made yet. Its delay counts from `since`: when enough work was done and its program ran."""

    fault: Fault
    since: float | None = None

    def is_ripe(self, made: Stack, now: float) -> bool:
        if made.work() < self.fault.after or not has_target(made, self.fault.kind):
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


def play(lab: Lab, schedule: Schedule, folder: Path, *, keep: bool = False) -> Played:
    """`folder` must not exist; it is removed unless something was broken or `keep`."""
    played = Played(schedule)
    begin = time.monotonic()
    with stack(lab, schedule, folder) as made:
        write_orphan(made)
        try:
            drive(made, schedule, played)
            played.broken += broken_promises(made, lab)
        except AssertionError as error:
            played.broken.append(str(error))
        played.notes += noted(made)
        played.seconds, played.runs = time.monotonic() - begin, made.runs
        if played.broken and made.mounted:
            shutil.copytree(made.disk, folder / "disk-kept", dirs_exist_ok=True)
    if not played.broken and not keep:
        shutil.rmtree(folder)
    return played


def write_orphan(made: Stack) -> None:
    """Something old that nobody names, for a garbage collector to find."""
    made.direct().put(ORPHAN, b"{}\n")
    file, then = made.store_folder / ORPHAN, time.time() - OLD_SECONDS
    os.utime(file, (then, then))


def drive(made: Stack, schedule: Schedule, played: Played) -> None:
    """Raises AssertionError when the experiment has not succeeded by the deadline, or has failed."""
    chance = random.Random(schedule.seed)
    due = [Due(fault) for fault in schedule.faults]
    begun: list[Beginning] = []
    deadline = time.monotonic() + DEADLINE_SECONDS
    made.runner = made.run()
    while True:
        now = time.monotonic()
        assert now < deadline, f"stuck: not finished after {DEADLINE_SECONDS:.0f} s: {tail(made)}"
        over = end_those_over(begun, made, now)
        for ripe in [one for one in due if one.is_ripe(made, now)]:
            due.remove(ripe)
            begun.append(begin(made, ripe.fault, chance, now))
        code = made.runner.poll()
        if code == 0:
            break
        assert code != 1, f"it failed: {tail(made)}"
        if code is not None:
            time.sleep(0.2)
            made.runner = made.run()
        time.sleep(POLL_SECONDS)
        recovered(begun, made, over)
    for one in begun:
        one.undo.close()
    end = time.monotonic()
    for one in begun:
        since = one.ended if one.ended is not None else end
        played.recoveries.append(Recovery(one.fault.kind, (one.recovered or end) - since))
    played.recoveries += [Recovery(one.fault.kind, None) for one in due]
    for other in made.others:
        other.wait(120)


def begin(made: Stack, due: Fault, chance: random.Random, now: float) -> Beginning:
    undo = ExitStack()
    undo.enter_context(fault(made, due, chance))
    return Beginning(due, now + due.lasts_seconds, undo)


def end_those_over(begun: list[Beginning], made: Stack, now: float) -> bool:
    for one in begun:
        if one.ended is None and now >= one.ends:
            one.undo.close()
            one.ended, one.markers = time.monotonic(), made.markers()
    return bool(begun)


def recovered(begun: list[Beginning], made: Stack, any_begun: bool) -> None:
    open_ones = [one for one in begun if one.ended is not None and one.recovered is None]
    if any_begun and open_ones:
        markers = made.markers()
        for one in open_ones:
            if markers > one.markers:
                one.recovered = time.monotonic()


def tail(made: Stack) -> str:
    return made.runner.log.read_text(errors="replace")[-1500:] if made.runner else ""


def broken_promises(made: Stack, lab: Lab) -> list[str]:
    """Of a finished store."""
    store, found = made.direct(), []
    if compared(made.store_folder) != lab.manifest:
        found.append("the manifest is not that of an undisturbed run")
    for machine in ("first", "second"):
        for key, count in Counter(key for _, _, key in made.starts(machine)).items():
            if count > 1:
                found.append(f"{key} was started {count} times on the {machine} machine")
    for info in list(store.list("units/")):
        name = info.key.split("/", 3)[3]
        if name.startswith("markers/"):
            marker = Marker.model_validate_json(store.get(info.key))
            found += [f"{info.key}: {problem}" for problem in verify(store, marker, deep=True)]
    found += [f"{key} has no end" for key in open_tasks(store.list("units/"))]
    return found


def open_tasks(infos: Iterator[object]) -> list[str]:
    keys = {info.key for info in infos}  # type: ignore[attr-defined]
    tasks = [key for key in keys if key.rpartition("/")[2].removesuffix(".json").isdigit() and "/tasks/" in key]
    tasks = [key for key in tasks if ".offers/" not in key]
    return sorted(key for key in tasks if key.removesuffix(".json") + ".end.json" not in keys)


def noted(made: Stack) -> list[str]:
    """Not promised, but worth knowing."""
    first = {key for _, _, key in made.starts()}
    both = first & {key for _, _, key in made.starts("second")}
    found = [f"{len(both)} tasks were started on both machines"] if both else []
    left = [path for path in (made.folder / "tmp").glob("potstill*") if path.is_dir()]
    if left:
        found.append(f"{len(left)} temporary folders are left")
    if any(made.folder.glob("log-*-gc")) and (made.store_folder / ORPHAN).exists():
        found.append("gc left the orphan")
    return found


def as_line(played: Played) -> str:
    """As JSON, for the table and for going on later."""
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


__all__ = ["Played", "as_line", "play"]
