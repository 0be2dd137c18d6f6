import pytest

from workloads.benchmarks.model import CompletionRule
from workloads.graders.extraction.completion import Rule, read
from workloads.graders.named_choice import choice_of
from workloads.graders.text import is_exact


@pytest.mark.parametrize(
    ("answer", "gold", "equal"),
    [
        ("Paris", " Paris\n", True),
        ("New  York", "New York", True),
        ("paris", "Paris", False),
        ("é", "e\u0301", True),
        ("a b", "ab", False),
        ("", "x", False),
    ],
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


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        (r"So the answer is \boxed{B}", "B"), (r"\boxed{\text{E}}", "E"), (r"\boxed{C: blue}", "C"), (r"Answer: \boxed{\text{(C)}}", "C"),
        (r"final answer: $\boxed{A}$", "A"), ("**C**\n\nbecause it grows", "C"), ("**C.** blue", "C"), ("I choose (b)", "B"), ("Answer: Ｃ", "C"), ("（Ｂ）", "B"),
        ("The answer is a matter of taste, so I give none.", None), ("The answer is I think unknown", None), ("option a is bad", None), ("Answers vary", None),
        ("The answer is b.", "B"), ("answer: c", "C"), ("The answer is **a**", "A"), ("The answer is A because of x", "A"), ("The answer is a.", "A"),
        (r"\boxed{\Delta E \ll kT} so **Answer: D**", "D"), (r"\boxed{x^2}", None), (r"Option C is wrong. \boxed{B}", "B"), (r"\boxed{white}", "D"),
        ("Option B is wrong. The answer is (D).", "D"), (r"The answer is $\mathbf{B}$.", "B"), (r"\textbf{(B)}", "B"), ("**Answer: (B) blue**", "B"),
    ],
)  # fmt: skip
def test_a_choice_is_read_from_boxes_bold_and_sentences(answer: str, letter: str | None) -> None:
    assert choice_of(answer, ["red", "green", "blue", "white", "black"]) == letter


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("[B]", "B"), ("`B`", "B"), ('"B"', "B"), ("***B***", "B"), ("B - Oslo", "B"), ("B Oslo", "B"), ("oslo.", "B"), ("B because A is wrong.", "B"), ('{"answer": "B"}', "B"),
        ("<answer>B. Oslo</answer>", "B"), ("B<|im_end|>", "B"), ("Answer - B", "B"), ("**Answer**: B", "B"), ("I'd go with B.", "B"), ("So B is the correct answer.", "B"),
        ("The answer is therefore B.", "B"), ("The answer to this question is (B).", "B"), ("The correct answer is Oslo (B).", "B"), ("The answer is Oslo", "B"), ("Hence (B).", "B"),
        ("答案：B", "B"), ("La réponse est B.", "B"), ("The answer is 'B'.", "B"), ("Answer: <b>B</b>", "B"),
        ("Answer: B\nExplanation: option A is not right.", "B"), ("The answer is B. Option A is incorrect because Rome is in Italy.", "B"), ("Option B is wrong", None),
        ("Option B is incorrect.", None), ("The answer is not B.", None), ("B is not correct", None), ("The answer is A or B.", None), ("Both A and B", None), ("A, B", None),
        ("Answer: B? No. Answer: C", "C"), ("Answer: A\nExplanation: option B is wrong.", "A"), ("A. Rome B. Oslo C. Paris D. Berlin", "A"), ("So I think", None),
    ],
)  # fmt: skip
def test_a_choice_that_a_sentence_rejects_is_not_named(answer: str, letter: str | None) -> None:
    assert choice_of(answer, ["Rome", "Oslo", "Paris", "Berlin"]) == letter


@pytest.mark.parametrize(
    "piece",
    [
        "letter ",
        "(",
        "option ",
        "answer is the ",
        "B is ",
        "not ",
        "答案",
        "the answer is $",
        "ANSWER*",
        "\n \n",
        "so (",
    ],
)
def test_a_choice_is_looked_for_in_linear_time(piece: str) -> None:
    """A quadratic search would take minutes."""
    assert choice_of(piece * (200_000 // len(piece)), ["Rome", "Paris"]) is None


@pytest.mark.parametrize("completion", ["boxed", "any"])
def test_a_letter_beside_a_boxed_formula_is_the_answer(completion: CompletionRule) -> None:
    text = r"<think>x</think> So \boxed{\Delta E \ll kT}. **Answer: D**"
    reading = read(text, Rule(completion, thinking=True, choice=True), ended=True)
    assert reading.completed
    assert choice_of(str(reading.answer), []) == "D"


@pytest.mark.parametrize(
    "text",
    [
        "answer" + " " * 200_000,
        "answer is" + " " * 100_000 + ":" + " " * 100_000,
        "answer " * 50_000,
        "$" * 200_000,
        "**" * 100_000,
        "\\text{" * 30_000 + "}" * 30_000,
        "a" + "\u0301\u0327" * 100_000,
        "(" * 200_000,
    ],
)
def test_hostile_texts_are_compared_in_time(text: str) -> None:
    """Quadratic comparing would run into the test's time limit."""
    assert choice_of(text, ["Rome", "Paris"]) is None
    assert not is_exact(text, "Paris")
