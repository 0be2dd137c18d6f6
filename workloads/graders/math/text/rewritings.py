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
_OR = re.compile(r"(?<=[)\]])\s*+(?:,?\s*+(?:\\text\{\s?or\s?\}|\\text\{\s?and\s?\}|or|and|\\lor)|,)\s*+(?=[(\[])")
_FUNCTION = re.compile(r"[a-zA-Z]\s?\(\s?[a-zA-Z]\s?\)\s?=\s?(?P<value>[^=]++)")
_Y = re.compile(r"y\s?=\s?(?P<value>[^=]++)")
_DOMAIN = re.compile(
    r"\s?[,;]?\s?(?:\\text\{\s*+(?:for all|for|where)\s*+\}|\\quad|\\forall)?\s?"
    r"(?:\\forall\s?)?[a-z]\s?\\in\s?\\mathbb\{[RC]\}$"
)
_POINT = re.compile(r"[A-Z]'?\s?=?\s?(?P<tuple>\((?:[^()]|\([^()]*+\))++\))")
_SET_OF_VALUES = re.compile(r"\\\{[^|<>:]*\\\}")
_RELATION_FIRST = re.compile(r"(?:<|>|\\[lg]e(?![a-z])|\\ne(?![a-z]))")
_ONLY_ELEMENT = re.compile(r"\\\{\s*+(?P<tuple>\(.+\))\s*+\\\}", re.DOTALL)
_SIDE = re.compile(
    r"[^=<>{}]{1,60}(?:\{[^{}=<>]*+\}[^=<>{}]{0,60})*=\s*+(?P<rest>(?:[(\[]|\\begin|\\\{)[^=]*+)", re.DOTALL
)
_REMARK = re.compile(
    r",?\s?(?:\\text\{\s?,?\s?(?:or\s)?\(?(?:where|for|with|approximately|approx|about|roughly|when|if)(?![a-z])[^{}]*+\}"
    r"|\(?\s?\\approx(?![a-z])|\(\s?\\text\{\s?(?:approximately|approx|about|roughly))(?P<tail>.*+)",
    re.DOTALL,
)
_ALTERNATIVE = re.compile(
    r"\s?,?\s?(?:\(\s?)?(?:\\text\{\s?,?\s?\(?or\s?\}|(?<![A-Za-z\\])or(?![A-Za-z])|\\lor(?![a-z]))\s?"
)
_CONDITION = re.compile(r"[<>=]|\\(?:le|ge|ne|equiv)(?![a-z])")
_COLUMN = re.compile(r"\\begin\{pmatrix\}(?P<rows>[^&]*)\\end\{pmatrix\}")
_ROW_TRANSPOSED = re.compile(r"[(\[](?P<inner>[^()\[\]]++)[)\]](?:\s?\^\s?\{?\s?(?:T|\\top|\\text\{\s?T\s?\})\s?\}?)?")
_UNIT_VECTORS = re.compile(
    r"(?P<x>[^ijk]*?)\s?\\?(?:hat|vec|text)?\s?\{?i\}?\s?(?P<y>[+-][^ijk]*?)\s?\\?(?:hat|vec|text)?\s?\{?j\}?"
    r"\s?(?P<z>[+-][^ijk]*?)\s?\\?(?:hat|vec|text)?\s?\{?k\}?"
)
_NAME = re.compile(r"([a-z])(?:_\{?\d\}?)?\s?=")
_NAMED = re.compile(
    r"(?:^|,?\s?(?:\\text\{\s?(?:or|and)\s?\}|(?<![a-z\\])(?:or|and)(?![a-z])|\\lor(?![a-z])|[,;&]))\s?[a-z](?:_\{?\d\}?)?\s?=\s?"
)
r"""The name of a value in a list of values: `x = 1 \text{ or } x = 2`."""
_SPACED_PRODUCT = re.compile(r"(?:(?<=\d)|(?<=(?<![A-Za-z\\])[a-zA-Z]))\s(?=[a-zA-Z](?![a-zA-Z]))")
_OUTWARD = re.compile(r"(?:x\s?\\in\s?)?(?P<left>[\[\]])(?P<inner>[^\[\]()]++)(?P<right>[\[\]])")
"""An interval whose open ends have brackets that point outwards: `]2, 3]`."""
LONGEST = 500
MOST_ALTERNATIVES = 4
_PERCENT = "\\%"
_MIXED_PERCENT = re.compile(r"(?P<sign>-?)(?P<whole>\d{1,9}+)\\frac\{(?P<top>\d{1,9}+)\}\{(?P<bottom>\d{1,9}+)\}\s?\\%")
_LARGEST = re.compile(
    r"[A-Za-z]\s?_\s?(?:\{\s?(?:\\(?:max|min)|\\text\{\s?(?:max|min)\s?\})\s?\}|\\(?:max|min))\s?=\s?(?P<rest>[^=<>]++)"
)
_DEGREE = "^\\circ"
_SIGNS = re.compile(r"\\pm(?![A-Za-z])\s*+")


