"""The grader `choice`: the answer names the right one of lettered choices."""

from workloads.benchmarks.model import Problem
from workloads.graders.base import ComparedGrader, Judgement, compared
from workloads.graders.named_choice import choice_of


class ChoiceGrader(ComparedGrader):
    name = "choice"
    base_instruction = "{problem}\n\nAnswer with the letter of the right choice.\n\nAnswer:"
    keeps_box_text = True

    def compare(self, answer: str, problem: Problem) -> Judgement:
        gold = problem.answer or ""
        letter, right = choice_of(answer, problem.choices), choice_of(gold, problem.choices)
        if letter is None:
            return "wrong", "not_a_choice", {"gold": gold}
        return compared(letter == right, {"choice": letter, "gold": right})

    def why_unanswerable(self, problem: Problem) -> str | None:
        if choice_of(problem.answer or "", problem.choices) is not None:
            return None
        return "the answer names none of the choices, so no output can be right"


CHOICE = ChoiceGrader()
