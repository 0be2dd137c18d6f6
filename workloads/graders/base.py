"""What a grader is: how an answer and a problem become a verdict. No sympy, no numpy: those are imported when used.

A new grader is a subclass of one of these classes:

- ComparedGrader compares in the grading process. Its time must be linear in the answer's length.
- CheckedGrader compares in a checking process that is killed after 5 CPU seconds or at 2 GiB: for all that parses.
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
"""Verdict, the cause of one that is not right, and what is stored beside it as evidence."""


@dataclass(frozen=True)
class Findings:
    """`outcomes`: of programs, by order key. `replies`: of checks, by key.

    `sound`: ids of the problems whose gold equals itself within the checker's limits.
    """

    outcomes: Mapping[str, Outcome | Lost]
    replies: Mapping[str, Reply]
    sound: Collection[str]


@dataclass(frozen=True)
class Comparison:
    """Whether an answer is right, and what is stored as evidence beside the gold."""

    right: bool
    evidence: dict[str, JsonValue] = field(default_factory=dict)


class Grader(ABC):
    """`name`: as benchmarks state it. `completion`: what a complete answer is, where a benchmark does not say.

    `base_instruction`: how a base is asked, with {problem}, where a benchmark does not say. `runs_programs`: answers
    are programs and problems have tests in place of an answer. `keeps_box_text`: of an answer in a box, the text around
    it counts too. `has_fields`: problems have a level or subject, by which the report breaks results down.
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
        """Returns what the sandbox runs. `answers`: distinct (problem id, answer)."""
        return []

    def checks(self, problem: Problem, answer: str, outcomes: Mapping[str, Outcome | Lost]) -> dict[str, Check]:
        """Returns the requests to the checking processes, by key. Equal keys are sent once."""
        return {}

    def keys(self, problem: Problem, answer: str) -> list[str]:
        """The keys of all orders and checks of an answer, before anything is run."""
        return list(self.checks(problem, answer, {}))

    def gold_check(self, problem: Problem) -> Check | None:
        """Returns the check that the gold equals itself, sent if a check of an answer failed; None: no check."""
        return None

    def reply(self, request: dict[str, Any]) -> dict[str, Any]:
        """Returns the reply to a check, in the checking process. It may raise; if it takes too long it is killed."""
        raise NotImplementedError(f"grader {self.name} has no checks")

    def warm(self) -> None:
        """In the checking process, once: loads what the checks need."""

    def golds(self, problem: Problem) -> list[str]:
        """Answers that must be graded right: what `bench test` grades."""
        return [] if problem.answer is None else [problem.answer]

    def gold_warning(self, problem: Problem, grades: Sequence[Grade]) -> str | None:
        """A sentence on a gold that right answers may not be equal to. `grades`: those of `golds`."""
        return None

    def why_unanswerable(self, problem: Problem) -> str | None:
        """Returns why no answer to the problem can be right; None if one can."""
        return None


class ComparedGrader(Grader):
    """Compares in the grading process: only for what takes time linear in the answer's length and cannot raise."""

    @abstractmethod
    def compare(self, answer: str, problem: Problem) -> Judgement: ...

    def verdict(self, problem: Problem, answer: str, findings: Findings) -> Judgement:
        return self.compare(answer, problem)


class CheckedGrader(Grader):
    """Compares in a checking process with limits. A check that exceeds them is wrong if the gold alone does not.

    `longest_answer`: in characters; a longer answer is wrong without a check.
    """

    longest_answer: int = 2_000

    @abstractmethod
    def check(self, answer: str, gold: str, choices: Sequence[str]) -> Comparison:
        """In the checking process."""

    def reply(self, request: dict[str, Any]) -> dict[str, Any]:
        return asdict(self.check(request["answer"], request["gold"], request["choices"]))

    def judgement(self, reply: Mapping[str, Any], gold: str) -> Judgement:
        """What a reply means."""
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
        """The verdict depends on these texts only: problems with one gold share it."""
        return json.dumps([problem.answer, *problem.choices, answer])


def compared(right: bool, evidence: dict[str, JsonValue]) -> Judgement:
    return ("right", None, evidence) if right else ("wrong", "different_answer", evidence)
