"""GPU-seconds of all 18 checkpoints of 16/02, one engine each and in groups: computed from measured starts and groups.

    python -m perf.evaluate.costs perf/results/evaluate.jsonl --start attention-warm --groups attention-warm

Not measured as a whole: a start takes the measured seconds of `--start`, and a group of k checkpoints the measured
seconds of a group (straight lines between the sizes measured; beyond the largest, one after the other), times the
work of a checkpoint in units of the measured work (`--work`: two benchmarks of 100 problems at 2,048 tokens are 2).
Live: a checkpoint comes every `--every` seconds in each of the four runs; an engine takes what waits, at most
`--slots` engines at a time, and lingers one start time.
"""

import argparse
import json
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

RUNS = (5, 4, 5, 4)
"""Checkpoints of math_default, math_2k, code_default, code_2k."""


@dataclass(frozen=True)
class Outcome:
    gpu_seconds: float
    starts: int
    waits: tuple[float, ...]
    """From a checkpoint's arrival to its outputs, seconds."""

    def __str__(self) -> str:
        mean = sum(self.waits) / len(self.waits)
        return (
            f"{self.gpu_seconds:8.0f} GPU-seconds, {self.starts:2d} starts, "
            f"wait mean {mean:6.0f} s, largest {max(self.waits):6.0f} s"
        )


def seconds_of_group(measured: dict[int, float]) -> Callable[[int], float]:
    """Seconds of k >= 1 checkpoints together, by lines between the measured sizes."""
    sizes = sorted(size for size in measured if size > 0)
    if sizes[0] != 1:
        raise SystemExit("no measured group of one adapter")

    def seconds(size: int) -> float:
        if size > sizes[-1]:
            return measured[sizes[-1]] + seconds(size - sizes[-1])
        place = bisect_left(sizes, size)
        if sizes[place] == size:
            return measured[size]
        low, high = sizes[place - 1], sizes[place]
        return measured[low] + (measured[high] - measured[low]) * (size - low) / (high - low)

    return seconds


def simulate(
    arrivals: Sequence[float],
    start: float,
    seconds: Callable[[int], float],
    slots: int,
    linger: float | None,
    most: int,
) -> Outcome:
    """Engines take what waits, up to `most`, then linger so long for more (None: they exit).

    GPU-seconds count from an engine's start to its exit.
    """
    waiting, waits, spent, starts = sorted(arrivals), [], 0.0, 0
    free = [0.0] * slots
    while waiting:
        free.sort()
        now = max(free.pop(0), waiting[0])
        began, starts = now, starts + 1
        now += start
        first = True
        while waiting and (first or (linger is not None and waiting[0] <= now + linger)):
            first, now = False, max(now, waiting[0])
            group = [arrival for arrival in waiting if arrival <= now][:most]
            waiting = waiting[len(group) :]
            now += seconds(len(group))
            waits += [now - arrival for arrival in group]
        now += linger or 0.0
        spent += now - began
        free.append(now)
    return Outcome(spent, starts, tuple(waits))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--start", required=True)
    parser.add_argument("--groups", required=True)
    parser.add_argument("--work", type=float, default=2.0)
    parser.add_argument("--every", type=float, default=600.0)
    parser.add_argument("--slots", type=int, default=2)
    options = parser.parse_args()
    lines = [json.loads(line) for line in options.results.read_text().splitlines()]
    start = next(x["seconds"] for x in lines if x["name"] == options.start and x["measured"] == "start")
    measured = {
        x["group"]: options.work * x["seconds"] + x["load_seconds"]
        for x in lines
        if x["name"] == options.groups and x["measured"] == "group"
    }
    seconds = seconds_of_group(measured)
    live = [options.every * (number + 1) for count in RUNS for number in range(count)]
    print(f"start {start:.0f} s; groups {json.dumps({size: round(value, 1) for size, value in measured.items()})} s")
    for name, arrivals in {"backlog": [0.0] * sum(RUNS), "live": live}.items():
        alone = simulate(arrivals, start, seconds, options.slots, None, 1)
        grouped = simulate(arrivals, start, seconds, options.slots, start, len(arrivals))
        print(f"{name}: one engine each  {alone}\n{name}: grouped          {grouped}")
        print(f"{name}: grouped / each   {grouped.gpu_seconds / alone.gpu_seconds:.2f}")


if __name__ == "__main__":
    main()
