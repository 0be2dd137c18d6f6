"""The types of values that `typed_json` encodes, and the compared parts of their instances.

Imports only the standard library, because it is loaded in the process of hostile programs.
"""

import math
import re
import sys
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

DEEPEST = 150
"""The deepest nesting that is encoded; deeper values (and cycles) are opaque."""
SCALARS = frozenset({int, float, str, bool, type(None)})
MARSHALLED = frozenset({int, float, str, bool, type(None), bytes, complex})
"""Types of single values that `marshal` writes exactly."""
_EMPTY: dict[Any, Any] = {}
KEYS = type(_EMPTY.keys())
ITEMS = type(_EMPTY.items())
ITERATORS = (Iterator, type(_EMPTY.values()))
_BASES = (
    Counter, OrderedDict, deque, Fraction, Decimal, int, float, str, list, tuple, dict, set, frozenset, bytes,
    bytearray, complex,
)  # fmt: skip
"""In the order in which they are tested: a Counter is a dict too."""
KNOWN = frozenset((*_BASES, *SCALARS))
"""Types whose values are encoded as they are; values of subclasses are converted first."""
NUMPY_KINDS = "biufcU"
"""numpy.dtype.kind of values that are encoded."""
NUMPY_SCALAR = re.compile(r"[<>|=][biufcU][0-9]{1,9}")


def is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) is numpy.ndarray and value.dtype.kind in NUMPY_KINDS


def is_numpy_scalar(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.generic) and value.dtype.kind in NUMPY_KINDS


def python_number(value: Any) -> Any:
    """Returns the Python value of a numpy scalar, exactly; a complex longdouble with more digits than Python has is
    returned as it is.
    """
    item = value.item()
    if type(item) in MARSHALLED:
        return item
    if value.dtype.kind == "f":
        return _widened(item)
    parts = _widened(item.real), _widened(item.imag)
    return complex(*parts) if all(type(part) is float for part in parts) else item


def _widened(longdouble: Any) -> float | Fraction:
    nearest = float(longdouble)
    is_exact = nearest == longdouble or math.isnan(nearest)
    return nearest if is_exact else Fraction(*longdouble.as_integer_ratio())


def base_of(kind: type) -> type | None:
    return next((base for base in _BASES if base in kind.__mro__), None)


def base_part(value: Any, base: type) -> Any:
    """Returns `value` as an instance of `base`, read with the methods of `base`, not with those of its class."""
    if base in (dict, Counter, OrderedDict):
        return base(dict(base.items(value)))
    if base in (list, tuple, set, frozenset, deque):
        return base(base.__iter__(value))
    if base is complex:
        return complex.__pos__(value)
    if base is bytes:
        return bytes.__getitem__(value, slice(None))
    if base is bytearray:
        return bytearray(bytearray.__getitem__(value, slice(None)))
    if base is Fraction:
        return Fraction(value.numerator, value.denominator)
    if base is Decimal:
        return Decimal(Decimal.__str__(value))
    return {int: int.__int__, float: float.__float__, str: str.__str__}[base](value)
