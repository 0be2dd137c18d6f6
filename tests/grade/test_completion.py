"""Completion and extraction of answers: every form in docs/grading.md."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.benchmarks.load import load
from workloads.grade.items import Generated, entry_points_of, read_outputs
from workloads.graders.extraction.boxed import boxes
from workloads.graders.extraction.completion import Extraction, Rule, read
from workloads.graders.extraction.fenced import fences
from workloads.graders.extraction.pattern import LONGEST_LINE, pattern_of
from workloads.graders.extraction.repetition import loops

if TYPE_CHECKING:
    from _typeshed import TraceFunction

THINKS = Rule("boxed", thinking=True)
BASE = Rule("boxed", thinking=False)
CODE = Rule("fenced", thinking=True)
QUOTES_PIECE = """```python
\"\"\" ''' ' \"\"\" '''
```
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"<think>hm</think> \boxed{5}", Extraction(True, "5", None)),
        (r"hm</think> \boxed{5}", Extraction(True, "5", None)),
        (r"<think>is it \boxed{4}?</think> \boxed{5}", Extraction(True, "5", None)),
        (r"<think>a</think> \boxed{5} or \boxed{6}", Extraction(True, "6", None)),
        (r"<think>a</think> \boxed{5} then \boxed{6", Extraction(True, "5", None)),
        (r"<think>it is \boxed{5}", Extraction(False, "5", "unclosed_think")),
        (r"the answer is \boxed{5}", Extraction(False, "5", "unclosed_think")),
        (r"<think>\boxed{5}</think> so <think> wait \boxed{6}", Extraction(False, "6", "reopened_think")),
        (r"<think>a</think> x <think>b</think> \boxed{7}", Extraction(True, "7", None)),
        (r"<think>a< /think> \boxed{5}", Extraction(False, "5", "unclosed_think")),
        (r"<think>a</THINK> \boxed{5}", Extraction(False, "5", "unclosed_think")),
        (r"</think></think>\boxed{5}", Extraction(True, "5", None)),
        (r"a</think>$$\boxed{5}$$<|im_end|>", Extraction(True, "5", None)),
        (r"<think>\boxed{5}</think> it is five", Extraction(False, "5", "no_answer_in_zone")),
        (r"<think>\boxed{5}</think> it is \boxed{5", Extraction(False, "5", "unclosed_answer")),
        ("<think>a</think>", Extraction(False, None, "no_answer_in_zone")),
        ("", Extraction(False, None, "unclosed_think")),
    ],
)
def test_a_trained_model_answers_after_its_last_closed_think(text: str, expected: Extraction) -> None:
    assert read(text, THINKS, ended=True) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"so \boxed{5}. Then I ramble", Extraction(True, "5", None)),
        (r"<think>\boxed{5}", Extraction(True, "5", None)),
        ("so five", Extraction(False, None, "no_answer_in_zone")),
        (r"so \boxed{", Extraction(False, None, "unclosed_answer")),
    ],
)
def test_the_base_answers_anywhere(text: str, expected: Extraction) -> None:
    assert read(text, BASE, ended=False) == expected


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed {5}", "5"),
        (r"\fbox{5}", "5"),
        (r"\boxed 5", None),
        (r"\boxed5", None),
        (r"\boxedx{5}", None),
        (r"\boxed{}", None),
        (r"put it in \boxed{} : \boxed{5} \boxed{ }", "5"),
        (r"\boxed{\text{even}}", r"\text{even}"),
        (r"\boxed{12\text{ cm}^2}", r"12\text{ cm}^2"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{\left\{ x \right.}", r"\left\{ x \right."),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed{x = \boxed{5}}", "x = 5"),
        (r"\boxed{x = \boxed{5}", "5"),
        (r"the set {1, 2 and \boxed{5}", "5"),
        (r"a } stray one, \boxed{5}", "5"),
        ("\\boxed{a\nb}", "a\nb"),
        ("\\boxed\n{5}", "5"),
        (r"\boxed{5}}", "5"),
        (r"\boxed{5\}", None),
        (r"\boxed{\begin{pmatrix}1\\2\end{pmatrix}}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
        (r"\\boxed{5}", None),
        (r"\boxed[5]", None),
    ],
)
def test_boxes(text: str, answer: str | None) -> None:
    assert boxes(text).answer == answer


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\nx = 1\n```", "x = 1\n"),
        ("```py\nx = 1\n```", "x = 1\n"),
        ("```Python3\nx = 1\n```", "x = 1\n"),
        ("``` python\nx = 1\n```", "x = 1\n"),
        ("```{.python .numberLines}\nx = 1\n```", "x = 1\n"),
        ('```python title="a.py"\nx = 1\n```', "x = 1\n"),
        ("```python:a.py\nx = 1\n```", "x = 1\n"),
        ("~~~python\nx = 1\n~~~", "x = 1\n"),
        ("~~~python\n```\n~~~", "```\n"),
        ("````python\n'''\n```\n'''\n````", "'''\n```\n'''\n"),
        ("```python\r\nx = 1\r\ny = 2\r\n```\r\n", "x = 1\ny = 2\n"),
        ("  ```python\n  if x:\n    y = 1\n  ```", "if x:\n  y = 1\n"),
        ("1. So:\n   ```python\n   x = 1\n   ```", "x = 1\n"),
        ("- ```python\n  x = 1\n  ```", "x = 1\n"),
        ("Here it is: ```python\nx = 1\n```", "x = 1\n"),
        ("```python\nx = 1\n```<|im_end|>", "x = 1\n"),
        ("```python\nx = 1\n``` ", "x = 1\n"),
        ("```python\nx = '```'\n```", "x = '```'\n"),
        ('```python\n"""\n```\n>>> f()\n```\n"""\nx = 1\n```', '"""\n```\n>>> f()\n```\n"""\nx = 1\n'),
        ("```python\nx = '''broken\n```\nAgain:\n```python\nx = 2\n```", "x = 2\n"),
        ("```python\nx = 1\n```\ntext\n```python\nx = 2\n```", "x = 2\n"),
        ("```python\nx = 1\n```\n```python\nx = 2\n", "x = 1\n"),
        ("```python\nx = 1\n```\n```python\n```", "x = 1\n"),
        ("```text\nno\n```\n```python\nx = 1\n```", "x = 1\n"),
        ("```python\nx = 1", None),
        ("```python\nx = 1\n``", None),
        ("```\nx = 1\n```", None),
        ("```pycon\n>>> x\n```", None),
        ("```cpp\nx\n```", None),
        ("```python\n\ufeffx = 1\n```", "x = 1\n"),
        ("~~~ `a` ~~~python\nx = 1\n~~~", "x = 1\n"),
        ("~~~python `a`\nx = 1\n~~~", None),
        ("```python x = 1```", None),
        ("use ```python for code", None),
    ],
)
def test_fences(text: str, code: str | None) -> None:
    assert fences(text).answer == code


