"""Graders that compare texts: exact and choice. Pure."""

import re
import unicodedata
from collections.abc import Sequence

from workloads.graders.extraction.boxed import boxes

_WRAPPED = re.compile(
    r"^(?:\\(?:text|mathrm|mathbf|textbf|textrm|boldsymbol|bm|boxed|fbox|underline)\s?\{(?P<a>.*)\}"
    r"|\$(?P<b>.*)\$|\*\*(?P<c>.*)\*\*|__(?P<d>.*)__|\{(?P<e>.*)\}|\\\((?P<f>.*)\\\)|\\\[(?P<g>.*)\\\])[.,]?$",
    re.DOTALL,
)
_CHOICE = re.compile(r"^\(?(?P<letter>[A-Za-z])(?:[).:\s]|$)")
_BOLD_CHOICE = re.compile(r"^(?:\*\*|__)\s*+\(?(?P<letter>[A-Za-z])\)?[.:]?\s*+(?:\*\*|__)(?![A-Za-z0-9])")
_MARKS = r"(?:\\(?:text|mathrm|mathbf|textbf|boxed|fbox)\s?\{|[*$({_\[]|\\\(|\s)"
_SAID = re.compile(
    r"(?<![A-Za-z])(?:(?:answer|choice|option)s?(?:\s++(?:is|would\s++be|must\s++be))?+"
    r"|(?:I|we)\s++(?:choose|pick|select|chose))"
    rf"\s*+:?+(?P<marks>{_MARKS}*+)(?P<letter>[A-Z])(?![A-Za-z0-9'])(?P<after>[^\n]?[^\n]?)",
    re.IGNORECASE,
)
_ENDS_CLAUSE = re.compile(r"$|[.,;:!?)\]}*$]")
_MARKED = frozenset("*({[_\\")
MOST_WRAPPINGS = 20
LONGEST_WRAPPED = 2_000
"""A longer text is not one letter or choice in delimiters."""
GROWTH = 4
"""Code points of a text and of its NFC form differ by no more than this factor (https://www.unicode.org/faq/normalization.html)."""
_WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}


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

    In this order: the answer is a letter (`B`, `(b)`, `B. because`, `\text{B}`, `**B** because`) or a choice's own
    text; the last box in it is one; the last `answer is B`, `option B` or `I choose (b)` in it.
    """
    text = _unwrapped(answer.strip())
    letter = _alone(text, choices)
    if letter is None and (boxed := boxes(answer).answer) is not None:
        letter = _alone(_unwrapped(boxed), choices)
    if letter is None and (said := _said(text)) is not None:
        letter = _known(said, choices)
    return letter


def _alone(text: str, choices: Sequence[str]) -> str | None:
    """The letter that the whole text is or begins with, or whose choice it is."""
    for index, choice in enumerate(choices):
        if is_exact(text, choice):
            return chr(ord("A") + index)
    text = _ascii(text[:100]) + text[100:]
    if bold := _BOLD_CHOICE.match(text):
        return _known(bold["letter"].upper(), choices)
    if match := _CHOICE.match(text):
        letter = match["letter"].upper()
        if len(text) <= 3 or text[:1] == "(" or text[1:2] in ").:":
            return _known(letter, choices)
    return None


def _said(text: str) -> str | None:
    """The last letter that a sentence names; a small one, and I, only in brackets, in bold or at a clause's end."""
    found = None
    for match in _SAID.finditer(_ascii(text)):
        letter, marked = match["letter"], bool(_MARKED & set(match["marks"]))
        if letter.isupper() and letter != "I":
            found = letter
        elif marked or _ENDS_CLAUSE.match(match["after"].lstrip()):
            found = letter.upper()
    return found


def _ascii(text: str) -> str:
    """Full-width letters and signs as ASCII."""
    return text if text.isascii() else text.translate(_WIDE)


def _known(letter: str, choices: Sequence[str]) -> str | None:
    return letter if not choices or ord(letter) - ord("A") < len(choices) else None


def _unwrapped(text: str) -> str:
    for _ in range(MOST_WRAPPINGS if len(text) <= LONGEST_WRAPPED else 0):
        match = _WRAPPED.match(text)
        if match is None:
            break
        inner = next(group for group in match.groups() if group is not None)
        if _closes_early(inner):
            break
        text = inner.strip()
    return text


def _closes_early(inner: str) -> bool:
    r"""The first and the last delimiter are not each other's: `$x$ or $y$`, `**C** and **D**`, `\text{a} \text{b}`."""
    depth = 0
    for character in inner:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth < 0:
            return True
    return "**" in inner or "$" in inner or "__" in inner
