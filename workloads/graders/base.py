"""The base classes of graders. A grader gives the verdict on an answer to a problem.

This module imports neither sympy nor numpy. A grader imports such a library when it uses it.

A new grader is a subclass of one of these classes:

- ComparedGrader compares in the grading process. Its time must be linear in the answer's length.
- CheckedGrader compares in a checking process that is killed after 5 CPU seconds or at 2 GiB. Use it if the
  comparison parses the answer.
- Grader itself, for a grader that runs programs in the sandbox (`code`).

Answers are written by models and are hostile input: a grader never runs or imports them.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import JsonValue

from workloads.api.grades import Cause, Grade, Verdict
from workloads.benchmarks.model import Benchmark, CompletionRule, Problem
from workloads.graders.checking.client import AnswerCheck, Check, CheckFailed, Reply
from workloads.sandbox.order import Lost, Order, Outcome

Judgement = tuple[Verdict, Cause | None, dict[str, JsonValue]]
"""(verdict, its cause unless it is `right`, the evidence that is stored with it)."""


@dataclass(frozen=True)
class Findings:
    """`outcomes`: how each program ended, by the key of its order. `replies`: the reply to each check, by its key.

    `sound`: the problems with a failed check whose gold was then found equal to itself, within the same limits; by id.
    """

    outcomes: Mapping[str, Outcome | Lost]
    replies: Mapping[str, Reply]
    sound: Collection[str]


@dataclass(frozen=True)
class Comparison:
    """Whether an answer is right, and the evidence that is stored together with the gold."""

    right: bool
    evidence: dict[str, JsonValue] = field(default_factory=dict)


class Grader(ABC):
    """`name`: the grader's name in benchmarks. `completion`: the rule for a complete answer, if a benchmark has none.

    `base_instruction`: the prompt of a base, with {problem} in it, if a benchmark has none. `runs_programs`: answers
    are programs, and problems have tests in place of an answer. `keeps_box_text`: a box completes an
    answer, but the whole text is graded. `has_fields`: problems have a level or subject, and the report shows results
    for each.
    """

    name: str
    completion: CompletionRule = "any"
    base_instruction: str = "{problem}\n\nAnswer:"
    runs_programs: bool = False
    keeps_box_text: bool = False
    has_fields: bool = False

    @abstractmethod
    def verdict(self, problem: Problem, answer: str, findings: Findings) -> Judgement:
        """Returns the judgement of one answer. `findings`: those of all its orders and checks."""

    def orders(self, benchmark: Benchmark, answers: Iterable[tuple[str, str]]) -> list[Order]:
        """Returns the programs for the sandbox to run. `answers`: (problem id, answer), each pair once."""
        return []

    def checks(self, problem: Problem, answer: str, outcomes: Mapping[str, Outcome | Lost]) -> dict[str, Check]:
        """Returns the requests to the checking processes, by key. Checks with one key are sent once."""
        return {}

    def keys(self, problem: Problem, answer: str) -> list[str]:
        """The keys of all orders and checks of an answer, before anything is run."""
        return list(self.checks(problem, answer, {}))

    def gold_check(self, problem: Problem) -> Check | None:
        """Returns the check of the gold against itself, or None. It is sent only if a check of an answer has failed."""
        return None

    def reply(self, request: dict[str, Any]) -> dict[str, Any]:
        """Runs in the checking process and returns the reply to a check. It may raise.

        The process is killed if this takes too long.
        """
        raise NotImplementedError(f"grader {self.name} has no checks")

    def warm(self) -> None:
        """Runs once in the checking process, before the checks: imports the libraries that they need."""

    def golds(self, problem: Problem) -> list[str]:
        """Answers that must be graded right. `potstill bench test` grades them."""
        return [] if problem.answer is None else [problem.answer]

    def gold_warning(self, problem: Problem, grades: Sequence[Grade]) -> str | None:
        """Returns a warning if right answers may not equal the gold, or None. `grades`: those of `golds`."""
        return None

    def why_unanswerable(self, problem: Problem) -> str | None:
        """Returns why no answer to the problem can be right; None if one can."""
        return None


class ComparedGrader(Grader):
    """Compares in the grading process. `compare` must take time linear in the answer's length and must not raise."""

    @abstractmethod
    def compare(self, answer: str, problem: Problem) -> Judgement: ...

    def verdict(self, problem: Problem, answer: str, findings: Findings) -> Judgement:
        return self.compare(answer, problem)


class CheckedGrader(Grader):
    """Compares in a checking process with limits.

    If the check of an answer fails (exceeds the limits, or raises), the verdict is `wrong` if a check of the gold
    against itself succeeds, else `grader_error`. If the machine ended the check, it is `grader_error`.

    `longest_answer`: in characters; a longer answer is wrong without a check.
    """

    longest_answer: int = 2_000

    @abstractmethod
    def check(self, answer: str, gold: str, choices: Sequence[str]) -> Comparison:
        """Runs in the checking process: compares an answer with the gold."""

    def reply(self, request: dict[str, Any]) -> dict[str, Any]:
        return asdict(self.check(request["answer"], request["gold"], request["choices"]))

    def judgement(self, reply: Mapping[str, Any], gold: str) -> Judgement:
        """Returns the judgement that follows from a reply of the checking process."""
        return compared(reply["right"], {"gold": gold, **reply["evidence"]})

    def checks(self, problem: Problem, answer: str, outcomes: Mapping[str, Outcome | Lost]) -> dict[str, Check]:
        if len(answer) > self.longest_answer:
            return {}
        return {self._key(problem, answer): AnswerCheck(self.name, answer, problem.answer or "", problem.choices)}

    def gold_check(self, problem: Problem) -> Check | None:
        gold = problem.answer or ""
        return AnswerCheck(self.name, gold, gold, problem.choices)

    def verdict(self, problem: Problem, answer: str, findings: Findings) -> Judgement:
        gold = problem.answer or ""
        if len(answer) > self.longest_answer:
            detail = f"longer than {self.longest_answer} characters"
            return "wrong", "different_answer", {"gold": gold, "detail": detail}
        reply = findings.replies[self._key(problem, answer)]
        if not isinstance(reply, CheckFailed):
            return self.judgement(reply, gold)
        is_wrong = reply.cause != "checker_lost" and problem.id in findings.sound
        evidence: dict[str, JsonValue] = {"gold": gold, "detail": reply.detail, "tries": reply.tries}
        return "wrong" if is_wrong else "grader_error", reply.cause, evidence

    def _key(self, problem: Problem, answer: str) -> str:
        """The verdict depends on these texts only, so problems with the same gold and choices share one check."""
        return json.dumps([problem.answer, *problem.choices, answer])


def compared(right: bool, evidence: dict[str, JsonValue]) -> Judgement:
    return ("right", None, evidence) if right else ("wrong", "different_answer", evidence)