def _blocks(*programs: str) -> str:
    return "\nSo:\n".join(f"```python\n{program}\n```" for program in programs)


SOLUTION = "def f(x):\n    return math.pi * x"
FUTURE = f"from __future__ import annotations\n{SOLUTION}"


@pytest.mark.parametrize(
    ("programs", "answer"),
    [
        (("def f(x):\n    return x", "print(f(10))"), "def f(x):\n    return x"),
        (("def f(x):\n    return x", "assert f(1) == 1", ">>> f(1)\n1"), "def f(x):\n    return x"),
        (("def f(x):\n    return x", "def f(x):\n    return 2 * x"), "def f(x):\n    return 2 * x"),
        (("def f(x):\n    return x", "def g(x):\n    return f(x)"), "def f(x):\n    return x"),
        (("f = lambda x: x", "f(1)"), "f = lambda x: x"),
        (("if True:\n    def f(x): return x", "f(1)"), "if True:\n    def f(x): return x"),
        (("async def f(x): return x", "f(1)"), "async def f(x): return x"),
        (("from math import sqrt as f", "f(1)"), "from math import sqrt as f"),
        (("def f(x):\n    return x", "class C:\n    def f(self): pass"), "def f(x):\n    return x"),
        (("def f(x):\n    return x", "'''\ndef f(x): pass\n'''"), "def f(x):\n    return x"),
        (("def f(x):\n    return x", "def f(x) return x"), "def f(x) return x"),
        (("def g(x): return x", "h(1)"), "h(1)"),
        (("import math", SOLUTION), f"import math\n{SOLUTION}"),
        (("from math import *", "def f(x): return pi"), "from math import *\ndef f(x): return pi"),
        (("import os, re\nimport math\nx = 1", SOLUTION, "f(1)"), f"import math\n{SOLUTION}"),
        (("import math as m", SOLUTION), SOLUTION),
        (("import math", f"import math\n{SOLUTION}"), f"import math\n{SOLUTION}"),
        (("import math", "def f(math): return math"), "def f(math): return math"),
        (("import abs", "def f(x): return abs(x)"), "def f(x): return abs(x)"),
        (("import math", FUTURE), FUTURE),
    ],
)
def test_the_last_block_that_defines_the_entry_point_counts(programs: tuple[str, ...], answer: str) -> None:
    reading = read(_blocks(*programs), Rule("fenced", thinking=False), ended=True, entry_point="f")
    assert (reading.completed, reading.answer) == (True, answer + "\n")


