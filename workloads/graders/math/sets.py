r"""Conditions on one variable as the set of real numbers that meet them: `3 < x \le 4`, `x < 2 \text{ or } x > 3`."""

import re
from collections.abc import Callable
from typing import Any

from sympy import FiniteSet, Interval, S, Set, Union

Parse = Callable[[str], Any]
"""The sympy value of a text, or None."""

LONGEST = 300
_BUILDER = re.compile(
    r"\\\{\s*+[A-Za-z]\s*+(?:\\in\s*+\\mathbb\{R\}\s*+)?(?:\\mid(?![a-z])|\||:|\\vert(?![a-z]))(?P<condition>.+)\\\}",
    re.DOTALL,
)
_REAL = re.compile(r",\s*+[a-z]\s*+\\in\s*+\\mathbb\{R\}$")
_OR = re.compile(
    r",?\s*+(?:\\text\{\s*+or\s*+\}|(?<![a-z\\])or(?![a-z])|\\lor(?![a-z])"
    r"|\\cup(?=\s*+(?:[a-z]\s?(?:[<>]|\\[lg]e(?![a-z]))|[^()\[\]<>]*+[<>])))"
)
_AND = re.compile(
    r",?\s*+(?:\\text\{\s*+(?:and|but|where|with)\s*+\}|(?<![a-z\\])and(?![a-z])|\\land(?![a-z]))"
    r"|[,;](?![^()\[\]]*+[)\]])"
)
_RELATION = re.compile(r"(\\le(?![a-z])|\\ge(?![a-z])|\\ne(?![a-z])|\\in(?![a-z])|\\notin(?![a-z])|<=|>=|!=|<|>|=)")
_VARIABLE = re.compile(r"[a-zA-Z]|\\(?:theta|alpha|beta|lambda|mu|phi)|[a-z]\s?\(\s?[a-z]\s?\)")
_SAME = {"<=": r"\le", ">=": r"\ge", "!=": r"\ne"}
_ASCENDING, _DESCENDING = {"<", r"\le"}, {">", r"\ge"}
_MIRRORED = {"<": ">", r"\le": r"\ge", ">": "<", r"\ge": r"\le", r"\ne": r"\ne"}


def set_of(text: str, parse: Parse) -> Set | None:
    """The set that conditions in their normal form describe; None if the text is something else."""
    if len(text) > LONGEST or _RELATION.search(text) is None:
        return None
    if builder := _BUILDER.fullmatch(text):
        text = builder["condition"].strip()
    variables: set[str] = set()
    parts = [_all_of(part, parse, variables) for part in _OR.split(_REAL.sub("", text))]
    sets = [part for part in parts if part is not None]
    if len(sets) < len(parts) or len(variables) != 1:
        return None
    return Union(*sets)


def _all_of(text: str, parse: Parse, variables: set[str]) -> Set | None:
    found: Set = S.Reals
    excluded = False
    for piece in filter(None, map(str.strip, _AND.split(text))):
        one = _one(piece, parse, variables)
        if one is None and excluded and (value := _real(piece, parse)) is not None:
            one = S.Reals - FiniteSet(value)  # the 3 of `x \ne 2, 3`
        if one is None:
            return None
        excluded = r"\ne" in piece or (excluded and _RELATION.search(piece) is None)
        found = found.intersect(one)
    return found


def _one(text: str, parse: Parse, variables: set[str]) -> Set | None:
    r"""`x < 5`, `5 > x`, `3 < x \le 4`, `x \in [3, 4]`."""
    pieces = [piece.strip() for piece in _RELATION.split(text)]
    if len(pieces) == 1 and text[:1] in "([":
        value = parse(text)
        return value if isinstance(value, Set) and not value.is_FiniteSet else None
    relations = [_SAME.get(relation, relation) for relation in pieces[1::2]]
    sides = pieces[::2]
    places = [index for index, side in enumerate(sides) if _VARIABLE.fullmatch(side)]
    if len(places) != 1 or len(sides) not in (2, 3):
        return None
    variables.add(sides[places[0]])
    if len(sides) == 3:
        if places[0] != 1 or not (set(relations) <= _ASCENDING or set(relations) <= _DESCENDING):
            return None
        left = _half(_MIRRORED[relations[0]], sides[0], parse)
        right = _half(relations[1], sides[2], parse)
        return None if left is None or right is None else left.intersect(right)
    if relations[0] == r"\in":
        value = parse(sides[1]) if places[0] == 0 else None
        return value if isinstance(value, Set) else None
    if relations[0] == r"\notin":
        value = parse(sides[1]) if places[0] == 0 else None
        return S.Reals - value if isinstance(value, Set) else None
    if places[0] == 0:
        return _half(relations[0], sides[1], parse)
    return _half(_MIRRORED[relations[0]], sides[0], parse) if relations[0] in _MIRRORED else None


def _half(relation: str, bound: str, parse: Parse) -> Set | None:
    value = _real(bound, parse)
    if value is None:
        return None
    match relation:
        case "<":
            return Interval.open(S.NegativeInfinity, value)
        case r"\le":
            return Interval(S.NegativeInfinity, value)
        case ">":
            return Interval.open(value, S.Infinity)
        case r"\ge":
            return Interval(value, S.Infinity)
        case r"\ne":
            return S.Reals - FiniteSet(value)
    return None


def _real(text: str, parse: Parse) -> Any:
    value = parse(text) if text else None
    return value if getattr(value, "is_extended_real", None) and not getattr(value, "free_symbols", None) else None
