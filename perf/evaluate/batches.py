"""What letting requests into a batch together is worth, computed: a batch step by step, beside what was measured.

    python -m perf.evaluate.batches perf/results/evaluate-h200/evaluate.jsonl

vLLM's scheduling in short: first come, first served; who came last gives way while keys and values have no room, and
its tokens are read again. A step takes what `perf.evaluate.engine --kernels` measured (kernels-512.txt: 19.6, 24.4 and
36.6 ms for 100, 200 and 500 requests that each hold about 1,250 tokens; attention's part grows with the tokens held,
the rest with the requests). With adapters of experts a step takes what the groups of one and of two took (8 slots), or
the single one of 4,096 tokens (4 slots); attention's part is the same. Reading a prompt adds the time per token of a
long one. What such a step loses by running without a CUDA graph was not measured by itself: PROMPT_STEP_MS is chosen so
that the line `as-vllm` comes out right. `together` uses the engine's own Admission. The other lines are the check.
"""

import argparse
import json
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from workloads.evaluate.admission import Admission
from workloads.evaluate.engine import Decoding, Request

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
}
"""By what the adapters change (rows-512-cold.log, experts-2048.log, experts-4-slots.log)."""
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
)
"""Lines of the file: name, adapters. Those before `together` were measured when requests joined as vLLM lets them."""


@dataclass
class Row:
    held: int
    """Tokens in keys and values."""
    left: int


@dataclass(frozen=True)
class Course:
    seconds: float
    steps: int
    with_prompts: int
    preempted: int


def course(lengths: list[int], costs: Costs, *, rows: int = ROWS, together: bool = True) -> Course:
    """All requests through one engine, the first `rows` of them at once."""
    waiting: deque[Row] = deque()
    prompt, room_tokens = PROMPT_TOKENS, costs.room_tokens
    admission = Admission(rows, room_tokens // (prompt + max(lengths)))
    for number, length in enumerate(lengths):
        if together:
            admission.put(Request(str(number), "", (), None, Decoding(0.0, 1.0, length, ()), 0))
        else:
            waiting.append(Row(prompt, length))
    running: list[Row] = []
    milliseconds, steps, with_prompts, preempted = 0.0, 0, 0, 0
    while len(admission) or waiting or running:
        joining = admission.take(len(waiting) + len(running))
        waiting.extend(Row(prompt, request.decoding.limit_tokens) for request in joining)
        held = sum(row.held for row in running) + len(running)
        gave_way = False
        while held > room_tokens:
            row = running.pop()
            held -= row.held + 1
            waiting.appendleft(row)
            preempted, gave_way = preempted + 1, True
        reading: list[Row] = []
        room = STEP_TOKENS - len(running)
        while waiting and not gave_way and len(running) + len(reading) < rows:
            tokens = waiting[0].held
            if tokens > room or held + tokens > room_tokens:
                break
            room, held = room - tokens, held + tokens
            reading.append(waiting.popleft())
        for row in running:
            row.held, row.left = row.held + 1, row.left - 1
        milliseconds += costs.step_ms + costs.request_ms * len(running) + HELD_TOKEN_MS * held
        if reading:
            milliseconds += PROMPT_STEP_MS + PROMPT_TOKEN_MS * sum(row.held for row in reading)
        running = [row for row in running + reading if row.left > 0]
        steps, with_prompts = steps + 1, with_prompts + bool(reading)
    return Course(milliseconds / 1e3, steps, with_prompts, preempted)


def output_tokens(generator: Random, limit: int, completed: float) -> int:
    """Of one output: `limit`, or with the chance `completed` a tenth to nine tenths of it."""
    return generator.randrange(limit // 10, limit * 9 // 10) if generator.random() < completed else limit


def drawn(count: int, limit: int, completed: float, seed: int = 0) -> list[int]:
    generator = Random(seed)
    return [output_tokens(generator, limit, completed) for _ in range(count)]


def asked(line: dict[str, Any]) -> list[int]:
    """The lengths of a measured line's outputs; where it does not say how requests joined, up to the draw."""
    each, limit, completed = line["requests_each"], line["tokens_each"], line.get("completed", 0.0)
    if "joins" not in line:
        return drawn(line["group"] * each, limit, completed)
    return [tokens for place in range(line["group"]) for tokens in drawn(each, limit, completed, seed=place)]


def costs_of(line: dict[str, Any]) -> Costs:
    adapters = line["adapters"]
    return COSTS[adapters if adapters in COSTS else f"{adapters}, {line['flags']['max_loras']} slots"]


def with_completed(line: dict[str, Any], completed: float) -> float:
    """Seconds of a measured group, computed for another share of outputs that end before their limit."""
    measured = line.get("completed", 0.0)
    if completed == measured:
        return float(line["seconds"])
    costs, count, limit = costs_of(line), line["group"] * line["requests_each"], line["tokens_each"]
    asked, was = (course(drawn(count, limit, share), costs).seconds for share in (completed, measured))
    return float(line["seconds"] * asked / was)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    lines = [json.loads(line) for line in parser.parse_args().results.read_text().splitlines()]
    groups = [line for line in lines if line["measured"] == "group" and (line["name"], line["group"]) in MEASURED]
    print("measured             requests joined    seconds   computed  steps  with prompts  preempted")
    for line in groups:
        way, lengths = line.get("joins", AS_VLLM), asked(line)
        rows = line["flags"]["max_num_seqs"]
        found = course(lengths, costs_of(line), rows=rows, together=way != AS_VLLM)
        numbers = f"{len(lengths):8} {way:8} {line['seconds']:9.1f} {found.seconds:10.1f}"
        print(f"{line['name']:20} {numbers} {found.steps:6} {found.with_prompts:13} {found.preempted:10}")
    print(f"\nall {CHECKPOINTS} checkpoints x 200                        {AS_VLLM}   together")
    for adapters, costs in COSTS.items():
        for name, completed in {"all at the limit": 0.0, "58% completed": 0.58}.items():
            lengths = drawn(200 * CHECKPOINTS, 2048, completed)
            ways = [course(lengths, costs, together=together).seconds for together in (False, True)]
            print(f"{adapters:26} {name:17} {ways[0]:8.0f} s {ways[1]:8.0f} s")


if __name__ == "__main__":
    main()