def test_a_single_block_is_graded_as_it_is() -> None:
    assert read(_blocks("f(1)"), Rule("fenced", thinking=False), ended=True, entry_point="f").answer == "f(1)\n"


def test_a_block_in_the_zone_is_graded_although_one_in_the_thinking_defines_the_function() -> None:
    text = "<think>" + _blocks("def f(): pass") + "</think>" + _blocks("f()")
    assert read(text, CODE, ended=True, entry_point="f").answer == "f()\n"


def test_each_problem_has_its_entry_point(tmp_path: Path) -> None:
    rows = [
        {"id": name, "prompt": "p", "entry_point": name, "tests": [{"args": [], "expected": 1}]} for name in ("f", "g")
    ]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = _blocks("def f(): pass", "def g(): pass", "1").encode()
    outputs = [Generated(name, 0, tuple(text), "stop") for name in ("f", "g")]
    points = entry_points_of(load(tmp_path / "b.jsonl", grader="code"))
    items = read_outputs(outputs, [1000], Rule("fenced", thinking=False), "", lambda ids: bytes(ids).decode(), points)
    assert [item.answer for item in items] == ["def f(): pass\n", "def g(): pass\n"]


@pytest.mark.parametrize(
    "block",
    [
        "(" * 50_000 + "f",
        "f = " + "-" * 100_000 + "1",
        "f" + ".b" * 60_000,
        "f+" * 30_000 + "f",
        "\x00f",
        "f = " + "9" * 5_000,
        "f\ud800",
        "f[" * 500 + "a b",
        "def f(): pass\n" * 40_000,
    ],
)
def test_a_block_that_cannot_be_parsed_does_not_end_the_reading(block: str) -> None:
    text = "</think>" + _blocks("import os", block, "f(1)")
    assert read(text, CODE, ended=True, entry_point="f").completed


def test_a_fence_that_the_prompt_opened_is_read_with_the_output() -> None:
    assert read("```python\n" + "x = 1\n```", Rule("fenced", thinking=False), ended=True).answer == "x = 1\n"


def test_a_tag_in_the_code_itself_is_a_tag() -> None:
    text = "hm</think>\n```python\ns = '<think>'\n```"
    assert read(text, CODE, ended=True) == Extraction(False, "s = '<think>'\n", "reopened_think")


def test_tokens_that_end_within_a_character_leave_a_mark_there_and_change_nothing_else() -> None:
    output = Generated("p", 0, tuple("\\boxed{é}".encode()), "length")
    items = read_outputs([output], [8, 9, 10], BASE, "", lambda ids: bytes(ids).decode(errors="replace"))
    assert [(item.completed, item.answer) for item in items] == [(False, None), (False, None), (True, "é")]
    ended = Generated("p", 0, tuple(b"\\boxed{5} \xc3"), "length")
    (item,) = read_outputs([ended], [11], BASE, "", lambda ids: bytes(ids).decode(errors="replace"))
    assert item.answer == "5"


