"""Extracts answers with a custom benchmark's expression: within single lines; the last match counts."""

import re
from dataclasses import dataclass
from typing import Any

from workloads.benchmarks.pattern import compile_pattern
from workloads.graders.extraction.boxed import Found

LONGEST_LINE = 2_000
"""Longer lines have no answer."""


@dataclass(frozen=True)
class Pattern:
    """The answer is the expression's group `answer`, or its first group, or the whole match."""

    expression: Any

    def last(self, text: str, *, ended: bool) -> Found:
        """Returns the last match in a complete line: one with its newline, or the last line of an output that ended."""
        lines = re.split(r"\r\n|\n|\r", text.encode(errors="replace").decode())
        complete = lines if ended else lines[:-1]
        for line in reversed(complete):
            if len(line) <= LONGEST_LINE and (match := self.expression.search(line)):
                groups = match.groupdict()
                answer = groups["answer"] if "answer" in groups else match.group(1 if self.expression.groups else 0)
                if answer and answer.strip():
                    return Found(answer.strip())
        return Found(None, unclosed=not ended and bool(self.expression.search(lines[-1][:LONGEST_LINE])))


def pattern_of(source: str) -> Pattern:
    """Raises PatternError."""
    return Pattern(compile_pattern(source))
