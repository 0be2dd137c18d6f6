"""Math answers: their normal forms, rules of our own where math-verify is known to err, and math-verify for all else.

math-verify is given each text in a box (108 of 500 raw golds of MATH-500 do not match themselves otherwise), the gold
first. Its own timeouts are off: they work by signals and look like "wrong"; the process that runs this is killed
instead (`checker`).
"""

import logging
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from math_verify import parse, verify
from sympy import Basic, Eq, Float, Integer, Rational, Set

from workloads.graders.math.costs import refusal_reason
from workloads.graders.math.nearness import are_near
from workloads.graders.math.sets import set_of
from workloads.graders.math.text import normal
from workloads.graders.math.text.bases import same_base
from workloads.graders.math.text.rewritings import alternatives, rewritings, same_kind
from workloads.graders.math.text.words import same_letter, same_words

SHOWN_CHARACTERS = 300
_FIRST_ENTRY = re.compile(r"(\\begin\{[bBvVp]?(?:small)?matrix\})\s?(?=\d)")
r"""After `\frac{1}{49}` math-verify takes a matrix's first digit for a denominator, unless two spaces are before it."""

logging.getLogger("math_verify").setLevel(logging.ERROR)
logging.getLogger("latex2sympy2_extended").setLevel(logging.ERROR)


@dataclass(frozen=True)
class MathVerdict:
    """`parsed`, `gold`: the two as they were compared, as text. `refused`: why the answer was not evaluated, or empty.

    `gold_is_text`: math-verify read no value in the gold, so that it equals its own text only.
    """

    right: bool
    parsed: str
    gold: str
    refused: str = ""
    gold_is_text: bool = False


def check(answer: str, gold: str) -> MathVerdict:
    """Returns whether `answer` equals `gold`. Raises what parsing or comparing raises; may take forever."""
    right_text, text = normal(gold), normal(answer)
    if (reason := refusal_reason(text)) is not None and refusal_reason(right_text) is None:
        return MathVerdict(False, text[:SHOWN_CHARACTERS], right_text[:SHOWN_CHARACTERS], reason)
    decided = _decided(right_text, text)
    if decided is not None:
        return MathVerdict(decided, text[:SHOWN_CHARACTERS], right_text[:SHOWN_CHARACTERS])
    right = _equal_somehow(right_text, text)
    if not right and (values := alternatives(text)):
        right = all(_equal_somehow(right_text, normal(value)) for value in values)
    golds = _parsed(right_text)
    return MathVerdict(right, _shown(_parsed(text)), _shown(golds), gold_is_text=all(isinstance(v, str) for v in golds))


def _decided(gold: str, answer: str) -> bool | None:
    """Returns whether the two are equal, if their texts show it without parsing; None if not."""
    if not same_kind(gold, answer):
        return False
    for rule in (same_base, same_letter, same_words):
        if (verdict := rule(gold, answer)) is not None:
            return verdict
    return None


def _equal_somehow(gold: str, answer: str) -> bool:
    return _equal(gold, answer) or any(_equal(*pair) for pair in rewritings(gold, answer))


def _equal(gold: str, answer: str) -> bool:
    golds, values = _parsed(gold), _parsed(answer)
    if values and _is_false(values[0]):
        return False
    if verify(golds, values, timeout_seconds=None, raise_on_error=True):
        return are_near(golds[0], values[0])
    right, given = _set(gold), _set(answer)
    if right is not None and given is not None:
        return bool(verify([right], [given], timeout_seconds=None, raise_on_error=True))
    if right is not None and values and isinstance(values[0], Basic):
        return bool(verify(golds, values, allow_set_relation_comp=True, timeout_seconds=None, raise_on_error=True))
    exact = _exact(golds), _exact(values)
    return exact != (None, None) and bool(
        verify(exact[0] or golds[:1], exact[1] or values[:1], timeout_seconds=None, raise_on_error=True)
    )


def _is_false(value: Any) -> bool:
    """Returns whether it is an equation of two different integers, of which math-verify compares the right one."""
    if not isinstance(value, Eq):
        return False
    left, right = value.lhs, value.rhs
    return isinstance(left, Integer) and isinstance(right, Integer) and bool(left != right)


@lru_cache(maxsize=4096)
def _set(text: str) -> Set | None:
    """The set that the text names or describes by conditions, or None."""
    described = set_of(text, _value)
    if described is not None:
        return described
    value = _value(text)
    return value if isinstance(value, Set) and not value.is_FiniteSet else None


def _value(text: str) -> Any:
    values = _parsed(text)
    return values[0] if values and not isinstance(values[0], str) else None


def _exact(values: list[Any]) -> list[Any] | None:
    r"""A value that is computed from decimals, as in `\frac{3840.5}{289}`, with rationals; None for all others."""
    if not values or not isinstance(values[0], Basic) or isinstance(values[0], Float) or not values[0].has(Float):
        return None
    return [values[0].xreplace({number: Rational(str(number)) for number in values[0].atoms(Float)})]


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Any:
    """Parsing depends on the text only, and comparing changes nothing in what was parsed: a text is parsed once.

    `tests/grade/test_math.py` checks every gold and many variants of it both ways: parsed again, and from the cache.
    """
    return parse(_boxed(text), parsing_timeout=None, raise_on_error=True)


def warm() -> None:
    """Imports the libraries that load late, so that forked children share them."""
    check(r"\frac{1}{2}", "0.5")
    check("x^2 - 1", "(x - 1)(x + 2)")


def _boxed(answer: str) -> str:
    answer = _FIRST_ENTRY.sub(r"\1  ", answer)
    return answer if "\\boxed{" in answer else f"\\boxed{{{answer}}}"


def _shown(values: list[Any]) -> str:
    return ", ".join(str(value)[:SHOWN_CHARACTERS] for value in values)[:SHOWN_CHARACTERS]