def test_any_text_is_an_answer_only_when_the_output_ended_by_itself() -> None:
    rule = Rule("any", thinking=True)
    assert read("<think>a</think> Paris \n", rule, ended=True) == Extraction(True, "Paris", None)
    assert read("<think>a</think> Par", rule, ended=False) == Extraction(False, None, "unclosed_answer")
    assert read("<think>Paris", rule, ended=True) == Extraction(False, None, "unclosed_think")


def test_a_pattern_matches_whole_lines() -> None:
    rule = Rule("pattern", thinking=False, pattern=pattern_of(r"^Answer: (?P<answer>.+)$"))
    assert read("Answer: 4\nAnswer: 42\n", rule, ended=False) == Extraction(True, "42", None)
    assert read("Answer: 4\nAnswer: 42", rule, ended=False) == Extraction(True, "4", None)
    assert read("Answer: 4\nAnswer: 42", rule, ended=True) == Extraction(True, "42", None)


@pytest.mark.parametrize(
    ("expression", "line"),
    [
        (r"(a*)*b", "a" * LONGEST_LINE),
        (r"^(a|a)*$", "a" * (LONGEST_LINE - 1) + "b"),
        (r"(.*,){12}x", "," * LONGEST_LINE),
        (r"(?P<answer>(\w+\s?)*)!", "a " * (LONGEST_LINE // 2)),
    ],
)
def test_hostile_lines_do_not_keep_an_expression_busy(expression: str, line: str) -> None:
    """A backtracking engine would need more steps than there are atoms; the test's time limit would detect it."""
    text = f"{line}\n" * 50
    assert read(text, Rule("pattern", thinking=False, pattern=pattern_of(expression)), ended=True).answer is None


def test_a_pattern_without_groups_takes_its_match_and_with_some_the_first() -> None:
    text = "the answer is (b) \ud800\n"
    for expression, answer in ((r"\(.\)", "(b)"), (r"is \((.)\)", "b"), (r"(is) \((?P<answer>.)\)", "b")):
        assert read(text, Rule("pattern", thinking=False, pattern=pattern_of(expression)), ended=True).answer == answer


PIECES = st.sampled_from(
    ["<think>", "</think>", "\\boxed{", "\\fbox {", "{", "}", "\\", "\\{", "```python\n", "```", "~~~py\n", "~~~", "\n",
     "\r\n", "'''", '"""', "'", "#", "x = 1", " ", "é", "�", "<|im_end|>", "> ", "- "]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=60).map("".join) | st.text(max_size=200)
PATTERN = pattern_of(r"(?i)(?:x = |\d)(?P<answer>.*)")
RULES = st.builds(Rule, st.sampled_from(["boxed", "fenced", "any"]), st.booleans()) | st.builds(
    Rule, st.just("pattern"), st.booleans(), st.just(PATTERN)
)


@given(TEXTS, RULES, st.booleans())
def test_no_text_raises_and_an_answer_is_part_of_its_text(text: str, rule: Rule, ended: bool) -> None:
    reading = read(text, rule, ended=ended)
    assert reading == read(text, rule, ended=ended)
    assert (reading.incomplete is None) == reading.completed
    assert not (reading.completed and reading.answer is None)
    assert reading.answer is None or reading.answer.strip()


@given(TEXTS, st.booleans())
def test_a_box_found_is_balanced(text: str, thinking: bool) -> None:
    answer = read(text, Rule("boxed", thinking), ended=True).answer
    if answer is not None:
        assert boxes(f"\\boxed{{{answer}}}").answer is not None


@given(st.binary(max_size=120), st.binary(max_size=120), st.integers(1, 200), RULES)
def test_the_reading_at_a_budget_depends_on_the_tokens_before_it_only(
    head: bytes, tail: bytes, budget: int, rule: Rule
) -> None:
    """Tokens are bytes here, so budgets cut in the middle of characters."""

    def decode(ids: Sequence[int]) -> str:
        return bytes(ids).decode(errors="replace")

    def at_budget(ids: bytes) -> object:
        output = Generated("p", 0, tuple(ids), "length")
        (item,) = read_outputs([output], [budget], rule, "", decode)
        return item

    same = (head * budget)[:budget] if head else b""
    if len(same) == budget:
        assert at_budget(same + tail) == at_budget(same + tail[::-1] + b"\\boxed{9}")


def test_an_output_that_ended_within_the_budget_is_whole_there_and_cut_below() -> None:
    output = Generated("p", 0, tuple(b"\\boxed{5}"), "stop", end_tokens=1)
    items = list(read_outputs([output], [10, 9, 8], BASE, "", lambda ids: bytes(ids).decode()))
    assert [(i.budget_tokens, i.tokens, i.ended, i.completed) for i in items] == [
        (8, 8, False, False),
        (9, 9, False, True),
        (10, 10, True, True),
    ]


def test_prefixes_that_are_the_same_are_read_once() -> None:
    calls = []

    def decode(ids: object) -> str:
        calls.append(ids)
        return "x"

    list(read_outputs([Generated("p", 0, (1, 2), "stop")], [4, 8, 16], BASE, "", decode))
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (list(range(500)), False),
        ([7] * 128, True),
        ([7] * 100, False),
        (list(range(300)) + [1, 2, 3] * 50, True),
        (list(range(300)) * 2, False),
        (list(range(300)) * 4, True),
        ([1, 2, 3] * 50 + list(range(300)), False),
        ([], False),
    ],
)
def test_loops(tokens: list[int], expected: bool) -> None:
    assert loops(tokens) is expected


