r"""Numbers, money, units and degrees as they are written in answers. Pure, and linear in the text."""

import re
from math import gcd

_SPACE = r"(?:\\[,;:> ]|~|\{\s?,\s?\}|,\s?\\!\s?|\{\\,\}|\\text\{\s?,\s?\}|['’]|,\{\})"
_GROUPED = re.compile(rf"(?<![\d.])\d{{1,3}}+(?:{_SPACE}\d{{3}}(?!\d))++")
_GROUPED_BY_GAPS = re.compile(
    r"(?P<head>\\?[$€£]?-?)(?P<number>[1-9]\d{0,2}+(?: \d{3})++)(?P<rest>(?:\.\d++)?+(?!\s*+[\d/]).*+)", re.DOTALL
)
_COMMA_GROUPS = re.compile(r"(?<![\d.,])[1-9]\d{0,2}+(?:,\d{3}(?!\d))++(?!\.?\d*,\d)")
_BRACED = re.compile(r"(?<!\\)\{\s*+(-?[1-9]\d{0,2}+(?:,\d{3})++(?:\.\d++)?+)\s*+\}")
_MIXED = re.compile(
    r"(?<![\d.,/^_{(\\a-zA-Z])(?P<sign>-?)(?P<whole>\d++)\s++(?P<top>\d++)\s?/\s?(?P<bottom>\d++)"
    r"(?![\d.,/^!]|\s*+[a-zA-Z(\\])"
)
_POWER_OF_TEN = re.compile(r"(?<![\w.\\}])(?P<digits>\d++(?:\.\d++)?+)[eE](?P<power>[+-]?+\d{1,3}+)(?![\w.{^])")
_ZEROS = re.compile(r"(?<![\d.,])(\d++)\.0++(?![\d_])")
_REPEATING = re.compile(
    r"(?<![\w.,}])(?P<whole>\d{0,12}+)\.(?P<once>\d{0,12}+)\\(?:overline|bar|dot)\s?(?:\{(?P<again>\d{1,12})\}|(?P<digit>\d))"
    r"(?!\s*+[\d^_!.\\])"
)
_DEGREES = re.compile(
    r"\s?(?:\{\s?\})?\s?\^\s?(?:\{\s?\\circ\s?\}|\\circ(?![A-Za-z])|\{\s?\\text\s?\{\s?o\s?\}\s?\}"
    r"|\\text\s?\{\s?o\s?\}|\{\s?o\s?\}|o(?![A-Za-z]))"
)
_DEGREE_SCALE = re.compile(r"\^\\circ\s*+(?:\\text\{\s*+[CFK]\s*+\}|[CF])\s*+$")
_DEGREE_BRACES = re.compile(r"\^\s?\{\s?\{\s?\\circ\s?\}\s?\}|(?<![A-Za-z])\{\s?\^\s?\\circ\s?\}|(?<=\d)\s?\\circ\s?$")
_SLANTED = re.compile(
    r"(?<![\w\\)}\]])\^\s?(?:\{\s?(?P<top>\d++)\s?\}|(?P<top_digits>\d++))\s?/\s?_\s?"
    r"(?:\{\s?(?P<bottom>\d++)\s?\}|(?P<bottom_digits>\d++))"
)
_BRACED_POINT = re.compile(r"(?<=\d)\{\s?\.\s?\}(?=\d)")
_ROOT_OF_MINUS_ONE = re.compile(r"\\sqrt\s?\{\s?-\s?1\s?\}(?!\s*+[A-Za-z])")
_NUMBER_OF_I = re.compile(r"(?<![\w\\)}^])\(\s?\+?\s?(?P<number>\d++(?:\.\d++)?+)\s?\)\s?i(?![A-Za-z])")
_PERIOD_IN_BRACKETS = re.compile(
    r"(?<![\w.,}])(?P<whole>\d{1,12}+)\.(?P<once>\d{0,12}+)\((?P<again>\d{1,12})\)(?!\s*+[\d^_!.\\])"
)
_DOTS = re.compile(
    r"(?<![\w.,}])(?P<whole>\d{1,12}+)\.(?P<once>\d{0,6}?)(?P<again>\d{1,6}?)(?P=again){2,30}+(?P<part>\d{0,5})"
    r"\s?(?:\.{3}|…|\\(?:l?dots|cdots|dotsc))"
)
_HALF_POWER = re.compile(r"\^\s?(?:\{\s?(?:0?\.5|1/2)\s?\}|0?\.5(?!\d))")
_I = re.compile(r"(?<=[\d)}])\s*+(?:\\cdot|\\times|\*)?+\s*+(?:\{i\}|i(?![A-Za-z{]))")
_I_FIRST = re.compile(r"(?<![\w\\)}.])i\s*+(?P<number>\d++(?:\.\d++)?+)(?!\s*+[\w.^{(/])")
_NEGATIVE_I = re.compile(r"\+\s?\(\s?-\s?(\d++(?:\.\d++)?+)\s?\)\s?i(?![A-Za-z])")
_FUNCTION = re.compile(
    r"(?<![A-Za-z\\])(?P<name>(?:arc)?(?:sin|cos|tan)|cot|sec|csc|ln)(?=\s?\(|\s(?:[a-z](?![a-z])|\d|\\))"
)
_PYTHON_POWER = re.compile(r"(?<=[A-Za-z0-9)])\*\*(-?\d++)(?!\*)")
_PI = re.compile(r"(?<![A-Za-z\\])pi(?![A-Za-z])")
_ROOT_CALL = re.compile(r"(?<![A-Za-z\\])sqrt(?=\s*+[({\d\\])")
_ROOT_ROUND = re.compile(r"\\sqrt\s*+\(([^(){}\[\]]*+)\)")
_ROOT_DIGITS = re.compile(r"\\sqrt\s*+(\d++)(?!\.)")

