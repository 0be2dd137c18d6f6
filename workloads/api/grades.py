"""A grade: the verdict on one output at one budget. A line of `grades.jsonl`, which the report reads.

Separate fields, because one cannot say "right but not completed". `right` is lenient: an uncompleted output counts if
the last complete answer anywhere in it is right. Errors are no verdict: they are never counted as wrong.
"""

from typing import Literal

from pydantic import Field, JsonValue

from workloads.api.model import Contract

Verdict = Literal["right", "wrong", "no_answer", "grader_error", "infra_error"]

Incomplete = Literal[
    "repetition_loop",  # the tail repeats itself and the output was cut
    "unclosed_think",  # thinking: no </think>
    "reopened_think",  # thinking: a <think> after the last </think>
    "unclosed_answer",  # a box or fence was opened in the zone and not closed
    "no_answer_in_zone",  # nothing that is an answer where one must stand
]
"""Why an output is not completed. Whether the limit cut it is `ended`, which is recorded and not inferred from."""

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
    "unreadable_output",  # code: what came back is not a value that can be compared
    "too_costly",  # math: the answer's text shows that it cannot be evaluated
    "checker_timeout",  # math: the checker ran out of CPU time; wrong, or grader_error if the gold fails against itself
    "checker_memory",
    "checker_failed",
    "checker_lost",  # grader_error from here on: the checker was killed from outside, or did not run in its time
    "sandbox_lost",  # infra_error
    "generation_failed",
    "not_executed",
]

COMPARED: frozenset[Verdict] = frozenset({"right", "wrong", "no_answer"})
"""Verdicts that count. The others make an evaluation incomplete."""


class Grade(Contract):
    """`budget_tokens`: the verdict is about the first so many tokens. `tokens` of them were there."""

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
