"""Compares texts that may differ in spaces and Unicode form. Pure."""

import unicodedata
from collections.abc import Sequence

GROWTH = 4
"""The numbers of code points of a text and its NFC form differ at most by this factor
(https://www.unicode.org/faq/normalization.html).
"""


def is_exact(answer: str, gold: str) -> bool:
    """Returns whether they are equal except for surrounding space, runs of space and Unicode form (NFC).

    Case counts.
    """
    words, gold_words = answer.split(), gold.split()
    length, gold_length = sum(map(len, words)), sum(map(len, gold_words))
    if len(words) != len(gold_words) or length > GROWTH**2 * gold_length:
        return False  # they are not normalised, because this takes time quadratic in a run of combining marks
    return _normal(words) == _normal(gold_words)


def _normal(words: Sequence[str]) -> str:
    return unicodedata.normalize("NFC", " ".join(words))
