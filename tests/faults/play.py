"""Plays a schedule: runs the experiment with its faults until it succeeds, and returns the promises that were broken."""

import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tests.faults.drive import Played, drive
from tests.faults.faults import fault as make_fault
from tests.faults.faults import has_target
from tests.faults.lab import Lab, compared
from tests.faults.schedules import Fault, Schedule
from tests.faults.stack import Stack, stack
from workloads.api.records import Marker
from workloads.storage.base import ObjectInfo, Store
from workloads.storage.markers import verify

OLD_SECONDS = 7200.0
ORPHAN = f"units/generate/{'0' * 64}/attempts/1/outputs/outputs.jsonl"


@dataclass
class LocalRun:
    """`potstill run` on a stack, as `drive` wants it."""

    stack: Stack

    def begin(self) -> None:
        self.stack.runner = self.stack.run()

    def is_over(self) -> bool:
        assert self.stack.runner is not None
        code = self.stack.runner.poll()
        assert code != 1, f"it failed: {self.last_words()}"
        if code not in (0, None):
            time.sleep(0.2)
            self.stack.runner = self.stack.run()
        return code == 0

    def has_target(self, kind: str) -> bool:
        return has_target(self.stack, kind)

    def fault(self, fault: Fault, chance: random.Random) -> AbstractContextManager[None]:
        return make_fault(self.stack, fault, chance)

    def work(self) -> int:
        return self.stack.work()

    def markers(self) -> int:
        return self.stack.markers()

    def settle(self) -> None:
        for other in self.stack.others:
            other.wait(120)

    def last_words(self) -> str:
        return self.stack.runner.log.read_text(errors="replace")[-1500:] if self.stack.runner else ""


def play(lab: Lab, schedule: Schedule, folder: Path, *, keep: bool = False) -> Played:
    """`folder` must not exist; it is removed unless something was broken or `keep`."""
    played = Played(schedule)
    begin = time.monotonic()
    with stack(lab, schedule, folder) as made:
        write_orphan(made)
        try:
            drive(LocalRun(made), schedule, played)
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


def broken_promises(made: Stack, lab: Lab) -> list[str]:
    """Returns the promises that a finished store breaks, in words."""
    store, found = made.direct(), []
    if compared(made.store_folder) != lab.manifest:
        found.append("the manifest is not that of an undisturbed run")
    for machine in ("first", "second"):
        for key, count in Counter(key for _, _, key in made.starts(machine)).items():
            if count > 1:
                found.append(f"{key} was started {count} times on the {machine} machine")
    return [*found, *damaged_files(store), *(f"{key} has no end" for key in open_tasks(store.list("units/")))]


def damaged_files(store: Store) -> list[str]:
    """What is wrong with the files of committed markers, each read whole."""
    found = []
    for info in list(store.list("units/")):
        if info.key.split("/", 3)[3].startswith("markers/"):
            marker = Marker.model_validate_json(store.get(info.key))
            found += [f"{info.key}: {problem}" for problem in verify(store, marker, deep=True)]
    return found


def open_tasks(infos: Iterator[ObjectInfo]) -> list[str]:
    """Keys of tasks without an end."""
    keys = {info.key for info in infos}
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