_BEFORE_MONEY = re.compile(
    r"^(?P<sign>-?)\s?(?:(?:US|USD|AU|CA)\s?(?=\\?\$|\d|\s\d))?(?:\\?\$|€|£|Rs\.?+\s)?\s*+(?=[-\d.])"
)
_CURRENCY_AFTER = re.compile(r"(?<=\d)\s*+(?:\\[$]|[$€£¢])$")
_BRACED_SIGN = re.compile(r"(?<![A-Za-z])\{\s?(\\[$%]|[€£¢])\s?\}")
_FRACTION_OF_UNITS = re.compile(
    r"(?<=[\d})\s])\\frac\s?\{\s?\\text\{[^{}\d]*+\}\s?\}\s?\{\s?\\text\{[^{}\d]*+\}(?:\s?\^\s?\{?\d\}?)?\s?\}$"
)
_SHORT_UNIT = re.compile(
    r"(?<=\d)\s++(?:(?:(?:sq|cu)\.?|square|cubic)\s(?:in|m)|in\.?|k?m/(?:s|h|hr|min)|mi/hr?|ft/s|m|in\s?\^\s?\{?[23]\}?)$"
)
_NOUNS_AFTER = re.compile(r"(?<=\d)\s++(?P<words>[a-z]{3,}+(?:[ -][a-z]{2,}+)*+)\.?$")
_NO_NOUNS = frozenset({
    "or", "and", "to", "base", "in", "mod", "modulo", "plus", "minus", "over", "divided", "by", "multiplied", "squared",
    "cubed", "factorial", "choose", "hundred", "thousand", "million", "billion", "trillion", "dozen", "hundreds",
    "thousands", "millions", "billions", "tenths", "hundredths", "thousandths", "halves", "thirds", "quarters",
    "fourths", "fifths", "sixths", "eighths", "half", "third", "quarter", "remainder", "less", "more", "fewer",
    "greater", "below",
    "above", "under", "not", "than", "sqrt", "root", "sin", "cos", "tan", "log", "exp", "inf", "infinity", "percent",
    "radians", "rad", "degrees", "pi", "approximately", "about", "binary", "octal", "hexadecimal", "decimal",
    "is", "are", "when", "where", "with", "for", "if", "but",
})  # fmt: skip
_UNITS = (
    r"(?:(?:square|sq\.?|cubic|cu\.?)\s)?"
    r"(?:cm|mm|km|dm|ft|yd|kg|mg|lbs?|oz|mph|kph|mL|ml|inch(?:es)?|feet|foot|yards?|miles?|(?:centi"
    r"|milli|kilo)?(?:meters?|metres?|grams?)"
    r"|lit(?:er|re)s?|pounds?|ounces?|seconds?|minutes?|mins?|hours?|hrs?|days?|weeks?|months?"
    r"|years?|units?|dollars?|cents?|euros?|USD|EUR"
    r"|units?\s(?:squared|cubed)|degrees?|deg|people|persons?|students?|ways?|times|points?)"
    r"(?:\s?\^\s?\{?[23]\}?)?"
    r"(?:\s?(?:/|per)\s?(?:s|h|hr|hour|second|min|minute|day))?"
)
_PLAIN_UNIT = re.compile(rf"(?:(?<=[\d}})])|(?<=\\pi)|(?<=\\pi\s))\s*+{_UNITS}\.?\s*+$")
_TEXT_UNIT = re.compile(
    r"(?:[\d})]|\\pi|\\circ|\d[a-z])\s*+(?P<unit>/?\s?\\text\{(?P<words>[^{}\d]*+)\}(?:\s?\^\s?(?:\d|\{\d\}))?)\s*+$"
)
_WORD_POWERS = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_IN_WORDS = re.compile(
    r"(?P<head>-?\\?[$€£]?\s?-?)(?P<digits>\d++(?:\.\d++)?+)(?:\s|\\[,;: ]|~)*+(?P<text>\\text\{\s*+)?"
    rf"(?P<word>{'|'.join(_WORD_POWERS)})s?(?![a-z])(?P<rest>[^{{}}\d]*+\}}?)"
)
_DOZENS = re.compile(
    r"(?P<number>(?<![\d.])\d++(?:\.\d++)?+)\s?(?:\\text\{\s?dozen(?:\s[^{}]*+)?\}|dozen(?:\s[a-z]++)?)$"
)
_PARTS = {
    "half": 2, "halves": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9,
    "tenth": 10, "eleventh": 11, "twelfth": 12, "twentieth": 20, "hundredth": 100, "thousandth": 1000,
}  # fmt: skip
"""Parts of a whole, by their names. Quarters are left out, because they are coins too."""
_COUNTED_PARTS = re.compile(
    rf"(?P<sign>-?)(?P<number>\d{{1,30}}+)(?:\s|\\[,;: ]|~)*+(?P<text>\\text\{{\s*+)?"
    rf"(?P<part>{'|'.join(_PARTS)})(?P<plural>s?)(?![a-z])"
    r"(?P<rest>[^{}\d]*+\}?)"
)
_NUMBERS_IN_WORDS = {
    word: number
    for number, word in enumerate(
        ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"], 1
    )
}
_FRACTION_IN_WORDS = re.compile(
    rf"(?:\\text\{{)?\s*+(?P<top>{'|'.join(_NUMBERS_IN_WORDS)})[\s-]++(?P<part>{'|'.join(_PARTS)}|quarter)s?\s*+\}}?",
    re.IGNORECASE,
)
_PERCENT = re.compile(r"\s*+(?:\\%|%|\\text\{\s*+percent\s*+\}|(?<=[\d\s}])percent(?![a-z]))")
_MORE = re.compile(r"\d\s|[,;]")
_DIGIT = re.compile(r"\d")
_KEPT_WORDS = frozenset({"or", "and", "to", "base", "in"})
_SEMICOLON = re.compile(r"\s?;\s?")
_UNION = re.compile(r"(?<=[)\]])\s?(?:U|union|\\text\{\s?(?:U|union)\s?\})\s?(?=[(\[])")
_WITHOUT = re.compile(r"(?:(?<=[)\]])|(?<=\\mathbb\{R\}))\s?-\s?(?=\\\{|[\[(])")


