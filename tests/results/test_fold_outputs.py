"""Folding of outputs into a manifest's evaluation: each problem has its n outputs, and equal answers have one
number.
"""

from workloads.api.grades import Grade
from workloads.api.records import Output
from workloads.results.manifest import _answer, _unequal


def outputs(*problems: str) -> list[Output]:
    return [
        Output(problem=name, prompt_sha256="0" * 64, prompt_tokens=1, token_ids=(1,), text="", finish_reason="stop")
        for name in problems
    ]


def test_a_problem_that_was_asked_twice_is_named_and_its_verdicts_are_not_given_to_others() -> None:
    assert _unequal(outputs("a", "b", "c"), 1) is None
    assert _unequal(outputs("a", "a", "b", "b"), 2) is None
    found = _unequal(outputs("a", "a", "b", "c"), 1)
    assert found is not None
    assert found.startswith("RepeatedProblems: a has 2 outputs, but sampling.n is 1")


def test_equal_answers_are_those_that_the_grader_parsed_alike() -> None:
    written = [("\\frac12", "1/2"), ("0.5", "1/2"), ("1 / 3", None), ("1/3", None)]
    answers = [
        _answer(
            Grade(
                problem="a", budget_tokens=16, tokens=4, ended=True, completed=True, answer=text, verdict="wrong",
                evidence={} if parsed is None else {"parsed": parsed},
            )
        )
        for text, parsed in written
    ]  # fmt: skip
    assert answers == ["1/2", "1/2", "1/3", "1/3"]
