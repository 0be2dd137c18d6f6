"""The grader `exact`: an answer is right if it equals the gold's text."""

from workloads.benchmarks.model import Problem
from workloads.graders.base import ComparedGrader, Judgement, compared
from workloads.graders.text import is_exact


class ExactGrader(ComparedGrader):
    name = "exact"

    def compare(self, answer: str, problem: Problem) -> Judgement:
        gold = problem.answer or ""
        return compared(is_exact(answer, gold), {"gold": gold})


EXACT = ExactGrader()
