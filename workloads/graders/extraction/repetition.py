"""Detects repetition loops: whether an output's end repeats itself."""

from collections.abc import Sequence

LOOK_BACK_TOKENS = 2048
FEWEST_TOKENS = 128
"""The shortest loop in tokens,"""
FEWEST_ROUNDS = 4
"""and its smallest number of repetitions."""


def loops(token_ids: Sequence[int]) -> bool:
    """Returns whether some period p repeats over at least the last max(FEWEST_TOKENS, FEWEST_ROUNDS * p) tokens.

    Prefix function (Knuth, Morris, Pratt) of the reversed end: time linear in LOOK_BACK_TOKENS.
    """
    tail = list(reversed(token_ids[-LOOK_BACK_TOKENS:]))
    border = [0] * len(tail)
    for end in range(1, len(tail)):
        length = border[end - 1]
        while length and tail[end] != tail[length]:
            length = border[length - 1]
        border[end] = length + (tail[end] == tail[length])
        span = end + 1
        period = span - border[end]
        if span >= FEWEST_TOKENS and span >= FEWEST_ROUNDS * period:
            return True
    return False
