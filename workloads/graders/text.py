"""Texts that are equal but for their spaces and Unicode form. Pure."""

import unicodedata
from collections.abc import Sequence

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
