r"""Finds balanced `\boxed{...}` (and `\fbox{...}`) in a text, always in one pass."""

import re
from dataclasses import dataclass

_TOKEN = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*\{|\\.|[{}]", re.DOTALL)
_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*\{")


@dataclass(frozen=True)
class Found:
    """The last complete answer, or None; `unclosed`: an answer began after it and did not end."""

    answer: str | None
    unclosed: bool = False


def boxes(text: str) -> Found:
    r"""Returns the last complete box that is not empty. For nested boxes it is the outermost complete one, without
    inner commands.

    An escaped brace (`\{`) does not count. A box without braces (`\boxed 5`) is not an answer.
    """
    opened: list[_Open] = []
    last: tuple[int, int] | None = None
    position = 0
    for token in _TOKEN.finditer(text):
        piece = token.group()
        escaped = piece[0] == "\\" and len(piece) == 2
        if opened and (escaped or text[position : token.start()].strip()):
            opened[-1].filled = True
        position = token.end()
        if piece == "}" and opened:
            closed = opened.pop()
            if closed.filled:
                if opened:
                    opened[-1].filled = True
                if closed.content is not None:
                    last = (closed.content, token.start())
        elif piece[-1] == "{" and not escaped:
            opened.append(_Open(None if piece == "{" else token.end()))
    unclosed = any(brace.content is not None for brace in opened)
    return Found(None if last is None else _unboxed(text[last[0] : last[1]]), unclosed)


@dataclass
class _Open:
    """An open brace. `content`: where a box's content begins, or None. `filled`: whether it has more than braces."""

    content: int | None
    filled: bool = False


def _unboxed(content: str) -> str:
    r"""Replaces boxes within the answer, as in `x = \boxed{5}`, by their content."""
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
