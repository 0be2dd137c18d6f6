"""GPU-seconds of all 18 checkpoints of 16/02, one engine each and in groups: computed from measured starts and groups.

    python -m perf.evaluate.costs perf/results/evaluate-h200/evaluate.jsonl \\
        --start attention-warm --groups attention-mixed-graphs attention-warm

Not measured as a whole. A start takes the measured seconds of `--start`. A checkpoint has `--requests` requests (two
benchmarks of 100 problems are 200) of `--tokens` tokens; so many requests together take what `--groups` measured, by
straight lines between the numbers of requests measured, at the rate of the largest beyond it, and in proportion where
they were measured with fewer tokens. An engine that merges works its checkpoints off one after the other. Live: a
checkpoint comes every `--every` seconds in each of the four runs; an engine takes what waits, at most `--slots` engines
at a time, and ends (the default of a profile) or lingers one start time (its `lingerSeconds`).
"""

import argparse
import json
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True)
class Measured:
    """Seconds by requests worked off together, of loading (or merging) one adapter, and whether adapters take turns."""

    seconds: dict[int, float]
    load: float
    merged: bool

    @classmethod
    def read(cls, lines: Sequence[dict[str, Any]], names: Sequence[str], tokens: int) -> "Measured":
        found = [line for line in lines if line["name"] in names and line["measured"] == "group" and line["group"]]
        if not found:
            raise SystemExit(f"no group of adapters was measured under the names {', '.join(names)}")
        merged = bool(found[0]["flags"]["merge_adapters"])
        if any(bool(line["flags"]["merge_adapters"]) != merged for line in found):
            raise SystemExit("groups from slots and merged ones do not go together")
        if len({line.get("completed", 0.0) for line in found}) > 1:
            raise SystemExit("groups with other shares of completed outputs do not go together")
        seconds: dict[int, float] = {}
        for line in found:
            together = line["requests_each"] * (1 if merged else line["group"])
            if together in seconds:
                raise SystemExit(f"{together} requests together were measured twice under these names")
            turns = line["group"] if merged else 1
            seconds[together] = line["seconds"] / turns * tokens / line["tokens_each"]
        return cls(seconds, max(line["load_seconds"] / line["group"] for line in found), merged)

    def of_requests(self, number: int) -> float:
        sizes = sorted(self.seconds)
        place = bisect_left(sizes, number)
        if number < sizes[0]:
            raise SystemExit(f"{number} requests are fewer than the {sizes[0]} that were measured under these names")
        if place == len(sizes):
            return self.seconds[sizes[-1]] * number / sizes[-1]
        if number == sizes[place]:
            return self.seconds[number]
        low, high = sizes[place - 1], sizes[place]
        share = (number - low) / (high - low)
        return self.seconds[low] * (1 - share) + self.seconds[high] * share

    def of_checkpoints(self, count: int, requests: int) -> float:
        if self.merged:
            return count * (self.load + self.of_requests(requests))
        return count * self.load + self.of_requests(count * requests)


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
    parser.add_argument("--groups", nargs="+", required=True)
    parser.add_argument("--requests", type=int, default=200, help="of a checkpoint")
    parser.add_argument("--tokens", type=int, default=2048, help="of a request")
    parser.add_argument("--every", type=float, default=600.0)
    parser.add_argument("--slots", type=int, default=2)
    options = parser.parse_args()
    lines = [json.loads(line) for line in options.results.read_text().splitlines()]
    start = next(x["seconds"] for x in lines if x["name"] == options.start and x["measured"] == "start")
    measured = Measured.read(lines, options.groups, options.tokens)

    def seconds(count: int) -> float:
        return measured.of_checkpoints(count, options.requests)

    live = [options.every * (number + 1) for count in RUNS for number in range(count)]
    print(f"start {start:.0f} s; 1, 2, 5, 18 checkpoints {[round(seconds(count)) for count in (1, 2, 5, 18)]} s")
    for name, arrivals in {"backlog": [0.0] * sum(RUNS), "live": live}.items():
        alone = simulate(arrivals, start, seconds, options.slots, None, 1)
        print(f"{name}: one engine each  {alone}")
        for way, linger in {"grouped": None, "grouped, lingers": start}.items():
            grouped = simulate(arrivals, start, seconds, options.slots, linger, len(arrivals))
            share = grouped.gpu_seconds / alone.gpu_seconds
            print(f"{name}: {way:16} {grouped}; {share:.2f} of one engine each")


if __name__ == "__main__":
    main()
