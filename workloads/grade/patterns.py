"""A custom benchmark's own completion rule: a regular expression over single lines."""

import re
from dataclasses import dataclass

from workloads.grade.boxes import Found

LONGEST_LINE = 2_000
"""Longer lines hold no answer: it bounds what a slow expression can do with hostile text."""


class PatternError(ValueError):
    """The expression cannot be used."""


@dataclass(frozen=True)
class Pattern:
    """Matches within a line; the answer is its group `answer`, or its first group, or the whole match."""

    expression: re.Pattern[str]

    def last(self, text: str, *, ended: bool) -> Found:
        """The last match in a complete line: one with its newline, or the last line of an output that ended."""
        lines = re.split(r"\r\n|\n|\r", text)
        complete = lines if ended else lines[:-1]
        for line in reversed(complete):
            if len(line) <= LONGEST_LINE and (match := self.expression.search(line)):
                groups = match.groupdict()
                answer = groups["answer"] if "answer" in groups else match.group(1 if match.re.groups else 0)
                if answer and answer.strip():
                    return Found(answer.strip())
        return Found(None, unclosed=not ended and bool(self.expression.search(lines[-1][:LONGEST_LINE])))


def compile_pattern(source: str) -> Pattern:
    """PatternError says what is wrong with it."""
    try:
        return Pattern(re.compile(source))
    except re.error as e:
        raise PatternError(f"completionPattern {source!r} is not a regular expression: {e}") from e
