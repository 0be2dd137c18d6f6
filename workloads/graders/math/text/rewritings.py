r"""Forms that mean the gold only beside it: `3 5 7` for a list, `f(x) = 2x` for `y = 2x`, degrees for radians. Pure."""

import re
from collections.abc import Iterator

_NUMBER = r"-?(?:\d++(?:\.\d++)?+|\.\d++)"
_LIST = re.compile(rf"{_NUMBER}(?:\s?,\s?{_NUMBER})++")
_SPACED_LIST = re.compile(rf"{_NUMBER}(?:\s{_NUMBER})++")
_INTEGER = re.compile(r"-?\d++")
_SEPARATED_INTEGER = re.compile(r"-?[1-9]\d{0,2}+(?:,\s\d{3})++")
_RATIO = re.compile(r"-?\d++\s?(?::|\\colon)\s?\d++")
_PAIR = re.compile(
    r"(?P<left>[(\[])(?P<inner>[^()\[\],]*+(?:\([^()\[\],]*+\)[^()\[\],]*+)*+,[^()\[\],]*+"
    r"(?:\([^()\[\],]*+\)[^()\[\],]*+)*+)(?P<right>[)\]])"
)
_OR = re.compile(r"(?<=[)\]])\s*+,?\s*+(?:\\text\{\s?or\s?\}|\\text\{\s?and\s?\}|or|and|\\lor)\s*+(?=[(\[])")
_FUNCTION = re.compile(r"[a-zA-Z]\s?\(\s?[a-zA-Z]\s?\)\s?=\s?(?P<value>[^=]++)")
_Y = re.compile(r"y\s?=\s?(?P<value>[^=]++)")
_DOMAIN = re.compile(
    r"\s?[,;]?\s?(?:\\text\{\s*+(?:for all|for|where)\s*+\}|\\quad|\\forall)?\s?"
    r"(?:\\forall\s?)?[a-z]\s?\\in\s?\\mathbb\{[RC]\}$"
)
_POINT = re.compile(r"[A-Z]'?\s?=?\s?(?P<tuple>\((?:[^()]|\([^()]*+\))++\))")
_PERCENT = "\\%"
_DEGREE = "^\\circ"
_SIGNS = re.compile(r"\\pm(?![A-Za-z])\s*+")


def same_kind(gold: str, answer: str) -> bool:
    r"""False for two of different kinds that math-verify may take for one value.

    `28:1` for 28; a closed pair for an open one; `\pm\sqrt{3}`, which has no order, for `(-\sqrt{3}, \sqrt{3})`.
    """
    if _INTEGER.fullmatch(gold) and _RATIO.fullmatch(answer):
        return False
    pair = _PAIR.fullmatch(gold)
    if pair is None:
        return True
    if given := _PAIR.fullmatch(answer):
        return (pair["left"], pair["right"]) == (given["left"], given["right"])
    return not ("\\pm" in answer and answer[:1] not in "([")


def rewritings(gold: str, answer: str) -> Iterator[tuple[str, str]]:
    """Pairs of gold and answer, each to be compared in place of these two."""
    if _SPACED_LIST.fullmatch(answer) and _LIST.fullmatch(gold) and gold.count(",") == answer.count(" "):
        yield gold, answer.replace(" ", ", ")
    if _INTEGER.fullmatch(gold) and _SEPARATED_INTEGER.fullmatch(answer):
        yield gold, answer.replace(", ", "")
    if "\\cup" in gold and (united := _OR.sub(r" \\cup ", answer)) != answer:
        yield gold, united
    if (_DEGREE in answer) != (_DEGREE in gold) and "\\pi" in answer + gold:
        yield _in_radians(gold), _in_radians(answer)
    if (_PERCENT in answer) != (_PERCENT in gold):
        yield gold.replace(_PERCENT, ""), answer.replace(_PERCENT, "")
    without_domain = _DOMAIN.sub("", answer)
    if without_domain != answer and without_domain:
        yield gold, without_domain
    if (right := _Y.fullmatch(gold)) and (given := _FUNCTION.fullmatch(without_domain)):
        yield right["value"], given["value"]
    if (point := _POINT.fullmatch(answer)) and gold[:1] == "(" and "," in point["tuple"]:
        yield gold, point["tuple"]
    if _SIGNS.search(answer) and "{" not in answer[:2] and answer[:1] not in "([":
        yield _both_signs(gold), _both_signs(answer)


def _in_radians(text: str) -> str:
    return text.replace(_DEGREE, r" \cdot \frac{\pi}{180} ")


def _both_signs(text: str) -> str:
    r"""`1 \pm x` as `1 + x, 1 - x`; a text with no `\pm`, or with several, as it is."""
    if len(_SIGNS.findall(text)) != 1:
        return text
    return f"{_SIGNS.sub('+', text)}, {_SIGNS.sub('-', text)}"
