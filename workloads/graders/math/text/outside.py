r"""Text around an answer: delimiters, braces, bold, a point at its end, words before it. Pure, linear."""

import re

_PAIRS = ((r"\(", r"\)"), (r"\[", r"\]"), ("$$", "$$"), ("$", "$"), ("**", "**"), ("__", "__"), ("*", "*"), ("`", "`"))
_ENDS = re.compile(
    r"(?:(?<!\.)\.(?!\.)|[,;:]|\\\\|\\(?=\s|$)|\\[,;: ]|~|\s|\\(?:qed|checkmark|blacksquare|Box|quad"
    r"|qquad)(?![A-Za-z]))++$"
)
LONGEST_END = 100
_SAID = (
    r"(?i:so|thus|hence|therefore|the|final|correct|my|our|answer|ans|result|solution|value|is|are"
    r"|equals?|be)(?![A-Za-z])"
)
_STARTS = re.compile(
    r"(?:\s|~|\\[,;: !]|[,;:]|=>|=(?!=)|&|\\(?:therefore|implies|Rightarrow|Longrightarrow|approx|quad"
    r"|qquad)(?![A-Za-z])"
    rf"|\\text\s?\{{\s*+(?:{_SAID}|[:,=]|\s)++\}}"
    r"|\*{0,2}(?:(?i:the|final|correct)\s++)*+(?i:answer|result|solution|ans)(?:\s++(?i:is|are)"
    r"(?![A-Za-z])\s*+:?|\s*+:|\s*+=)\s*+\*{0,2}\s*+|\\(?:to|rightarrow|longrightarrow)(?![A-Za-z])|\#{1,4}\s)++"
)
_SUBJECT = (
    r"(?:(?i:domain|range|points?|vertex|vertices|center|centre|focus|coordinates|interval|intervals|solutions?|roots?(?=\s++(?:is|are)|\s*+:)|zeros|angle"
    r"|angles|area|volume|perimeter|length|distance|sum|product|probability|minimum|maximum|total|numbers?|values?|ways|matrix|vector|equation"
    r"|line|set|cost|price|remainder|ratio|union|all|real|possible|of|the|there|we|have|get|is|are|so|for|exactly|only|both|only|and|that"
    r"|inverse|function|expression|polynomial|measure)(?![A-Za-z]))"
)
_SUBJECT_IN_TEXT = re.compile(rf"\\text\s?\{{\s*+(?:{_SUBJECT}[\s:=]*+)++\}}[\s:=]*+(?P<rest>.+)", re.DOTALL)
_ALL_IN_TEXT = re.compile(rf"\\text\s?\{{\s*+(?:(?:{_SUBJECT}|{_SAID})[\s:=]*+)++(?P<rest>[^{{}}]+)\}}")
_FORMULA_IN_TEXT = re.compile(r"\\(?:text(?:bf|it|rm|sf)?|emph)\s?\{\s?\$(?P<formula>[^$]++)\$[.,]?\s?\}")
_PLAIN_SUBJECT = re.compile(
    rf"(?:{_SUBJECT}\s*+)++(?::|=|(?<=is\s)|(?<=are\s)|(?<=are)|(?<=is))\s*+(?P<rest>.+)", re.DOTALL
)
_MATHEMATICS = re.compile(r"[-+(\[$\d.]|\\(?!text)|[A-Za-z]\s?(?:[<>=]|'?\s?=|\\(?:le|ge|in|ne)(?![a-z]))|[A-Z]\s?\(")
_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)
MOST_LAYERS = 8


def bare(text: str) -> str:
    r"""Returns the answer without the text around it, as in `$\mathbf{5}.$`, `**5**`, `{(1,2)}`, `The answer is 5`."""
    for _ in range(MOST_LAYERS):
        before = text
        start = _STARTS.match(text)
        text = _without_end(text[start.end() :] if start else text).strip()
        if start and start[0].count("**") == 1 and text.endswith("**"):
            text = text[:-2].strip()
        text = _without_subject(text)
        if formula := _FORMULA_IN_TEXT.fullmatch(text):
            text = formula["formula"].strip()
        for left, right in _PAIRS:
            if len(text) > len(left) + len(right) and text.startswith(left) and text.endswith(right):
                inner = text[len(left) : -len(right)]
                if left not in inner and right not in inner:
                    text = inner.strip()
        if text[:1] == "{" and text[-1:] == "}":
            text = _unbraced(text)
        if text == before:
            break
    return text


def _without_subject(text: str) -> str:
    r"""Returns `\text{Domain: } (2, 3)` and `The solutions are 1, 2` without the words before the mathematics."""
    said = _SUBJECT_IN_TEXT.fullmatch(text) or _ALL_IN_TEXT.fullmatch(text) or _PLAIN_SUBJECT.fullmatch(text)
    return said["rest"] if said and _MATHEMATICS.match(said["rest"]) else text


def _without_end(text: str) -> str:
    found = _ENDS.search(text, max(0, len(text) - LONGEST_END))
    return text[: found.start()] if found else text


def _unbraced(text: str) -> str:
    """All the braces that enclose the whole text are taken off, in one pass."""
    opened = len(text) - len(text.lstrip("{"))
    closed = len(text) - len(text.rstrip("}"))
    depth = least = opened
    for token in _BRACES.finditer(text, opened, len(text) - closed):
        depth += {"{": 1, "}": -1}.get(token[0], 0)
        least = min(least, depth)
    if depth != closed or text[-closed - 1 : -closed] == "\\":
        return text
    count = max(0, least)
    return text[count : len(text) - count].strip()
