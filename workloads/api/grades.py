"""A grade: the verdict on one output at one budget. A line of `grades.jsonl`, which the report reads.

Two fields are needed, because an output can be right and not completed. `right` is lenient: an uncompleted output is
right if its last complete answer is right. Errors are not verdicts: they never count as wrong.
"""

from typing import Literal

from pydantic import Field, JsonValue

from workloads.api.model import Contract

Verdict = Literal["right", "wrong", "no_answer", "grader_error", "infra_error"]

Incomplete = Literal[
    "repetition_loop",  # the end of the output repeats itself, and the output was cut
    "unclosed_think",  # thinking: no </think>
    "reopened_think",  # thinking: a <think> after the last </think>
    "unclosed_answer",  # a box or fence was opened in the answer's zone and not closed
    "no_answer_in_zone",  # the answer's zone contains nothing that can be an answer
]
"""Why an output is not completed. `ended` records whether the limit cut it."""

Cause = Literal[
    "incomplete",  # no_answer: see `incomplete`
    "different_answer",  # math, exact, choice: the answer is not the gold
    "not_a_choice",
    "failing_test",
    "exception",
    "syntax_error",
    "missing_function",
    "timeout",
    "memory",
    "exit",
    "crash",
    "unreadable_output",  # code: the returned value cannot be compared
    "too_costly",  # math: the answer's text cannot be evaluated
    "checker_timeout",  # math: the checker ran out of CPU time; wrong, or grader_error if the gold fails against itself
    "checker_memory",
    "checker_failed",
    "checker_lost",  # grader_error from here on: the checker was killed from outside, or did not run in time
    "sandbox_lost",  # infra_error
    "generation_failed",
    "not_executed",
]

COMPARED: frozenset[Verdict] = frozenset({"right", "wrong", "no_answer"})
"""Verdicts that count. Any other makes an evaluation incomplete."""


class Grade(Contract):
    """`budget_tokens`: the verdict covers the first tokens, this many. `tokens`: those of the output."""

    problem: str
    index: int = Field(0, description="which of the n sampled outputs")
    budget_tokens: int = Field(gt=0)
    tokens: int = Field(ge=0)
    ended: bool = Field(description="the output ended by itself within the budget")
    completed: bool
    incomplete: Incomplete | None = None
    answer: str | None = Field(None, description="what was graded, cut to 20,000 characters")
    verdict: Verdict
    cause: Cause | None = Field(None, description="why it is not right")
    evidence: dict[str, JsonValue] = Field(
        {}, description="what the report shows: parsed answer, gold, the failing test"
    )
