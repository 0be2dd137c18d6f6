"""What letting requests into a batch together is worth, computed: a batch step by step, beside what was measured.

    python -m perf.evaluate.batches perf/results/evaluate-h200/evaluate.jsonl

vLLM's scheduling in short: first come, first served, but for requests whose adapter has no slot yet; who came last
gives way while keys and values have no room, and its tokens are read again. A step takes what `perf.evaluate.engine
--kernels` measured (kernels-512.txt: 19.6, 24.4 and 36.6 ms for 100, 200 and 500 requests that each hold about 1,250
tokens; attention's part grows with the tokens held, the rest with the requests). With adapters of experts a step takes
what the groups of one and of two took (8 slots), or the single one of 4,096 tokens (4 slots); attention's part is the
same. Reading a prompt adds the time per token of a long one. What such a step loses by running without a CUDA graph was
not measured by itself: PROMPT_STEP_MS is chosen so that the line `as-vllm` comes out right. `together` uses the
engine's own Admission. The other lines are the check.
"""

import argparse
import json
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from workloads.engines.base import Decoding, Request
from workloads.engines.transformers.admission import Admission

HELD_TOKEN_MS = 0.0000241
"""Of a step, for each token that its requests hold."""
PROMPT_TOKEN_MS = 0.030
PROMPT_STEP_MS = 55.0
STEP_TOKENS = 8192
"""Read and decoded in a step, at most."""
PROMPT_TOKENS = 160
ROWS = 512
CHECKPOINTS = 18
AS_VLLM = "as-vllm"
"""A way of perf.evaluate.engine's `--joins`: requests join a batch as vLLM lets them, not as the engine does."""


@dataclass(frozen=True)
class Costs:
    """Of a step: all of it, and each request in it. `room_tokens`: for keys and values, as vLLM printed it."""

    step_ms: float
    request_ms: float
    room_tokens: int


COSTS = {
    "attention": Costs(15.5, 0.012, 749_904),
    "attention+experts, 8 slots": Costs(23.1, 0.007, 480_624),
    "attention+experts, 4 slots": Costs(20.0, 0.012, 617_968),
    "attention+experts, 4 slots, fp8": Costs(20.0, 0.012, 1_235_952),
}
"""By what the adapters change (rows-512-cold.log, experts-2048.log, experts-4-slots.log, experts-4096-fp8.log). Keys
and values in fp8 take half the room; attention's kernel is hardly faster with them (kernels-8-layers.txt), so a step
takes the same.
"""
MEASURED = (
    ("rows-512", 1),
    ("rows-512-cold", 5),
    ("rows-512-cold", 10),
    ("attention-warm", 10),
    ("lengths-as-in-16-02", 9),
    ("together", 1),
    ("together", 9),
    ("experts-2048-cold", 1),
    ("experts-2048-cold", 2),
    ("experts-2048-cold", 5),
    ("experts-2048", 10),
    ("experts-4-slots", 1),
    ("experts-4-slots", 9),
    ("experts-4096-cold", 1),
    ("experts-4096", 9),
    ("experts-4096-fp8-cold", 1),
    ("experts-4096-fp8", 9),
    ("experts-4096-fp8-rows-cold", 6),
    ("attention-forked-cold", 1),
    ("attention-forked-cold", 2),
    ("attention-forked", 5),
    ("experts-2048-4-slots-cold", 1),
    ("experts-2048-4-slots-cold", 2),
    ("experts-2048-4-slots-cold", 5),
)
"""Lines of the file: name, adapters. Those before `together` were measured when requests joined as vLLM lets them."""


@dataclass(eq=False)
class Row:
    """A request whose turn came. `held`: tokens in keys and values when it joined, at step `since`; `left` then."""

    request: Request
    held: int
    left: int
    since: int = 0
    runs: bool = False


