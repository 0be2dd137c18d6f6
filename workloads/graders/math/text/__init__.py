r"""Rewrites an answer in mathematics to its normal form: one notation for each meaning. Pure text to text.

`normal` is idempotent, takes time linear in the text, and leaves the value of an answer as it is. math-verify reads
what it returns (`mathematics`), for golds and answers alike.
"""

import re

from workloads.graders.math.text.braces import elements_unbraced, fractions_in_braces
from workloads.graders.math.text.characters import in_latex
from workloads.graders.math.text.commands import plain
from workloads.graders.math.text.numbers import without_units, written_once
from workloads.graders.math.text.outside import bare

MOST_ROUNDS = 12
"""An answer whose form still changes after this many rounds is left as it was written."""
LONGEST_CHARACTERS = 20_000
"""A longer text is not changed."""
_SPACES = re.compile(r"\s++")


def normal(text: str) -> str:
    """The text in its normal form; the text itself, if it has none."""
    if len(text) > LONGEST_CHARACTERS:
        return text
    before = text
    for _ in range(MOST_ROUNDS):
        after = _once(before)
        if after == before:
            return after
        before = after
    return text


def _once(text: str) -> str:
    text = bare(written_once(in_latex(text)))
    text = _SPACES.sub(" ", plain(text).replace("~", " "))
    text = elements_unbraced(fractions_in_braces(text))
    return bare(without_units(bare(text)))