def written_once(text: str) -> str:
    """Each number, degree, imaginary unit and root in one way of writing."""
    text = _GROUPED.sub(lambda m: re.sub(r"\D", "", m[0]), text)
    text = _BRACED.sub(lambda m: "{" + m[1].replace(",", "") + "}", text)
    if not any(bracket in text for bracket in "()[]") and "\\{" not in text and "," not in _COMMA_GROUPS.sub("", text):
        text = _COMMA_GROUPS.sub(lambda m: m[0].replace(",", ""), text)
    text = _BRACED_POINT.sub(".", text)
    if ";" in text and "," not in text and text[-1:] in ")]}" and text[:1] in "([\\":
        text = _SEMICOLON.sub(", ", text)
    text = _UNION.sub(r" \\cup ", text)
    if "\\{" in text or "\\mathbb{R}" in text:
        text = _WITHOUT.sub(r" \\setminus ", text)
    text = _SLANTED.sub(_slanted, _BRACED_SIGN.sub(r"\1", text))
    text = _DOTS.sub(_periodic, _PERIOD_IN_BRACKETS.sub(r"\g<whole>.\g<once>\\overline{\g<again>}", text))
    text = _FUNCTION.sub(r"\\\g<name>", _PYTHON_POWER.sub(r"^{\1}", text))
    text = _POWER_OF_TEN.sub(lambda m: _expanded(m["digits"], int(m["power"])), text)
    text = _REPEATING.sub(_as_fraction, text)
    text = _ZEROS.sub(r"\1", text)
    text = _MIXED.sub(r"\g<sign>\g<whole>\\frac{\g<top>}{\g<bottom>}", text)
    if "\\circ" in text:
        text = _DEGREE_BRACES.sub(r"^\\circ ", text)
    text = _DEGREE_SCALE.sub(r"^\\circ", _DEGREES.sub(r"^\\circ ", text).rstrip() if "^" in text else text)
    text = _ROOT_DIGITS.sub(r"\\sqrt{\1}", _ROOT_ROUND.sub(r"\\sqrt{\1}", _ROOT_CALL.sub(r"\\sqrt", text)))
    text = _HALF_POWER.sub(r"^{\\frac{1}{2}}", _PI.sub(r"\\pi ", text))
    text = _ROOT_OF_MINUS_ONE.sub("i", text)
    text = _NUMBER_OF_I.sub(r"\g<number>i", _I_FIRST.sub(r"\g<number>i", text))
    return _I.sub("i", _NEGATIVE_I.sub(r"-\1i", text))


