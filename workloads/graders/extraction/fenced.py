"""Finds closed python fences in a text: the code of the last one, or of the last one that defines a function.

It follows CommonMark, with exceptions for real outputs: any indentation (which is removed from the code), an opening at
the end of a line of prose, and a closing followed by a special token. A line of backticks inside an open triple-quoted
string does not close the fence, if a later one does. Reading takes time linear in the text.
"""

import re
import textwrap
from bisect import bisect_right
from dataclasses import dataclass

from workloads.graders.code.definitions import program_of
from workloads.graders.extraction.boxed import Found

_LINE = re.compile(r"\r\n|\n|\r")
_TILDES = re.compile(r"~{3,}+")
_CLOSE = re.compile(r"^[ \t>]*+(?P<fence>`{3,}+|~{3,}+)[ \t]*+(?:<\|[^|<>\s]*\|>|</s>|<[a-z_]{1,20}>)?[ \t]*+$")
_PYTHON = re.compile(r"^[{.]{0,2}(?:python|py|ipython|sage)(?:-?[23](?:\.\d+)*)?$", re.IGNORECASE)
_PIECE = re.compile(r"\\.|#|\"\"\"|'''|\"|'")
LOOK_AHEAD_LINES = 400
"""How many lines after a closing line inside a string are searched for a better one."""
BYTE_ORDER_MARK = "\ufeff"


def fences(text: str, entry_point: str | None = None) -> Found:
    """Returns the last closed python fence that is not empty; `unclosed`: one was opened after it and not closed.

    With `entry_point`: among several, the last one that defines a function of this name (see `definitions`).
    """
    lines = _LINE.split(text)
    closings = _Closings(lines)
    blocks: list[str] = []
    unclosed = False
    number = 0
    while number < len(lines):
        opening = _opening(lines[number])
        if opening is None:
            number += 1
            continue
        fence, indent = opening
        end = closings.find(number + 1, fence)
        if end is None:
            unclosed = True
            number += 1
            continue
        code = "\n".join(_dedented(line, indent) for line in lines[number + 1 : end]).removeprefix(BYTE_ORDER_MARK)
        if code.lstrip("\n")[:1].isspace():
            code = textwrap.dedent(code)
        if code.strip():
            unclosed = False
            blocks.append(code + "\n")
        number = end + 1
    if not blocks:
        return Found(None, unclosed)
    return Found(blocks[-1] if entry_point is None else program_of(blocks, entry_point), unclosed)


def _opening(line: str) -> tuple[str, str] | None:
    """Returns (fence, the blank text before it). On a fence's line no backtick follows it."""
    if "```" not in line and "~~~" not in line:
        return None
    end = line.rfind("`") + 1
    start = len(line[:end].rstrip("`"))
    if end - start < 3:
        tildes = _TILDES.search(line, end)
        if tildes is None:
            return None
        start, end = tildes.span()
    before, info = line[:start], line[end:].strip()
    words = re.split(r"[\s:,}=]", info, maxsplit=1)
    if not _PYTHON.match(words[0]):
        return None
    if before.strip() and len(info.split()) > 1:
        return None  # prose that contains a fence
    return line[start:end], before if not before.strip() else ""


@dataclass(frozen=True)
class _Closing:
    number: int
    length: int


class _Closings:
    """Lines that may close a fence. All calls of `find` together look ahead at most at the length of the text."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._look_ahead = sum(map(len, lines)) + len(lines)
        self._of: dict[str, list[_Closing]] = {"`": [], "~": []}
        for number, line in enumerate(lines):
            closing = _CLOSE.match(line) if "```" in line or "~~~" in line else None
            if closing:
                fence = closing["fence"]
                self._of[fence[0]].append(_Closing(number, len(fence)))
        self._longest = {character: _longest_from(found) for character, found in self._of.items()}

    def find(self, start: int, fence: str) -> int | None:
        """Returns the first line from `start` on that closes `fence` outside of a string; otherwise the first inside of
        one.
        """
        closings = self._of[fence[0]]
        index = bisect_right(closings, start - 1, key=lambda closing: closing.number)
        if index == len(closings) or self._longest[fence[0]][index] < len(fence):
            return None
        within: str | None = None
        fallback: int | None = None
        for number in range(start, len(self._lines)):
            if index < len(closings) and closings[index].number == number:
                if closings[index].length >= len(fence):
                    if within is None:
                        return number
                    fallback = number if fallback is None else fallback
                index += 1
            if fallback is not None:
                self._look_ahead -= len(self._lines[number]) + 1
                if number - fallback >= LOOK_AHEAD_LINES or self._look_ahead < 0:
                    return fallback
            within = _string_after(self._lines[number], within)
        return fallback


def _longest_from(closings: list[_Closing]) -> list[int]:
    """Returns for each closing the length of the longest one from it on."""
    longest = [0] * len(closings)
    for index in range(len(closings) - 1, -1, -1):
        following = longest[index + 1] if index + 1 < len(closings) else 0
        longest[index] = max(closings[index].length, following)
    return longest


def _string_after(line: str, within: str | None) -> str | None:
    """Returns the triple quote that is open after `line`, if `within` was open before it."""
    single: str | None = None
    for token in _PIECE.finditer(line):
        piece = token.group()
        if within is not None:
            if piece == within:
                within = None
        elif single is not None:
            if single in piece:
                single = None
        elif piece == "#":
            return None
        elif len(piece) == 3:
            within = piece
        elif piece in ('"', "'"):
            single = piece
    return within


def _dedented(line: str, indent: str) -> str:
    kept = 0
    while kept < len(indent) and kept < len(line) and line[kept] == indent[kept]:
        kept += 1
    return line[kept:]
