"""From generated outputs to items for grading: each output is cut at each budget and read once per distinct prefix."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from workloads.api.grades import Incomplete
from workloads.benchmarks.model import Benchmark
from workloads.graders.extraction.completion import Extraction, Rule, read
from workloads.graders.extraction.repetition import loops

Decode = Callable[[Sequence[int]], str]
"""Converts token ids to text and keeps special tokens. Ids that end within a character give U+FFFD there."""


@dataclass(frozen=True)
class Generated:
    """One output. `token_ids` exclude prompt and end token; `end_tokens` (0 or 1) of that were generated after them."""

    problem: str
    index: int
    token_ids: tuple[int, ...]
    finish_reason: Literal["stop", "length", "error"]
    end_tokens: int = 0

    @property
    def tokens(self) -> int:
        return len(self.token_ids) + self.end_tokens


@dataclass(frozen=True)
class Item:
    """An output at one budget, with its answer.

    It depends only on `token_ids[:budget_tokens]`, and on whether the output ended there.
    """

    problem: str
    index: int
    budget_tokens: int
    tokens: int
    ended: bool
    failed: bool
    completed: bool
    answer: str | None
    incomplete: Incomplete | None


def read_outputs(
    outputs: Iterable[Generated],
    budgets: Sequence[int],
    rule: Rule,
    prefill: str,
    decode: Decode,
    entry_points: Mapping[str, str] | None = None,
) -> Iterator[Item]:
    """Yields an Item per output and budget, budgets ascending. `prefill` is put before every output's text.

    `entry_points`: the function name of each code problem, by problem id (`entry_points_of`).
    """
    for output in outputs:
        known: dict[tuple[int, bool], Extraction] = {}
        entry_point = (entry_points or {}).get(output.problem)
        for budget in sorted(budgets):
            ids = output.token_ids[:budget]
            ended = output.finish_reason == "stop" and output.tokens <= budget
            if (len(ids), ended) not in known:
                known[len(ids), ended] = _read(prefill + decode(ids), ids, rule, ended, entry_point)
            reading = known[len(ids), ended]
            yield Item(
                problem=output.problem,
                index=output.index,
                budget_tokens=budget,
                tokens=min(output.tokens, budget),
                ended=ended,
                failed=output.finish_reason == "error",
                completed=reading.completed,
                answer=reading.answer,
                incomplete=reading.incomplete,
            )


def entry_points_of(benchmark: Benchmark) -> dict[str, str]:
    """Returns function names by problem id; empty unless the benchmark is graded by running code."""
    return {problem.id: problem.tests.entry_point for problem in benchmark.problems if problem.tests is not None}


def _read(text: str, ids: Sequence[int], rule: Rule, ended: bool, entry_point: str | None) -> Extraction:
    reading = read(text, rule, ended=ended, entry_point=entry_point)
    if not reading.completed and not ended and loops(ids):
        return Extraction(reading.completed, reading.answer, "repetition_loop")
    return reading
