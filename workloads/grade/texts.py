"""Graders that compare texts: exact and choice. Pure."""

import re
import unicodedata
from collections.abc import Sequence

_WRAPPED = re.compile(r"^(?:\\(?:text|mathrm|mathbf|textbf)\{(?P<a>.*)\}|\$(?P<b>.*)\$|\*\*(?P<c>.*)\*\*)$", re.DOTALL)
_CHOICE = re.compile(r"^\(?(?P<letter>[A-Za-z])(?:[).:\s]|$)")
_SAID = re.compile(
    r"(?:answer|choice|option)(?:\s++is)?+\s*+:?+\s*+\*{0,3}+\(?+(?P<letter>[A-Z])\b(?!')", re.IGNORECASE
)
MOST_WRAPPINGS = 20
GROWTH = 4
"""Code points of a text and of its NFC form differ by no more than this factor (https://www.unicode.org/faq/normalization.html)."""


def is_exact(answer: str, gold: str) -> bool:
    """Equal but for surrounding space, runs of space and Unicode form (NFC). Case counts."""
    words, gold_words = answer.split(), gold.split()
    length, gold_length = sum(map(len, words)), sum(map(len, gold_words))
    if len(words) != len(gold_words) or length > GROWTH**2 * gold_length:
        return False  # and is not normalised, which takes time quadratic in a run of combining marks
    return _normal(words) == _normal(gold_words)


def _normal(words: Sequence[str]) -> str:
    return unicodedata.normalize("NFC", " ".join(words))


def choice_of(answer: str, choices: Sequence[str]) -> str | None:
    r"""The letter (upper case) that an answer names, or None.

    `B`, `(b)`, `B. because`, `\text{B}`, a choice's own text, or the last `answer is B` in it.
    """
    text = _unwrapped(answer.strip())
    for index, choice in enumerate(choices):
        if is_exact(text, choice):
            return chr(ord("A") + index)
    if match := _CHOICE.match(text):
        letter = match["letter"].upper()
        if len(text) <= 3 or text[:1] == "(" or text[1:2] in ").:":
            return _known(letter, choices)
    said = list(_SAID.finditer(text))
    return _known(said[-1]["letter"].upper(), choices) if said else None


def _known(letter: str, choices: Sequence[str]) -> str | None:
    return letter if not choices or ord(letter) - ord("A") < len(choices) else None


def _unwrapped(text: str) -> str:
    for _ in range(MOST_WRAPPINGS):
        match = _WRAPPED.match(text)
        if match is None:
            break
        text = next(group for group in match.groups() if group is not None).strip()
    return text
