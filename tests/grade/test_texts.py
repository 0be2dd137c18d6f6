import pytest

from workloads.grade.texts import choice_of, is_exact


@pytest.mark.parametrize(
    ("answer", "gold", "equal"),
    [("Paris", " Paris\n", True), ("New  York", "New York", True), ("paris", "Paris", False), ("é", "é", True)],
)
def test_exact_is_equal_but_for_space_and_unicode_form(answer: str, gold: str, equal: bool) -> None:
    assert is_exact(answer, gold) is equal


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"), ("b", "B"), ("(B)", "B"), ("B.", "B"), ("B) Paris", "B"), (r"\text{B}", "B"), ("$B$", "B"), ("**B**", "B"),
        ("The answer is B.", "B"), ("Answer: (B)", "B"), ("not answer A, the answer is B", "B"), ("Paris", "B"),
        ("A cat", None), ("E", None), ("none of them", None), ("", None),
    ],
)  # fmt: skip
def test_a_choice_is_named_by_letter_or_text(answer: str, letter: str | None) -> None:
    assert choice_of(answer, ["Rome", "Paris", "Oslo"]) == letter
