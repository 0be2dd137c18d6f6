r"""Numbers in a named base: `52_8` and `52_9` are two numbers, which math-verify reads as 52 both. Pure text."""

import re

_WORDS = [
    "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen",
]  # fmt: skip
_BASES = {
    **{word: number for number, word in enumerate(_WORDS, 2)},
    "binary": 2, "ternary": 3, "quaternary": 4, "octal": 8, "decimal": 10,
    "dec": 10, "bin": 2, "oct": 8, "hex": 16, "hexadecimal": 16,
}  # fmt: skip
_NUMERAL = re.compile(
    r"(?:[A-Za-z]\s?=\s?)?+(?P<sign>-?)(?:\(\s?(?P<round>[0-9][0-9A-Za-z., ]*+)\)|\{\s?"
    r"(?P<curly>[0-9][0-9A-Za-z., ]*+)\}|\[\s?(?P<square>[0-9][0-9A-Za-z ]*+)\]"
    r"|\\overline\s?\{\s?(?P<lined>[0-9][0-9A-Za-z ]*+)\}"
    r"|(?P<bare>[0-9][0-9A-Z.,]*+)|(?P<spaced>[0-9][0-9., ]*+))\s*+(?P<rest>\D.*+)",
    re.DOTALL,
)
_SUBSCRIPT = re.compile(r"_\s?(?:(?P<digit>\d{1,3})|\{(?P<inner>.+)\}|(?P<text>\\text\{.+\}))")
_SAID = re.compile(r"(?:(?:in|of)?base(?P<number>.++)|in(?P<name>[a-z]++))")
_IN_TEXT = re.compile(r"\\text\{(?P<content>[^{}]*+(?:\{[^{}]*+\}[^{}]*+)?+)\}")
_NOISE = re.compile(r"\\text|[{}()\s$\\~-]")
_SEVERAL = re.compile(r",|\\text\{\s?(?:or|and)\s?\}|(?<![a-z])(?:or|and)(?![a-z])")
LONGEST = 500


def numeral(text: str) -> tuple[str, int] | None:
    r"""Returns (digits, base) of `52_8`, `(52)_{8}`, `52_{\text{eight}}`, `52\text{ in base }8`, else None."""
    if whole := _IN_TEXT.fullmatch(text):
        text = whole["content"]
    if len(text) > LONGEST or (match := _NUMERAL.fullmatch(text)) is None:
        return None
    digits = next(
        match[name] for name in ("round", "curly", "square", "lined", "bare", "spaced") if match[name] is not None
    )
    rest = match["rest"]
    if (subscript := _SUBSCRIPT.fullmatch(rest)) is not None:
        base = _base(_NOISE.sub("", next(filter(None, subscript.groups()))).removeprefix("base"))
    elif (said := _SAID.fullmatch(_NOISE.sub("", rest).lower())) is not None:
        base = _base(said["number"] or said["name"])
    else:
        return None
    return None if base is None else (match["sign"] + (re.sub(r"[ ,]", "", digits).upper().lstrip("0") or "0"), base)


def _same_among(gold: tuple[str, int], answer: str) -> bool | None:
    """Returns whether one side of an equation is the gold and all have its value; None if not all are numerals."""
    sides = [numeral(side.strip()) for side in answer.split("=")]
    numerals = [side for side in sides if side is not None]
    if len(numerals) < len(sides):
        return None
    values = {_digits_value(*side) for side in numerals}
    return gold in numerals and len(values) == 1 and None not in values


def _digits_value(digits: str, base: int) -> int | None:
    try:
        return int(digits, base)
    except ValueError:
        return None


def _base(text: str) -> int | None:
    if text.isascii() and text.isdigit() and len(text) <= 3:
        return int(text) if int(text) >= 2 else None
    return _BASES.get(text.lower())


def same_base(gold: str, answer: str) -> bool | None:
    """Returns whether two numbers with named bases have the same digits and base; None if bases do not decide.

    Digits alone are taken for the gold's base. Digits in another base than ten are never a gold without a base.
    """
    right, given = numeral(gold), numeral(answer)
    if right is not None and given is None and "=" in answer:
        return _same_among(right, answer)
    if right is not None and given is None and "_" in answer:
        several = [numeral(part.strip()) for part in _SEVERAL.split(answer)]
        return None if None in several else all(each == right for each in several)
    if given is None:
        return None
    if right is None:
        return None if given[1] == 10 else False
    return right == given
