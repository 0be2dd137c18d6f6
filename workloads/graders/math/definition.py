"""The grader `math`, as the registry knows it. Sympy and math-verify are loaded by the first check."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pydantic import JsonValue

from workloads.api.grades import Grade
from workloads.benchmarks.model import Problem
from workloads.graders.base import CheckedGrader, Comparison, Judgement, compared
from workloads.graders.extraction.boxed import boxes

_TIME = re.compile(r"\d{1,4}:\d{1,4}(?::\d{2})?(?:\s?[apAP]\.?[mM]\.?)?")


class MathGrader(CheckedGrader):
    """A longer answer than `longest_answer` is wrong: no gold is near it, and a loop must not cost a checker."""

    name = "math"
    completion = "boxed"
    base_instruction = (
        "Problem: {problem}\n\nSolve the problem step by step and put the final answer in \\boxed{}.\n\nSolution:"
    )
    has_fields = True

    def check(self, answer: str, gold: str, choices: Sequence[str]) -> Comparison:  # noqa: ARG002
        reply = self.reply({"answer": answer, "gold": gold})
        return Comparison(reply["right"], {"parsed": reply["parsed"], "goldParsed": reply["gold"]})

    def reply(self, request: dict[str, Any]) -> dict[str, Any]:
        from workloads.graders.math import grader

        return asdict(grader.check(request["answer"], request["gold"]))

    def warm(self) -> None:
        from workloads.graders.math import grader

        grader.warm()

    def judgement(self, reply: Mapping[str, Any], gold: str) -> Judgement:
        evidence: dict[str, JsonValue] = {"parsed": reply["parsed"], "gold": gold, "goldParsed": reply["gold"]}
        if reply["refused"]:
            return "wrong", "too_costly", {**evidence, "detail": reply["refused"]}
        return compared(reply["right"], evidence | ({"goldIsText": True} if reply["gold_is_text"] else {}))

    def golds(self, problem: Problem) -> list[str]:
        """The answer, and the boxed answer of a reference solution."""
        answers = super().golds(problem)
        boxed = boxes(problem.reference_solution).answer if problem.reference_solution else None
        return [*answers, boxed] if boxed and boxed not in answers else answers

    def gold_warning(self, problem: Problem, grades: Sequence[Grade]) -> str | None:
        gold = (problem.answer or "").strip()
        if _TIME.fullmatch(gold):
            return f"{problem.id}: mathematics reads the time or ratio {gold} as a division; use grader: exact"
        if any(grade.evidence.get("goldIsText") for grade in grades):
            return (
                f"{problem.id}: no value can be read in the gold {gold[:80]}, so that only the same text is right; "
                "write it in other LaTeX, or use grader: exact"
            )
        return None


MATH = MathGrader()
