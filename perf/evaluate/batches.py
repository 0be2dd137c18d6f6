"""What letting requests into a batch together is worth, computed: a batch step by step, beside what was measured.

    python -m perf.evaluate.batches perf/results/evaluate-h200/evaluate.jsonl

vLLM's scheduling in short: first come, first served; who came last gives way while keys and values have no room, and
its tokens are read again. A step takes what `perf.evaluate.engine --kernels` measured (kernels-512.txt: 19.6, 24.4 and
36.6 ms for 100, 200 and 500 requests that each hold about 1,250 tokens; attention's part grows with the tokens held,
the rest with the requests). Reading a prompt adds the time per token of a long one. What such a step loses by running
without a CUDA graph was not measured by itself: PROMPT_STEP_MS is chosen so that the last line of the first table
comes out right; the lines above it are the check. `together` uses the engine's own Admission.
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

STEP_MS, REQUEST_MS, HELD_TOKEN_MS = 15.5, 0.012, 0.0000241
"""A step, with each request in it, with each token that its requests hold."""
PROMPT_TOKEN_MS = 0.030
PROMPT_STEP_MS = 75.0
ROOM_TOKENS = 749_904
"""For keys and values, as vLLM printed it (rows-512-cold.log)."""
STEP_TOKENS = 8192
"""Read and decoded in a step, at most."""
CHECKPOINTS = 18
MEASURED = (
    ("rows-512", 1, 512),
    ("rows-512-cold", 5, 512),
    ("rows-512-cold", 10, 512),
    ("attention-warm", 10, 256),
    ("lengths-as-in-16-02", 9, 512),
)
"""Lines of the file: name, adapters, rows."""


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


def course(lengths: list[int], prompt: int, rows: int, *, together: bool) -> Course:
    """All requests through one engine, the first `rows` of them at once."""
    waiting: deque[Row] = deque()
    admission = Admission(rows, ROOM_TOKENS // (prompt + max(lengths)))
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
        while held > ROOM_TOKENS:
            row = running.pop()
            held -= row.held + 1
            waiting.appendleft(row)
            preempted, gave_way = preempted + 1, True
        reading: list[Row] = []
        room = STEP_TOKENS - len(running)
        while waiting and not gave_way and len(running) + len(reading) < rows:
            tokens = waiting[0].held
            if tokens > room or held + tokens > ROOM_TOKENS:
                break
            room, held = room - tokens, held + tokens
            reading.append(waiting.popleft())
        for row in running:
            row.held, row.left = row.held + 1, row.left - 1
        milliseconds += STEP_MS + REQUEST_MS * len(running) + HELD_TOKEN_MS * held
        if reading:
            milliseconds += PROMPT_STEP_MS + PROMPT_TOKEN_MS * sum(row.held for row in reading)
        running = [row for row in running + reading if row.left > 0]
        steps, with_prompts = steps + 1, with_prompts + bool(reading)
    return Course(milliseconds / 1e3, steps, with_prompts, preempted)


def output_tokens(generator: Random, limit: int, completed: float) -> int:
    """Of one output: `limit`, or with the chance `completed` a tenth to nine tenths of it."""
    return generator.randrange(limit // 10, limit * 9 // 10) if generator.random() < completed else limit


def drawn(count: int, limit: int, completed: float) -> list[int]:
    generator = Random(0)
    return [output_tokens(generator, limit, completed) for _ in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    lines = [json.loads(line) for line in parser.parse_args().results.read_text().splitlines()]
    groups = [line for line in lines if line["measured"] == "group"]
    print("measured                      requests    seconds   computed  steps  with prompts  preempted")
    for name, adapters, rows in MEASURED:
        line = next(line for line in groups if line["name"] == name and line["group"] == adapters)
        found = course(asked(line), 160, rows, together=False)
        numbers = f"{len(asked(line)):8} {line['seconds']:10.1f} {found.seconds:10.1f}"
        print(f"{name:29} {numbers} {found.steps:6} {found.with_prompts:13} {found.preempted:10}")
    print(f"\nall {CHECKPOINTS} checkpoints x 200      one by one   together")
    for name, completed in {"all at the limit": 0.0, "58% completed": 0.58}.items():
        all_lengths = drawn(200 * CHECKPOINTS, 2048, completed)
        for rows in (256, 512):
            ways = [course(all_lengths, 160, rows, together=together).seconds for together in (False, True)]
            print(f"{name:17} {rows} rows {ways[0]:10.0f} s {ways[1]:8.0f} s")


def asked(line: dict[str, Any]) -> list[int]:
    """The lengths of a measured line's outputs, up to the draw."""
    return drawn(line["group"] * line["requests_each"], line["tokens_each"], line.get("completed", 0.0))


if __name__ == "__main__":
    main()
