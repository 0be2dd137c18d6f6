"""Many schedules of faults, with a table: `python -m tests.faults.soak --count 200 --seed 0 --results soak.jsonl`.

`--on cluster`: the controller on a real control plane in place of `potstill run`. Schedules that the results file holds already are not played again, so that a soak may be done in pieces
(`--seconds` ends a piece). The table goes to the screen and to `--table`. Exit code 1: a promise was broken.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.cluster_play import cluster_lab, play_on_cluster
from tests.faults.drive import Played, as_line
from tests.faults.lab import Lab, lab
from tests.faults.play import play
from tests.faults.schedules import Schedule, draw, draw_on_cluster


@dataclass(frozen=True)
class Place:
    """Where schedules are played. `about`: what a reader of the table has to know."""

    title: str
    lab: Callable[[Path], AbstractContextManager[Lab]]
    draw: Callable[[int], Schedule]
    play: Callable[[Lab, Schedule, Path], Played]
    runs: str
    about: tuple[str, ...]


PLACES = {
    "machine": Place(
        "Schedules of faults over the real programs", lab, draw, play, "calls of `potstill`",
        (
            "Programs are forked from a process that has imported torch; leases and the start of tasks time out ten times",
            "as soon as in use, and a clock is wrong by two minutes. A fault that kills or pauses a program waits until that",
            "program runs.",
        ),
    ),
    "cluster": Place(
        "Schedules of faults over the controller on a real control plane", cluster_lab, draw_on_cluster, play_on_cluster,
        "controllers and commands started",
        (
            "etcd, API server, Job controller and S3 server are real; pods' real programs run beside them in forks of a process",
            "that has imported torch, and no kubelet does. Tasks without a Job are given up, and copies of Jobs count as stale, ten",
            "times as soon as in use; the controller looks at an experiment every second. Checked at the end: the manifest, without",
            "times, attempts and the Experiment's UID; that the API server made one Job for a task at most (its audit log); that no",
            "program was started twice for a task; every file of every marker; that every task and every Job is closed.",
        ),
    ),
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak")
    parser.add_argument("--on", choices=PLACES, default="machine")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the first schedule; the others follow")
    parser.add_argument("--results", type=Path, default=Path("soak.jsonl"))
    parser.add_argument("--table", type=Path, default=Path("soak.md"))
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no other schedule after so long")
    parser.add_argument("--folder", type=Path, help="where schedules are played; what is broken stays there")
    parser.add_argument("--workers", type=int, default=2, help="schedules at one time: most of each is waiting")
    chosen = parser.parse_args()
    place = PLACES[chosen.on]
    done = {line["seed"] for line in read(chosen.results)}
    left = [seed for seed in range(chosen.seed, chosen.seed + chosen.count) if seed not in done]
    begin, lock = time.monotonic(), threading.Lock()
    with tempfile.TemporaryDirectory(prefix="potstill-soak-") as temporary:
        folder = chosen.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if left:
            with place.lab(folder) as made:

                def one(seed: int) -> None:
                    if time.monotonic() - begin > chosen.seconds:
                        return
                    played = place.play(made, place.draw(seed), folder / f"schedule-{seed}")
                    with lock, chosen.results.open("a") as results:
                        results.write(as_line(played) + "\n")
                    said = "; ".join(played.broken) or "kept"
                    notes = "; ".join([f"{played.seconds:.0f} s", *played.notes])
                    print(f"{played.schedule}: {said} ({notes})", flush=True)

                with ThreadPoolExecutor(chosen.workers) as workers:
                    list(workers.map(one, left))
    wanted = range(chosen.seed, chosen.seed + chosen.count)
    lines = [line for line in read(chosen.results) if line["seed"] in wanted]
    text = table(place, lines, chosen.count)
    chosen.table.write_text(text)
    print(text)
    return 1 if any(line["broken"] for line in lines) else 0


def read(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def table(place: Place, lines: list[dict[str, Any]], count: int) -> str:
    """Markdown: what was played, and by kind of fault how soon work went on."""
    by_fault: dict[str, list[float]] = defaultdict(list)
    missed: dict[str, int] = defaultdict(int)
    for line in lines:
        for kind, seconds in line["recoveries"]:
            if seconds is None:
                missed[kind] += 1
            else:
                by_fault[kind].append(seconds)
    stores = [line["store"] for line in lines]
    broken = [line for line in lines if line["broken"]]
    rows = [
        f"| {kind} | {len(found)} | {statistics.median(found):.1f} | {max(found):.1f} |"
        for kind, found in sorted(by_fault.items())
    ]
    kept = len(lines) - len(broken)
    return "\n".join(
        [
            f"# {place.title}",
            "",
            (
                f"Played: {len(lines)} of {count} schedules (seeds {min((n['seed'] for n in lines), default=0)} to "
                f"{max((n['seed'] for n in lines), default=0)}; {stores.count('directory')} on a directory, "
                f"{stores.count('s3')} on S3), {sum(len(line['recoveries']) for line in lines)} faults, of which "
                f"{sum(missed.values())} were not made: the experiment ended first."
            ),
            f"Ended in the undisturbed run's manifest with every promise kept: {kept}. Broken: {len(broken)}.",
            (
                "A schedule took "
                f"{statistics.median([line['seconds'] for line in lines] or [0]):.0f} s (median), "
                f"{max((line['seconds'] for line in lines), default=0):.0f} s at most, with "
                f"{sum(line['runs'] for line in lines)} {place.runs} in all."
            ),
            *place.about,
            f"Machine: {os.cpu_count()} cores, {platform.system()} {platform.machine()}, shared with other work.",
            "",
            "Seconds from the end of a fault to the next committed marker, or to the end of the experiment:",
            "",
            "| Fault | Times | Median | Longest |",
            "|---|---|---|---|",
            *rows,
            "",
            *[f"- seed {line['seed']} ({line['store']}): {'; '.join(line['broken'])}" for line in broken],
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
