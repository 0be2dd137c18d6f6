r"""The normal form of answers: the same value in one way of writing, idempotent, and in time linear in the text."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.benchmarks.load import load
from workloads.graders.math.grader import _equal
from workloads.graders.math.text import LONGEST_CHARACTERS, normal

GOLDS = list(dict.fromkeys(str(problem.answer) for problem in load("math-500").problems))
PIECES = [
    "1", "23", "456", ",", ".", " ", "-", "+", "x", "i", "o", "pi", "C", "(", ")", "[", "]", "{", "}", r"\{", r"\}", "^", "_", "$", "%", "**", "/", "=", "<",
    "\\", r"\\", r"\,", r"\!", r"\;", "~", r"\frac", r"\dfrac", r"\sqrt", r"\pi", r"\text{", r"\text{ cm}", r"\mathbf{", r"\boldsymbol", r"\color{red}",
    r"\left(", r"\right)", r"\bigl", r"\large", r"\circ", r"\degree", r"\le", r"\pm", r"\over", r"\begin{matrix}", r"\end{matrix}", r"\\[4pt]", "√", "³",
    "½", "５", "’", "°", "\u202f", "\u200b", r"\text{Answer: }", "Answer:", "sqrt(2)", "5 1/2", "1e5", r"\%", r"\$", "people", r"\overline{", r"\bar", " million", r"\text{ million}", " cm^2", "\n", r"\(", r"\]", "`",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES) | st.sampled_from(GOLDS), max_size=12).map("".join) | st.text(max_size=40)


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("58,500", "58500"), (r"58{,}500", "58500"), (r"58,\!500", "58500"), (r"58\,500\,\text{people}", "58500"), ("58 500", "58500"), ("58’500", "58500"),
        (r"\frac{20,000}{\pi}", r"\frac{20000}{\pi}"), ("(1,234)", "(1,234)"), ("3, 5, 7", "3, 5, 7"), ("100,20", "100,20"),
        (r"\boldsymbol{3\sqrt{13}}.", r"3\sqrt{13}"), (r"\bigl(\tfrac12,\,\mathbf{3}\bigr)", r"(\frac{1}{2}, 3)"), (r"{\color{red} x=5}", "x=5"),
        (r"\frac\pi2", r"\frac{\pi}{2}"), (r"{a \over b}", r"\frac{a}{b}"), ("3√13", r"3\sqrt{13}"), ("－１２５", "-125"), ("x³", "x^{3}"),
        ("5 1/2", r"5\frac{1}{2}"), ("137½", r"137\frac{1}{2}"), (r"90^{\mathrm{o}}", r"90^\circ"), ("90°", r"90^\circ"), (r"6 - 5\,i", "6 - 5i"),
        (r"6-5\mathrm{i}", "6-5i"), (r"\$ 18.90", "18.90"), (r"42~\text{inches}", "42"), ("15 cm^2", "15"), (r"42 \text{ percent}", r"42\%"), ("9.901e3", "9901"),
        ("6.72e-5", "0.0000672"), (r"\begin{smallmatrix} 1 \\[4pt] 2 \end{smallmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"), ("5!", "5!"),
        (r"0.\overline{3}", r"\frac{1}{3}"), (r"-3.1\bar6", r"-\frac{19}{6}"), (r"0.\overline{3}_8", r"0.\overline{3}_8"), ("2.5 million", "2500000"),
        (r"\$5\text{ million dollars}", "5000000"), ("0.5 million", "500000"), ("5 million and 1", "5 million and 1"), ("1 - i 12", "1 - 12i"), ("sin 12", r"\sin 12"),
        (r"\text{Domain: } (2, 3)", "(2, 3)"), ("The solutions are 1, 2", "1, 2"), (r"\text{There are 116 ways}", "116"), (r"\text{not } 3", r"\text{not } 3"),
        (r"\text{at least } 3", r"\text{at least } 3"), ("**Final Answer: 5**", "5"), ("→ 5", "5"), ("### 5", "5"), (r"\text{Answer: $5$}", "5"),
        (r"\begin{gathered} 5 \end{gathered}", "5"), (r"\bbox[yellow]{5}", "5"), (r"{6 \choose 2}", r"\binom{6}{2}"), (r"\ang{36}", r"36^\circ"),
        (r"^{7}/_{4}", r"\frac{7}{4}"), ("x^7/_4", "x^7/_4"), (r"326{.}5", "326.5"), ("1 + (2)i", "1 + 2i"), ("1 + (+2)i", "1 + 2i"), (r"2\sqrt{-1}", "2i"), ("(3;4]", "(3, 4]"),
        ("(0,9) U (9,36)", r"(0,9) \cup (9,36)"), (r"(0,36) - \{9\}", r"(0,36) \setminus \{9\}"), (r"\text{998 1/2}", r"998\frac{1}{2}"), (r"\text{(2, 4)}", "(2, 4)"),
        (r"\text{7, 5 and 3}", "7, 5 and 3"), (r"17\,€", "17"), (r"\text{€}17", "17"), ("5.4 ¢", "5.4"), (r"90\ \frac{\text{m}}{\text{s}}", "90"), ("9 m/s", "9"),
        ("11 different ways", "11"), ("11 or more", "11 or more"), ("2 thirds", r"\frac{2}{3}"), (r"18\text{ dozen}", r"18 \cdot 12"), ("cot(x)", r"\cot(x)"), ("3*R**2", "3*R^{2}"),
        ("0.(3)", r"\frac{1}{3}"), ("0.1666...", r"\frac{1}{6}"), (r"4.6666\ldots", r"\frac{14}{3}"), ("0.333...", r"\frac{1}{3}"), ("0.384...", "0.384..."), (r"\text{Answer: } 4", "4"), ("**$5$**", "5"), (r"\text{``even.''}", r"\text{even}"), (r"3 \text{ or } 5", r"3 \text{ or } 5"),
    ],
)  # fmt: skip
def test_one_way_of_writing(written: str, form: str) -> None:
    assert normal(written) == form


@settings(max_examples=100, derandomize=True)
@given(TEXTS)
def test_a_normal_form_is_its_own_normal_form(text: str) -> None:
    assert normal(normal(text)) == normal(text)


@pytest.mark.slow
def test_the_value_of_every_gold_is_kept() -> None:
    for gold in GOLDS:
        form = normal(gold)
        assert normal(form) == form
        assert form == gold or (_equal(gold, form) and _equal(form, gold)), (gold, form)


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece",
    ["{", "}", "(", "[", "\\", "$", "**", " ", "1", "1,", ",000", "1 000", "^", "√", r"\text{", r"\mathbf{", r"\frac", r"\left", r"\,", "~", ".", "x^{", "½", "\u202f",
     r"\text{a}", "answer ", r"\begin{matrix}", r"{\over", "Answer: ", "the ", r"\color{", "1/2 ", "sqrt(", "|", "`", "__", "cm ", "1e5 ", "_{8", r"\[", "&", "=", "\n"],
)  # fmt: skip
def test_hostile_texts_take_linear_time(piece: str) -> None:
    """A step with quadratic time would take minutes for this many characters; longer texts stay unchanged."""
    text = (piece * LONGEST_CHARACTERS)[:LONGEST_CHARACTERS]
    began = time.process_time()
    normal(text)
    assert time.process_time() - began < 8
