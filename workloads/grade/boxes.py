r"""Balanced `\boxed{...}` (and `\fbox{...}`) in a text, in one pass whatever the text."""

import re
from dataclasses import dataclass

_TOKEN = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*\{|\\.|[{}]", re.DOTALL)
_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*\{")


@dataclass(frozen=True)
class Found:
    """The last complete answer, or None; `unclosed`: an answer was begun after it and not ended."""

    answer: str | None
    unclosed: bool = False


def boxes(text: str) -> Found:
    r"""The last complete box that is not empty. Of nested boxes the outermost complete one, inner commands removed.

    An escaped brace (`\{`) does not count. A box without braces (`\boxed 5`) is not an answer.
    """
    opened: list[int | None] = []
    """Per open brace: where a box's content begins, or None for another brace."""
    last: tuple[int, int] | None = None
    for token in _TOKEN.finditer(text):
        piece = token.group()
        if piece == "{":
            opened.append(None)
        elif piece == "}":
            start = opened.pop() if opened else None
            if start is not None and text[start : token.start()].strip():
                last = (start, token.start())
        elif len(piece) > 2:
            opened.append(token.end())
    unclosed = any(start is not None for start in opened)
    return Found(None if last is None else _unboxed(text[last[0] : last[1]]), unclosed)


def _unboxed(content: str) -> str:
    r"""Boxes within the answer, as in `x = \boxed{5}`, give way to what they hold."""
    pieces: list[str] = []
    dropped: list[bool] = []
    position = 0
    for token in _TOKEN.finditer(content):
        piece = token.group()
        drop = False
        if piece == "{" or _BOX.fullmatch(piece):
            dropped.append(drop := piece != "{")
        elif piece == "}":
            drop = dropped.pop() if dropped else False
        pieces.append(content[position : token.start()] + ("" if drop else piece))
        position = token.end()
    return ("".join(pieces) + content[position:]).strip()
