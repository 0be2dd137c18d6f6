r"""Adds the braces that a fraction lacks, and removes braces around a single element."""

import re
from dataclasses import dataclass

_TOKEN = re.compile(r"\\[A-Za-z]++|\\.|\s++|\d|.", re.DOTALL)
_OVER = re.compile(r"\{((?:[^{}\\]|\\(?!over(?![A-Za-z]))[^{}])*+)\\over(?![A-Za-z])([^{}]*+)\}")
_CHOOSE = re.compile(r"\{([^{}\\]*+)\\choose(?![A-Za-z])([^{}\\]*+)\}")
_WITH_ARGUMENTS = frozenset({
    r"\frac", r"\binom", r"\sqrt", r"\text", r"\mathbb", r"\mathcal", r"\overline", r"\vec", r"\hat", r"\begin",
    r"\end", r"\left", r"\right", r"\log",
})  # fmt: skip
_NUMBER_BEFORE_BASE = re.compile(r"(?<![\w\\^}])\{(\d++)\}(?=_)")
_NUMBER_BEFORE_LETTER = re.compile(r"(?:(?<=[+\-=(,])|(?<=[+\-=(,]\s))\{(\d++)\}(?=[a-z])")
_DIGITS = re.compile(r"\d++")


def fractions_in_braces(text: str) -> str:
    r"""`\frac\pi2`, `\frac1x`, `{a \over b}`, `{n \choose k}` with their braces.

    After a numerator of one digit all the digits that follow are the denominator.
    """
    if "\\choose" in text:
        whole = _CHOOSE.fullmatch(f"{{{text}}}")
        text = _binomial(whole) if whole else _CHOOSE.sub(_binomial, text)
    if "\\over" in text:
        whole = _OVER.fullmatch(f"{{{text}}}")
        text = _fraction(whole) if whole else _OVER.sub(_fraction, text)
    return _arguments(text) if "\\frac" in text else text


def _binomial(found: re.Match[str]) -> str:
    return f"\\binom{{{found[1].strip()}}}{{{found[2].strip()}}}"


def _fraction(found: re.Match[str]) -> str:
    return f"\\frac{{{found[1].strip()}}}{{{found[2].strip()}}}"


@dataclass
class _Group:
    """`wanted`: arguments that the last fraction of this group still lacks. `digit`: its first one was a digit."""

    wanted: int = 0
    digit: bool = False


def _arguments(text: str) -> str:
    pieces: list[str] = []
    groups = [_Group()]
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        assert match is not None
        piece, group = match[0], groups[-1]
        at = match.end()
        if piece == r"\frac":
            group.wanted, group.digit = 2, False
        elif piece == "{":
            groups.append(_Group())
        elif piece == "}":
            if len(groups) > 1:
                groups.pop()
            groups[-1].wanted -= groups[-1].wanted > 0
        elif group.wanted and piece.isspace():
            continue
        elif group.wanted:
            if piece.isdigit() and group.wanted == 1 and group.digit:
                run = _DIGITS.match(text, at - 1)
                assert run is not None
                piece, at = run[0], run.end()
            if piece.isalnum() or (piece[0] == "\\" and piece[1:].isalpha() and piece not in _WITH_ARGUMENTS):
                group.digit = piece.isdigit()
                group.wanted -= 1
                piece = f"{{{piece}}}"
            else:
                group.wanted = 0
        pieces.append(piece)
    return "".join(pieces)


def elements_unbraced(text: str) -> str:
    """`({2}, {3})` as `(2, 3)`; `{52}_8` as `52_8`."""
    if "{" not in text:
        return text
    tokens = [match[0] for match in _TOKEN.finditer(text)]
    opened: list[tuple[int, bool]] = []
    last = ""
    dropped: set[int] = set()
    following = _following(tokens)
    for index, piece in enumerate(tokens):
        if piece == "{":
            opened.append((index, last in ("", "(", "[", ",", "&", r"\\", "=", "<", ">")))
        elif piece == "}" and opened:
            start, is_element = opened.pop()
            if is_element and following[index] in ("", ")", "]", ",", "&", r"\\"):
                dropped |= {start, index}
        if not piece.isspace():
            last = piece
    text = "".join(piece for index, piece in enumerate(tokens) if index not in dropped)
    return _NUMBER_BEFORE_LETTER.sub(r"\1", _NUMBER_BEFORE_BASE.sub(r"\1", text))


def _following(tokens: list[str]) -> list[str]:
    """Returns for each piece the next one that is not a space."""
    found = [""] * len(tokens)
    for index in range(len(tokens) - 2, -1, -1):
        found[index] = found[index + 1] if tokens[index + 1].isspace() else tokens[index + 1]
    return found