def without_units(text: str) -> str:
    r"""`\$ 5.40` and `5.40 \text{ dollars}` as 5.40, without money signs and units; percent is `\%`."""
    text = _parts_as_fraction(_words_as_digits(_PERCENT.sub(r"\\%", text)))
    text = _DOZENS.sub(r"\g<number> \\cdot 12", text)
    text = _BEFORE_MONEY.sub(r"\g<sign>", text)
    if (found := _TEXT_UNIT.search(text)) and not _KEPT_WORDS & set(found["words"].split()):
        before = text[: found.start("unit")].rstrip()
        text = before if _DIGIT.search(before) else text
    text = _CURRENCY_AFTER.sub("", _FRACTION_OF_UNITS.sub("", text).rstrip())
    shorter = _SHORT_UNIT.sub("", _PLAIN_UNIT.sub("", text))
    if (nouns := _NOUNS_AFTER.search(shorter)) and not _NO_NOUNS & set(nouns["words"].replace("-", " ").split()):
        shorter = shorter[: nouns.start()]
    if (gaps := _GROUPED_BY_GAPS.fullmatch(shorter)) and not _MORE.search(gaps["rest"]):
        shorter = gaps["head"] + gaps["number"].replace(" ", "") + gaps["rest"]
    return shorter


def _words_as_digits(text: str) -> str:
    r"""`2.5 million` and `2.5\text{ million dollars}` as 2500000 and `2500000\text{dollars}`; others unchanged."""
    found = _IN_WORDS.fullmatch(text)
    if found is None or bool(found["text"]) != found["rest"].endswith("}"):
        return text
    unit = found["rest"].removesuffix("}").strip()
    if not found["text"] and unit and not _PLAIN_UNIT.search(f"1 {unit}"):
        return text
    rest = "" if not unit else rf"\text{{{unit}}}" if found["text"] else f" {unit}"
    return found["head"] + _expanded(found["digits"], _WORD_POWERS[found["word"]]) + rest


