"""What groups of adapters cost by what perf.evaluate.engine measured, for perf.group_commit."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from perf.evaluate.batches import AS_VLLM, costs_of, course, drawn, with_completed


@dataclass(frozen=True)
class Measured:
    """Seconds by requests worked off together, of loading (or merging) one adapter, and whether adapters take turns.

    `tokens` of `read`: the limit of an output; seconds grow with it in proportion, which is too little for attention.
    Groups measured with `--joins as-vllm` are for comparison, and left out.
    """

    seconds: dict[int, float]
    load: float
    merged: bool
    times: Callable[[int], float]
    """How many times as long as the most requests that were measured a larger number takes, by perf.evaluate.batches.

    In proportion would be too much, for every batch runs empty at its end.
    """

    @classmethod
    def read(
        cls, lines: Sequence[dict[str, Any]], names: Sequence[str], tokens: int, completed: float | None = None
    ) -> "Measured":
        """`completed`: computed for this share of outputs that end before their limit; None: as they were measured."""
        groups = [line for line in lines if line["name"] in names and line["measured"] == "group" and line["group"]]
        found = [line for line in groups if line.get("joins") != AS_VLLM]
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
            whole = line["seconds"] if completed is None else with_completed(line, completed)
            seconds[together] = whole / turns * tokens / line["tokens_each"]
        load = max(line["load_seconds"] / line["group"] for line in found)
        return cls(seconds, load, merged, growth(found[-1], max(seconds), completed))

    def of_requests(self, number: int) -> float:
        """By straight lines between what was measured; fewer as the fewest, more by `times`."""
        sizes = sorted(self.seconds)
        place = bisect_left(sizes, number)
        if place == len(sizes):
            return self.seconds[sizes[-1]] * self.times(number)
        if place == 0 or number == sizes[place]:
            return self.seconds[sizes[place]]
        low, high = sizes[place - 1], sizes[place]
        share = (number - low) / (high - low)
        return self.seconds[low] * (1 - share) + self.seconds[high] * share

    def of_group(self, requests: int, adapters: int) -> float:
        """Seconds that an engine takes for so many requests, of so many adapters alike (at least one, perhaps none)."""
        if self.merged:
            return adapters * self.load + max(1, adapters) * self.of_requests(requests // max(1, adapters))
        return adapters * self.load + self.of_requests(requests)


def growth(line: dict[str, Any], most: int, completed: float | None) -> Callable[[int], float]:
    """`times` of Measured for the engine of this line; `completed` as in `read`."""
    costs, limit = costs_of(line), line["tokens_each"]
    share = line.get("completed", 0.0) if completed is None else completed

    @cache
    def seconds(number: int) -> float:
        return course(drawn(number, limit, share), costs, rows=line["flags"]["max_num_seqs"]).seconds

    return lambda number: seconds(number) / seconds(most)
