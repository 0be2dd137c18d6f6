r"""Finds answers that no checker can evaluate, by their text: towers of powers, factorials, nesting. Pure; linear.

Answers that pass may still reach the checker's limits. The filters catch the common costly ones, which would take
seconds each.
"""

import re

MOST_NESTED = 40
"""Open brackets and braces at one place; math-verify's parser takes seconds from some hundred on."""
MOST_SUCCESSIVE = 12
LARGEST_POWER, LARGEST_ARGUMENT, LARGEST_RANGE = 5_000, 2_000, 200
LARGEST_POWER_OF_SUM, LARGEST_DETERMINANT = 60, 25
_BRACKET = re.compile(r"\\[{}]|[(\[{]|[)\]}]")
_RUN = re.compile(rf"(?:[\[({{]\s?+){{{MOST_SUCCESSIVE + 1}}}")
_POWER = re.compile(r"\^\s?(?:(?P<digit>\d++)|\{(?P<inner>[^{}]*+)\}|(?P<open>\{))")
_LARGE_POWER_OF_SUM = re.compile(r"\)\s?\^\s?(?:\{\s?(\d++)\s?\}|(\d++))")
_FACTORIAL = re.compile(r"(?P<number>\d++)\s?!|[)}!]\s?(?P<nested>!)")
_BINOMIAL = re.compile(r"\\[dt]?binom\s?\{\s?(?P<top>[^{}]*+)\}|\{\s?(?P<choose>[^{}]*+)\\choose")
_UPPER = re.compile(r"\\(?:sum|prod)(?![a-z])[^^]{0,80}\^\s?(?:\{(?P<inner>[^{}]*+)\}|(?P<digit>\d++))")
_DETERMINANT = re.compile(r"\\det(?![a-z])|\\begin\{[vV]matrix\}")
_INNER_POWER = re.compile(r"\^\s?\{[^{}^]*?(?<!\d)(\d++)\s?\^\s?\{?\s?(\d++)")
_CHAIN = re.compile(r"\^\s?\d++\s?\^")
_NUMBER = re.compile(r"-?\d++")


def refusal_reason(text: str) -> str | None:
    """Returns why an answer in its normal form is too costly to evaluate, or None."""
    if _RUN.search(text) or _depth(text) > MOST_NESTED:
        return "nested too deeply"
    if (reason := _powers(text)) is not None:
        return reason
    for match in _FACTORIAL.finditer(text):
        if match["nested"] or _above(match["number"], LARGEST_ARGUMENT):
            return "a factorial of a large number"
    for match in _BINOMIAL.finditer(text):
        argument = match["top"] if match["top"] is not None else match["choose"]
        if "^" in argument or any(_above(number, LARGEST_ARGUMENT) for number in _NUMBER.findall(argument)):
            return "a binomial coefficient of a large number"
    for match in _UPPER.finditer(text):
        upper = match["inner"] if match["inner"] is not None else match["digit"]
        if "^" in upper or any(_above(number, LARGEST_RANGE) for number in _NUMBER.findall(upper)):
            return "a sum or product over a large range"
    if _DETERMINANT.search(text) and text.count("&") + text.count("\\\\") >= LARGEST_DETERMINANT:
        return "a large determinant"
    return None


def _depth(text: str) -> int:
    depth = most = 0
    for match in _BRACKET.finditer(text):
        if len(match[0]) == 1:
            depth = depth + 1 if match[0] in "([{" else max(0, depth - 1)
            most = max(most, depth)
    return most


def _powers(text: str) -> str | None:
    """Powers with a large exponent, and powers of powers of powers."""
    for match in _LARGE_POWER_OF_SUM.finditer(text):
        if _above(match[1] or match[2], LARGEST_POWER_OF_SUM):
            return "a large power of a sum"
    for match in _POWER.finditer(text):
        exponent = match["digit"] or match["inner"]
        if exponent is not None and any(_above(number, LARGEST_POWER) for number in _NUMBER.findall(exponent)):
            return "a power with a large exponent"
    if any(_tower(match[1], match[2]) for match in _INNER_POWER.finditer(text)) or _CHAIN.search(text):
        return "a tower of powers"
    if _nested_powers(text) > 2:
        return "a tower of powers"
    return None


def _nested_powers(text: str) -> int:
    r"""Returns how many exponents are nested: 2 for `2^{3^{4}}`."""
    within: list[bool] = []
    most = depth = 0
    after_caret = False
    for character in text:
        if character == "{":
            within.append(after_caret)
            depth += after_caret
            most = max(most, depth)
        elif character == "}" and within:
            depth -= within.pop()
        if not character.isspace():
            after_caret = character == "^"
            most = max(most, depth + after_caret)
    return most


def _tower(base: str, power: str) -> bool:
    """Returns whether base to the power is an exponent above the largest one. (digits of both)"""
    if int(base[:7]) < 2:
        return False
    return len(base) > 6 or len(power) > 4 or int(power) * (int(base).bit_length() - 1) > LARGEST_POWER.bit_length()


def _above(number: str, limit: int) -> bool:
    return len(number.lstrip("-0")) > 9 or int(number) > limit