def _parts_as_fraction(text: str) -> str:
    r"""`12\text{ tenths}`, `1 tenth` and `\text{one third}` as `\frac{12}{10}`, `\frac{1}{10}` and `\frac{1}{3}`.

    `5\text{ third graders}` and all others are unchanged.
    """
    if (said := _FRACTION_IN_WORDS.fullmatch(text)) is not None:
        bottom = _PARTS.get(said["part"].lower(), 4)
        return rf"\frac{{{_NUMBERS_IN_WORDS[said['top'].lower()]}}}{{{bottom}}}"
    found = _COUNTED_PARTS.fullmatch(text)
    if found is None or bool(found["text"]) != found["rest"].endswith("}"):
        return text
    sign, number, unit = found["sign"], found["number"], found["rest"].removesuffix("}").strip()
    is_one = int(number) == 1 and (not unit or unit.startswith("of "))
    if not (is_one or found["plural"] or found["part"] == "halves") or (unit and not found["text"]):
        return text
    rest = rf"\text{{ {unit}}}" if unit else ""
    return rf"{sign}\frac{{{number}}}{{{_PARTS[found['part']]}}}{rest}"


def _slanted(match: re.Match[str]) -> str:
    r"""`^7/_4` as `\frac{7}{4}`."""
    return rf"\frac{{{match['top'] or match['top_digits']}}}{{{match['bottom'] or match['bottom_digits']}}}"


def _periodic(match: re.Match[str]) -> str:
    r"""Rewrites `0.1666...` as `0.1\overline{6}`. A text with other digits after the period stays."""
    if not match["again"].startswith(match["part"]):
        return match[0]
    return rf"{match['whole']}.{match['once']}\overline{{{match['again']}}}"


def _as_fraction(match: re.Match[str]) -> str:
    r"""`0.1\overline{6}` as `\frac{1}{6}`: the digits with one period less those without it, over nines and zeros."""
    again, once = match["again"] or match["digit"], match["once"]
    without = match["whole"] + once
    top = int(without + again) - int(without or "0")
    bottom = (10 ** len(again) - 1) * 10 ** len(once)
    divisor = gcd(top, bottom)
    top, bottom = top // divisor, bottom // divisor
    return str(top) if bottom == 1 else rf"\frac{{{top}}}{{{bottom}}}"


def _expanded(digits: str, power: int) -> str:
    r"""`9.901` and 3 as 9901; a number of more than 30 places as `9.9 \times 10^{40}`."""
    if abs(power) > 30:
        return rf"{digits} \times 10^{{{power}}}"
    whole, _, part = digits.partition(".")
    all_digits, point = whole + part, len(whole) + power
    if point <= 0:
        return "0." + "0" * -point + all_digits
    if point >= len(all_digits):
        return (all_digits + "0" * (point - len(all_digits))).lstrip("0") or "0"
    return all_digits[:point] + "." + all_digits[point:]