def test_a_cut_output_that_repeats_itself_is_a_loop_and_one_that_ended_is_not() -> None:
    ids = tuple(b"no idea. " * 60)
    for reason, expected in (("length", "repetition_loop"), ("stop", "unclosed_think")):
        output = Generated("p", 0, ids, reason)  # type: ignore[arg-type]
        (item,) = read_outputs([output], [1000], THINKS, "", lambda i: bytes(i).decode())
        assert item.incomplete == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{" * 30_000,
        "\\boxed{{" * 10_000 + "}" * 20_000,
        "```python\n" * 10_000,
        "`" * 200_000 + "x`",
        "```" + " " * 100_000 + "`",
        "```python\n'''\n```\n" * 5_000,
        "~~~ " * 100_000 + "`",
        QUOTES_PIECE * 20_000,
        "\n".join("`" * n + "python" for n in range(1_000, 2, -1)) + "\nx" * 200_000,
        "\n".join("`" * n + "python" for n in range(1_000, 2, -1)) + "\n```" * 100_000,
        ('```python\n"""\n```\n' * 100 + ("x" * 5_000 + "\n") * 100) * 3,
        "<think>" * 50_000 + "</think>" * 50_000,
    ],
)
def test_megabytes_of_beginnings_are_read_in_linear_time(text: str) -> None:
    """Quadratic reading would exceed the test's time limit."""
    for rule in (THINKS, BASE, CODE, Rule("fenced", thinking=False)):
        read(text, rule, ended=False)


@pytest.mark.parametrize(
    "piece",
    ["~~~ ", QUOTES_PIECE, "```python\n'''\n```\n", "````python\n```\n", "`~~~python "],
)
def test_four_times_the_text_takes_four_times_the_steps(piece: str) -> None:
    """Counted in executed lines of code, which do not depend on the machine's load."""
    few, many = (_steps(piece * (n // len(piece)) + "`") for n in (10_000, 40_000))
    assert many < 5 * few + 1_000


def _steps(text: str) -> int:
    steps = 0

    def count(frame: FrameType, event: str, argument: object) -> "TraceFunction":
        nonlocal steps
        steps += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        fences(text)
    finally:
        sys.settrace(before)
    return steps
