"""What a running engine costs by what perf.evaluate.engine measured, for perf.group_commit.

    python -m perf.evaluate.costs perf/results/evaluate-h200/evaluate.jsonl

shows how near it comes to adapters that were measured joining a running engine (`--apart`).
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perf.evaluate.batches import AS_VLLM, PROMPT_TOKENS, Batch, Costs, asked, costs_of, course, drawn, request
from workloads.api.units import UnitRef

JOINED = {"attention-joining-cold": ("together",), "experts-joining-cold": ("experts-4-slots",)}
"""Starts that were measured with `--apart`, and groups that their engine is computed by."""


@dataclass(frozen=True)
class Measured:
    """`load`: of one adapter, seconds. `scale`: measured seconds of the groups by those that perf.evaluate.batches
    computes. `limit` of an output, tokens; the share `completed` ends before it.
    """

    costs: Costs
    rows: int
    slots: int
    load: float
    scale: float
    limit: int
    completed: float

    @classmethod
    def read(
        cls, lines: Sequence[dict[str, Any]], names: Sequence[str], limit: int, completed: float | None = None
    ) -> "Measured":
        """`completed`: as measured if None. Groups measured with `--joins as-vllm` are for comparison, and left out."""
        groups = [line for line in lines if line["name"] in names and line["measured"] == "group" and line["group"]]
        found = [line for line in groups if line.get("joins") != AS_VLLM]
        if not found:
            raise SystemExit(f"no group of adapters was measured under the names {', '.join(names)}")
        kinds = {
            (costs_of(line), line["flags"]["max_num_seqs"], line["flags"]["max_loras"], line.get("completed", 0.0))
            for line in found
        }
        if len(kinds) > 1 or found[0]["flags"]["merge_adapters"]:
            raise SystemExit("these groups do not go together: other slots, rows or completed outputs, or merged ones")
        costs, rows, slots, measured = kinds.pop()
        computed = [
            course(asked(line), costs, rows=rows, slots=slots, together="joins" in line).seconds for line in found
        ]
        return cls(
            costs=costs,
            rows=rows,
            slots=slots,
            load=max(line["load_seconds"] / line["group"] for line in found),
            scale=sum(line["seconds"] for line in found) / sum(computed),
            limit=limit,
            completed=measured if completed is None else completed,
        )


@dataclass(eq=False)
class Member:
    """An evaluation in an engine: `left` of its requests."""

    unit: UnitRef
    adapter: str | None
    left: int


class Engine:
    """A started engine that works off evaluations of `requests` requests each, as the program has it do so."""

    def __init__(self, measured: Measured, requests: int) -> None:
        self._measured = measured
        self._requests = requests
        self._batch = Batch(measured.costs, PROMPT_TOKENS + measured.limit, rows=measured.rows)
        self._coming: list[Member] = []
        self._at_work: dict[str, Member] = {}
        self._loaded: set[str | None] = {None}

    def take(self, unit: UnitRef, adapter: str | None) -> None:
        self._coming.append(Member(unit, adapter, self._requests))

    @property
    def members(self) -> list[UnitRef]:
        return [member.unit for member in (*self._coming, *self._at_work.values())]

    @property
    def steps(self) -> int:
        return self._batch.steps

    @property
    def room_at_start(self) -> int:
        adapters = {member.adapter for member in self._coming if member.adapter is not None}
        free_rows = self._measured.rows // self._requests - len(self._coming)
        return max(0, min(self._measured.slots - len(adapters), free_rows))

    @property
    def room(self) -> int:
        if self._coming or not self._at_work:
            return 0
        free = self._measured.slots - len(self._adapters())
        return max(0, min(free, self._batch.admission.room(self._batch.under_way, self._requests)))

    def advance(self) -> tuple[float, list[UnitRef]]:
        """Seconds of what it does next, and the evaluations that are finished by it. Call while it has members."""
        if self._coming and self._wants(self._coming[0].adapter):
            member = self._coming.pop(0)
            self._at_work[member.unit.digest] = member
            lengths = drawn(self._requests, self._measured.limit, self._measured.completed, seed=member.unit.digest)
            for number, tokens in enumerate(lengths):
                self._batch.put(request(str(number), member.unit.digest, tokens))
            if member.adapter in self._loaded:
                return 0.0, []
            self._loaded.add(member.adapter)
            return self._measured.load, []
        seconds, ended = self._batch.step()
        finished = []
        for digest, count in Counter(one.group for one in ended).items():
            self._at_work[digest].left -= count
            if not self._at_work[digest].left:
                finished.append(self._at_work.pop(digest).unit)
        return seconds * self._measured.scale, finished

    def _wants(self, adapter: str | None) -> bool:
        adapters = self._adapters()
        fits = adapter is None or adapter in adapters or len(adapters) < self._measured.slots
        return fits and self._batch.admission.wants(self._batch.under_way)

    def _adapters(self) -> set[str]:
        return {member.adapter for member in self._at_work.values() if member.adapter is not None}


def waits(measured: Measured, apart_seconds: float, adapters: int, requests: int) -> list[float]:
    """From each adapter's coming to its last output, seconds, up to the draw of the outputs' lengths. The engine has
    started when the first one comes.
    """
    engine, now, ended = Engine(measured, requests), 0.0, dict[str, float]()
    units = [UnitRef(kind="generate", digest=f"{place:064x}") for place in range(adapters)]
    came = {unit.digest: place * apart_seconds for place, unit in enumerate(units)}
    while units or engine.members:
        if units and (now >= came[units[0].digest] or not engine.members):
            unit = units.pop(0)
            now = max(now, came[unit.digest])
            engine.take(unit, unit.digest)
        seconds, finished = engine.advance()
        now += seconds
        ended |= {unit.digest: now for unit in finished}
    return [ended[digest] - began for digest, began in came.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    lines = [json.loads(line) for line in parser.parse_args().results.read_text().splitlines()]
    print("measured                seconds apart  waits, seconds            computed")
    for line in lines:
        if line["measured"] == "apart" and line["name"] in JOINED:
            measured = Measured.read(lines, JOINED[line["name"]], line["tokens_each"], line["completed"])
            computed = waits(measured, line["apart_seconds"], line["group"], line["requests_each"])
            told = (" ".join(f"{seconds:5.1f}" for seconds in found) for found in (line["waits"], computed))
            print(f"{line['name']:23} {line['apart_seconds']:13.0f}  {next(told):25} {next(told)}")


if __name__ == "__main__":
    main()