class Batch:
    """An engine's requests, step by step. `together`: they join by its own Admission, else as vLLM lets them.

    `slots`: adapters (a request's group) that run at a time; None where who puts requests sees to it.
    """

    def __init__(
        self, costs: Costs, longest: int, *, rows: int = ROWS, slots: int | None = None, together: bool = True
    ) -> None:
        self.admission = Admission(rows, costs.room_tokens // longest)
        self.steps, self.with_prompts, self.preempted = 0, 0, 0
        self._costs = costs
        self._rows = rows
        self._slots = slots
        self._together = together
        self._adapters: Counter[str] = Counter()
        """How many requests of each run."""
        self._waiting: deque[Row] = deque()
        self._order: list[Row] = []
        """Those that run, in the order in which they joined, and among them some that run no more."""
        self._running = 0
        self._held = 0
        self._ends: dict[int, list[Row]] = {}
        """By the step after which they end. Some were put back meanwhile."""

    @property
    def under_way(self) -> int:
        return len(self._waiting) + self._running

    def __len__(self) -> int:
        return len(self.admission) + self.under_way

    def put(self, request: Request) -> None:
        if self._together:
            self.admission.put(request)
        else:
            self._waiting.append(Row(request, len(request.prompt), request.decoding.limit_tokens))

    def step(self) -> tuple[float, list[Request]]:
        """Seconds of the next step, and what it ends."""
        for request in self.admission.take(self.under_way):
            self._waiting.append(Row(request, len(request.prompt), request.decoding.limit_tokens))
        made_room = self._make_room()
        reading = [] if made_room else self._next()
        self._held += self._running
        milliseconds = self._costs.step_ms + self._costs.request_ms * self._running + HELD_TOKEN_MS * self._held
        self.steps += 1
        if reading:
            read = sum(row.held for row in reading)
            milliseconds += PROMPT_STEP_MS + PROMPT_TOKEN_MS * read + HELD_TOKEN_MS * read
            self.with_prompts += 1
        ended = [row for row in self._ends.pop(self.steps, ()) if row.runs and row.since + row.left == self.steps]
        for row in ended:
            self._leave(row)
        for row in reading:
            self._enter(row)
        return milliseconds / 1e3, [row.request for row in ended]

    def _make_room(self) -> bool:
        """Those that came last give way while the tokens of the next step have no room."""
        before = self.preempted
        while self._held + self._running > self._costs.room_tokens:
            row = self._order.pop()
            if row.runs:
                done = self.steps - row.since
                self._leave(row)
                self._waiting.appendleft(Row(row.request, row.held + done, row.left - done))
                self.preempted += 1
        return self.preempted > before

    def _next(self) -> list[Row]:
        found: list[Row] = []
        passed: list[Row] = []
        room = STEP_TOKENS - self._running
        held = self._held + self._running
        adapters = {group for group, count in self._adapters.items() if count}
        while self._waiting and self._running + len(found) < self._rows:
            row = self._waiting[0]
            if row.held > room or held + row.held > self._costs.room_tokens:
                break
            self._waiting.popleft()
            if self._slots is not None and row.request.group not in adapters and len(adapters) >= self._slots:
                passed.append(row)
                continue
            adapters.add(row.request.group)
            room, held = room - row.held, held + row.held
            found.append(row)
        self._waiting.extendleft(reversed(passed))
        return found

    def _enter(self, row: Row) -> None:
        row.runs, row.since = True, self.steps
        self._order.append(row)
        self._ends.setdefault(self.steps + row.left, []).append(row)
        self._running += 1
        self._adapters[row.request.group] += 1
        self._held += row.held

    def _leave(self, row: Row) -> None:
        row.runs = False
        self._running -= 1
        self._adapters[row.request.group] -= 1
        self._held -= row.held + self.steps - row.since


@dataclass(frozen=True)
class Course:
    seconds: float
    steps: int
    with_prompts: int
    preempted: int


def course(
    adapters: Sequence[Sequence[int]], costs: Costs, *, slots: int, rows: int = ROWS, together: bool = True
) -> Course:
    """All requests through one engine, the first `rows` of them at once. Of each adapter: its outputs' lengths."""
    longest = PROMPT_TOKENS + max(map(max, adapters))
    batch = Batch(costs, longest, rows=rows, slots=slots, together=together)
    for place, lengths in enumerate(adapters):
        for number, length in enumerate(lengths):
            batch.put(request(f"{place}/{number}", str(place), length))
    seconds = 0.0
    while len(batch):
        seconds += batch.step()[0]
    return Course(seconds, batch.steps, batch.with_prompts, batch.preempted)


def request(name: str, group: str, tokens: int) -> Request:
    return Request(name, group, (0,) * PROMPT_TOKENS, None, Decoding(0.0, 1.0, tokens, ()), 0)


def output_tokens(generator: Random, limit: int, completed: float) -> int:
    """Of one output: `limit`, or with the chance `completed` a tenth to nine tenths of it."""
    return generator.randrange(limit // 10, limit * 9 // 10) if generator.random() < completed else limit


def drawn(count: int, limit: int, completed: float, seed: int | str = 0) -> list[int]:
    generator = Random(seed)
    return [output_tokens(generator, limit, completed) for _ in range(count)]


def split(lengths: list[int], each: int) -> list[list[int]]:
    return [lengths[place : place + each] for place in range(0, len(lengths), each)]


def asked(line: dict[str, Any]) -> list[list[int]]:
    """Of each adapter: its outputs' lengths; where the line does not say how requests joined, up to the draw."""
    each, limit, completed = line["requests_each"], line["tokens_each"], line.get("completed", 0.0)
    if "joins" not in line:
        return split(drawn(line["group"] * each, limit, completed), each)
    return [drawn(each, limit, completed, seed=place) for place in range(line["group"])]


def costs_of(line: dict[str, Any]) -> Costs:
    adapters, flags = line["adapters"], line["flags"]
    if adapters in COSTS:
        return COSTS[adapters]
    parts = (adapters, f"{flags['max_loras']} slots", flags.get("kv_cache_dtype"))
    return COSTS[", ".join(filter(None, parts))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    lines = [json.loads(line) for line in parser.parse_args().results.read_text().splitlines()]
    groups = [line for line in lines if line["measured"] == "group" and (line["name"], line["group"]) in MEASURED]
    print("measured                   requests joined    seconds   computed  steps  with prompts  preempted")
    for line in groups:
        way, flags = line.get("joins", AS_VLLM), line["flags"]
        rows, slots, requests = flags["max_num_seqs"], flags["max_loras"], line["group"] * line["requests_each"]
        found = course(asked(line), costs_of(line), rows=rows, slots=slots, together=way != AS_VLLM)
        numbers = f"{requests:8} {way:8} {line['seconds']:9.1f} {found.seconds:10.1f}"
        print(f"{line['name']:26} {numbers} {found.steps:6} {found.with_prompts:13} {found.preempted:10}")
    print(f"\nall {CHECKPOINTS} checkpoints x 200, to 2,048                    {AS_VLLM}   together")
    for adapters, costs in COSTS.items():
        for name, completed in {"all at the limit": 0.0, "58% completed": 0.58}.items():
            outputs = split(drawn(200 * CHECKPOINTS, 2048, completed), 200)
            slots = 4 if "4 slots" in adapters else 8
            ways = [course(outputs, costs, slots=slots, together=together).seconds for together in (False, True)]
            print(f"{adapters:31} {name:17} {ways[0]:8.0f} s {ways[1]:8.0f} s")
    print("\n6 checkpoints x 200, 58% completed, to 4,096")
    outputs = [drawn(200, 4096, 0.58, seed=place) for place in range(6)]
    for adapters in ("attention+experts, 4 slots", "attention+experts, 4 slots, fp8"):
        print(f"{adapters:31} {course(outputs, COSTS[adapters], slots=4).seconds:8.1f} s")


if __name__ == "__main__":
    main()