def same_kind(gold: str, answer: str) -> bool:
    r"""False for two of different kinds that math-verify may take for one value.

    `28:1` for 28; a closed pair for an open one; `\pm\sqrt{3}`, which has no order, for `(-\sqrt{3}, \sqrt{3})`.
    """
    if _INTEGER.fullmatch(gold) and _RATIO.fullmatch(answer):
        return False
    if _RELATION_FIRST.match(answer) and not _CONDITION.search(gold) and not gold.startswith("\\text"):
        return False
    if (
        gold[:1] == "("
        and gold[-1:] == ")"
        and "," in gold
        and answer[:2] == "\\{"
        and "(" not in answer
        and ":" not in answer
    ):
        return not _SET_OF_VALUES.fullmatch(answer)
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
        if _MIXED_PERCENT.fullmatch(gold) or _MIXED_PERCENT.fullmatch(answer):
            yield _in_hundredths(gold), _in_hundredths(answer)
    without_domain = _DOMAIN.sub("", answer)
    if without_domain != answer and without_domain:
        yield gold, without_domain
    if (right := _Y.fullmatch(gold)) and (given := _FUNCTION.fullmatch(without_domain)):
        yield right["value"], given["value"]
    if (point := _POINT.fullmatch(answer)) and gold[:1] == "(" and "," in point["tuple"]:
        yield gold, point["tuple"]
    if only := _ONLY_ELEMENT.fullmatch(answer):
        yield gold, only["tuple"]
    if len(answer) <= LONGEST:
        yield from _shorter(gold, answer)
    if _SIGNS.search(answer) and "{" not in answer[:2] and answer[:1] not in "([":
        yield _both_signs(gold), _both_signs(answer)


def alternatives(answer: str) -> list[str]:
    r"""The values that an answer gives as one: `\frac{9}{100} \text{ or } 9\%`; empty if it gives one only."""
    if len(answer) > LONGEST:
        return []
    parts = _ALTERNATIVE.split(answer)
    parts = [
        part[:-1].rstrip() if part.endswith(")") and part.count(")") > part.count("(") else part
        for part in map(str.strip, parts)
    ]
    return parts if 2 <= len(parts) <= MOST_ALTERNATIVES and all(parts) else []


def _shorter(gold: str, answer: str) -> Iterator[tuple[str, str]]:
    """The answer without the name before it or the remark behind it; a vector as the gold is written."""
    if "=" not in gold and (largest := _LARGEST.fullmatch(answer)):
        yield gold, largest["rest"]
    if "=" not in gold and (side := _SIDE.fullmatch(answer)):
        yield gold, side["rest"]
        answer = side["rest"]
    if (bounds := _OUTWARD.fullmatch(answer)) and (bounds["left"], bounds["right"]) != ("[", "]"):
        left, right = "[" if bounds["left"] == "[" else "(", "]" if bounds["right"] == "]" else ")"
        yield gold, f"{left}{bounds['inner']}{right}"
    remark = _REMARK.search(answer)
    if remark and remark.start() and (not _CONDITION.search(remark[0]) and "\\in" not in gold):
        yield gold, answer[: remark.start()]
    if "=" not in gold and answer.count("=") > 1 and len(set(_NAME.findall(answer))) == 1:
        yield gold, _NAMED.sub(", ", answer).removeprefix(", ")
    if "\\lor" in answer and "=" in answer:
        yield gold, answer.replace("\\lor", ",")
    if (product := _SPACED_PRODUCT.sub(r" \\cdot ", answer)) != answer:
        yield gold, product
    column, given = _COLUMN.fullmatch(gold), _COLUMN.fullmatch(answer)
    if column and (row := _ROW_TRANSPOSED.fullmatch(answer)):
        yield gold, _as_column(row["inner"].split(","))
    if column and (units := _UNIT_VECTORS.fullmatch(answer)):
        yield gold, _as_column([_coefficient(units[name]) for name in ("x", "y", "z")])
    if given and gold[:1] == "(" and gold[-1:] == ")" and (row := _ROW_TRANSPOSED.fullmatch(gold)):
        yield _as_column(row["inner"].split(",")), answer


def _in_hundredths(text: str) -> str:
    r"""Rewrites `33\frac{1}{3}\%` as `\frac{100}{300}`; other texts do not change."""
    mixed = _MIXED_PERCENT.fullmatch(text)
    if mixed is None or not int(mixed["bottom"]):
        return text
    top = int(mixed["whole"]) * int(mixed["bottom"]) + int(mixed["top"])
    return rf"{mixed['sign']}\frac{{{top}}}{{{100 * int(mixed['bottom'])}}}"


def _as_column(entries: list[str]) -> str:
    return "\\begin{pmatrix}" + r" \\ ".join(entries) + "\\end{pmatrix}"


def _coefficient(text: str) -> str:
    compact = text.replace(" ", "")
    return f"{compact}1" if compact in ("", "+", "-") else compact


def _in_radians(text: str) -> str:
    return text.replace(_DEGREE, r" \cdot \frac{\pi}{180} ")


def _both_signs(text: str) -> str:
    r"""Rewrites `1 \pm x` as `1 + x, 1 - x`. A text with no `\pm`, or with several, does not change."""
    if len(_SIGNS.findall(text)) != 1:
        return text
    return f"{_SIGNS.sub('+', text)}, {_SIGNS.sub('-', text)}"
