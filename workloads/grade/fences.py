"""Closed python fences in a text: the code of the last one.

CommonMark's fences, with what real outputs need: any indentation (taken off the code), an opening that ends a line of
prose, a closing followed by a special token. A line of backticks inside an open triple-quoted string does not close, if
a later one does.
"""

import re
import textwrap

from workloads.grade.boxes import Found

_LINE = re.compile(r"\r\n|\n|\r")
_OPEN = re.compile(r"^(?P<before>.*?)(?P<fence>(?<!`)`{3,}+|(?<!~)~{3,}+)[ \t]*+(?P<info>[^`]*+)$")
_CLOSE = re.compile(r"^[ \t>]*+(?P<fence>`{3,}+|~{3,}+)[ \t]*+(?:<\|[^|<>\s]*\|>|</s>|<[a-z_]{1,20}>)?[ \t]*+$")
_PYTHON = re.compile(r"^[{.]{0,2}(?:python|py|ipython|sage)(?:-?[23](?:\.\d+)*)?$", re.IGNORECASE)
_PIECE = re.compile(r"\\.|#|\"\"\"|'''|\"|'")
LOOK_AHEAD_LINES = 400
"""How far behind a closing line inside a string a better one is looked for."""


def fences(text: str) -> Found:
    """The last closed python fence that is not empty; `unclosed`: one was opened after it and not closed."""
    lines = _LINE.split(text)
    answer: str | None = None
    unclosed = False
    hopeless: dict[str, int] = {}
    """Per fence character, the shortest fence that nothing closes from some line on: nothing will later either."""
    number = 0
    while number < len(lines):
        opening = _opening(lines[number])
        if opening is None:
            number += 1
            continue
        fence, indent = opening
        never = len(fence) >= hopeless.get(fence[0], len(fence) + 1)
        end = None if never else _closing(lines, number + 1, fence)
        if end is None:
            hopeless[fence[0]] = min(len(fence), hopeless.get(fence[0], len(fence)))
            unclosed = True
            number += 1
            continue
        code = "\n".join(_dedented(line, indent) for line in lines[number + 1 : end])
        if code.lstrip("\n")[:1].isspace():
            code = textwrap.dedent(code)
        if code.strip():
            answer, unclosed = code + "\n", False
        number = end + 1
    return Found(answer, unclosed)


def _opening(line: str) -> tuple[str, str] | None:
    """(fence, what stands before it on its line if that is blank)."""
    if "```" not in line and "~~~" not in line:
        return None
    match = _OPEN.match(line)
    if match is None:
        return None
    words = re.split(r"[\s:,}=]", match["info"].strip(), maxsplit=1)
    if not _PYTHON.match(words[0]):
        return None
    before = match["before"]
    if before.strip() and len(match["info"].split()) > 1:
        return None  # prose that mentions a fence
    return match["fence"], before if not before.strip() else ""


def _closing(lines: list[str], start: int, fence: str) -> int | None:
    within: str | None = None
    fallback: int | None = None
    for number in range(start, len(lines)):
        line = lines[number]
        closing = _CLOSE.match(line) if fence[0] * 3 in line else None
        if closing and closing["fence"][0] == fence[0] and len(closing["fence"]) >= len(fence):
            if within is None:
                return number
            if fallback is None:
                fallback = number
        if fallback is not None and number - fallback >= LOOK_AHEAD_LINES:
            return fallback
        within = _string_after(line, within)
    return fallback


def _string_after(line: str, within: str | None) -> str | None:
    """The triple quote that is open after `line`, if `within` was open before it."""
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
