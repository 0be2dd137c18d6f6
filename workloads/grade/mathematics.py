"""Math answers through math-verify, one at a time, in a process that may be killed (`checker`).

math-verify is given the extracted answer in a box, not the text (whole-text parsing merges boxes), the gold first and
in a box too (108 of 500 raw golds of MATH-500 do not match themselves otherwise). Its own timeouts are off: they work
by signals and look like "wrong"; the process that runs this is killed instead.
"""

import logging
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from math_verify import parse, verify

SHOWN_CHARACTERS = 300

logging.getLogger("math_verify").setLevel(logging.ERROR)
logging.getLogger("latex2sympy2_extended").setLevel(logging.ERROR)


@dataclass(frozen=True)
class MathVerdict:
    """`parsed`, `gold`: what math-verify made of the two, as text."""

    right: bool
    parsed: str
    gold: str


def check(answer: str, gold: str) -> MathVerdict:
    """Whether `answer` equals `gold`. Raises what parsing or comparing raises; may take for ever."""
    gold_values, values = _parsed(gold), _parsed(answer)
    right = verify(gold_values, values, timeout_seconds=None, raise_on_error=True)
    return MathVerdict(bool(right), _shown(values), _shown(gold_values))


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Any:
    """Parsing depends on the text only, and comparing changes nothing in what was parsed: a text is parsed once.

    `tests/grade/test_math.py` asks every gold and many variants of it both ways, parsed anew and not.
    """
    return parse(_boxed(text), parsing_timeout=None, raise_on_error=True)


def warm() -> None:
    """Loads what is loaded late, so that forked children share it."""
    check(r"\frac{1}{2}", "0.5")
    check("x^2 - 1", "(x - 1)(x + 2)")


def _boxed(answer: str) -> str:
    return answer if "\\boxed{" in answer else f"\\boxed{{{answer}}}"


def _shown(values: list[Any]) -> str:
    return ", ".join(str(value)[:SHOWN_CHARACTERS] for value in values)[:SHOWN_CHARACTERS]
