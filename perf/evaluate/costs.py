"""What groups of adapters cost by what perf.evaluate.engine measured, for perf.group_commit."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from perf.evaluate.batches import AS_VLLM, shortened


@dataclass(frozen=True)
class Measured:
    """Seconds by requests worked off together, of loading (or merging) one adapter, and whether adapters take turns.

    `tokens` of `read`: the limit of an output; seconds grow with it in proportion, which is too little for attention.
    Groups measured with `--joins as-vllm` are for comparison, and left out.
    """

    seconds: dict[int, float]
    load: float
    merged: bool

    @classmethod
    def read(
        cls, lines: Sequence[dict[str, Any]], names: Sequence[str], tokens: int, completed: float = 0.0
    ) -> "Measured":
        """`completed`: for groups that were measured with all outputs at their limit, computed for this share."""
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
            whole = shortened(line, completed) if completed else line["seconds"]
            seconds[together] = whole / turns * tokens / line["tokens_each"]
        return cls(seconds, max(line["load_seconds"] / line["group"] for line in found), merged)

    def of_requests(self, number: int) -> float:
        """By straight lines between what was measured; more at the rate of the most, fewer as the fewest."""
        sizes = sorted(self.seconds)
        place = bisect_left(sizes, number)
        if place == len(sizes):
            return self.seconds[sizes[-1]] * number / sizes[-1]
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
