"""Python values as typed JSON text: how arguments go into the sandbox, and results come out. Never pickle.

A scalar (None, bool, int, finite float, str) is itself; everything else is an array whose first element is a tag:
    l list, t tuple, s set, z frozenset, d dict ([k, v] pairs), b bytes, B bytearray, f nan/inf, i huge int, c complex,
    r range, q Fraction, D Decimal, k dict keys, v dict items, n numpy array, N numpy scalar, C Counter, O OrderedDict,
    u deque, S a subclass ([name, value of its base]), I an iterator or view (its items), o opaque ([type name]),
    H the digest of a value too large to send ([sha256, nodes]).
The encoder runs beside hostile code: whatever it is tricked into writing is just another value. The decoder reads
hostile text: it builds the types above and nothing else, or raises Unreadable. It returns numbers of numpy as Python
numbers of the same value, because numpy rounds what it compares with: np.float16("inf") == 100000 is true in numpy.
Arrays become arrays of Python objects, so that Python compares their elements. An instance of a subclass becomes an
instance of its base; the name of its type is kept only if it is the whole value, for the type rule of the tolerance.
Imports nothing but the standard library (numpy only when an array is decoded), so that the sandbox stays small.
"""

import hashlib
import itertools
import json
import marshal
import math
import re
import sys
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal

LARGEST_NODES = 20_000
"""Values of more nodes than this travel as digests. A node is an element, or 16 characters of a string."""
DEEPEST = 150
"""Nesting that is encoded; deeper values (and cycles) are opaque."""
LOOKED_AT = 1_000
"""Items of a large list that decide how its digest is made."""

_SCALARS = frozenset({int, float, str, bool, type(None)})
_MARSHALLED = frozenset({int, float, str, bool, type(None), bytes, complex})
_EMPTY: dict[Any, Any] = {}
_KEYS = type(_EMPTY.keys())
_ITEMS = type(_EMPTY.items())
_ITERATORS = (Iterator, type(_EMPTY.values()))
_BASES = (
    Counter, OrderedDict, deque, Fraction, Decimal, int, float, str, list, tuple, dict, set, frozenset, bytes,
    bytearray, complex,
)  # fmt: skip
"""In the order in which they are looked for: a Counter is a dict too."""
_KNOWN = frozenset((*_BASES, *_SCALARS))
_NUMPY_KINDS = "biufcU"
"""numpy.dtype.kind of what is encoded."""
_NUMPY_SCALAR = re.compile(r"[<>|=][biufcU][0-9]{1,9}")


class Unreadable(ValueError):
    """The text is not an encoded value."""


class _TooLarge(Exception):
    pass


@dataclass(frozen=True, eq=False)
class Opaque:
    """A value that cannot be compared: equal to nothing, itself included."""

    type_name: str

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = object.__hash__


@dataclass(frozen=True, eq=False)
class Items:
    """What an iterator or a view yielded. Never equal to a list, as the iterator was not."""

    items: list[Any]


@dataclass(frozen=True)
class Digest:
    """A large value. Equal digests: equal values of equal types, so a large [1] and [1.0] differ here."""

    sha256: str
    nodes: int


@dataclass(frozen=True, eq=False)
class Subclass:
    """The whole value is of a subclass, or a numpy scalar (`name`: its dtype): equal to `value`, of another type."""

    name: str
    value: Any


def encode(value: Any) -> str:
    """Typed JSON of any value; of a digest if it has more than LARGEST_NODES nodes."""
    room = [LARGEST_NODES]
    try:
        node = _node(value, room, 0)
    except _TooLarge:
        room[0] = -1
    if room[0] < 0:
        node = ["H", *_digest(value)]
    return json.dumps(node, separators=(",", ":"))


def encode_input(value: Any) -> str:
    """Typed JSON of a value of any size. ValueError if it would not come back as it is."""
    text = json.dumps(_node(value, [1 << 62], 0), separators=(",", ":"))
    if decode(text) != value:
        raise ValueError(f"a value of type {type(value).__name__} that cannot be sent to a candidate")
    return text


def _node(value: Any, room: list[int], depth: int) -> Any:
    kind = type(value)
    room[0] -= 1
    if room[0] < 0:
        raise _TooLarge
    if kind is bool or value is None:
        return value
    if kind is int:
        if -(1 << 1023) < value < 1 << 1023:
            return value
        room[0] -= value.bit_length() // 128
        return ["i", hex(value)]
    if kind is float:
        return value if value - value == 0 else ["f", repr(value)]
    if kind is str:
        room[0] -= len(value) // 16
        return value
    if depth > DEEPEST:
        return ["o", "deeper than can be compared"]
    below = depth + 1
    if kind is list:
        return ["l", *[_node(item, room, below) for item in value]]
    if kind is tuple:
        return ["t", *[_node(item, room, below) for item in value]]
    if kind is dict:
        return ["d", *[[_node(k, room, below), _node(v, room, below)] for k, v in value.items()]]
    if kind is set or kind is frozenset:
        return ["s" if kind is set else "z", *[_node(item, room, below) for item in value]]
    if kind is complex:
        return ["c", _node(value.real, room, below), _node(value.imag, room, below)]
    if kind is bytes or kind is bytearray:
        room[0] -= len(value) // 16
        return ["b" if kind is bytes else "B", value.hex()]
    if kind is range:
        return ["r", value.start, value.stop, value.step]
    if kind is Fraction:
        return ["q", hex(value.numerator), hex(value.denominator)]
    if kind is Decimal:
        return ["D", str(value)]
    if kind is Counter or kind is OrderedDict:
        tag = "C" if kind is Counter else "O"
        return [tag, *[[_node(k, room, below), _node(v, room, below)] for k, v in value.items()]]
    if kind is deque:
        return ["u", *[_node(item, room, below) for item in value]]
    if kind is _KEYS:
        return ["k", *[_node(item, room, below) for item in value]]
    if kind is _ITEMS:
        return ["v", *[[_node(k, room, below), _node(v, room, below)] for k, v in value]]
    return _uncommon(value, room, depth)


def _uncommon(value: Any, room: list[int], depth: int) -> Any:
    kind = type(value)
    if _is_array(value):
        room[0] -= int(value.size)
        if room[0] < 0:
            raise _TooLarge
        items = [_node(item, room, depth + 1) for item in value.ravel().tolist()]
        return ["n", value.dtype.str, list(value.shape), items]
    if _is_numpy_scalar(value):
        number = _python_number(value)
        if number is None:
            return ["o", kind.__name__]
        return ["N", value.dtype.str, _node(number, room, depth + 1)]
    base = _base_of(kind)
    if base is not None:
        return ["S", kind.__name__, _node(_base_part(value, base), room, depth + 1)]
    if any(issubclass(kind, iterator) for iterator in _ITERATORS):
        return ["I", *[_node(item, room, depth + 1) for item in value]]
    return ["o", kind.__name__]


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) is numpy.ndarray and value.dtype.kind in _NUMPY_KINDS


def _is_numpy_scalar(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.generic) and value.dtype.kind in _NUMPY_KINDS


def _python_number(value: Any) -> Any:
    """The Python value of a numpy scalar, exactly; None if there is none, which a complex longdouble may not have.

    `item()` returns a longdouble unchanged. If it has more digits than a float, it becomes a Fraction.
    """
    item = value.item()
    if type(item) in _MARSHALLED:
        return item
    if value.dtype.kind == "f":
        return _widened(item)
    parts = _widened(item.real), _widened(item.imag)
    return complex(*parts) if all(type(part) is float for part in parts) else None


def _widened(longdouble: Any) -> float | Fraction:
    nearest = float(longdouble)
    is_exact = nearest == longdouble or math.isnan(nearest)
    return nearest if is_exact else Fraction(*longdouble.as_integer_ratio())


def _base_of(kind: type) -> type | None:
    return next((base for base in _BASES if base in kind.__mro__), None)


def _base_part(value: Any, base: type) -> Any:
    """`value` as an instance of `base`, read by the methods of `base` and not by those of its own class."""
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


def _digest(value: Any) -> tuple[str, int]:
    """(SHA-256, nodes). Lists and tuples of scalars at one depth go through marshal; the rest, node by node."""
    regular = _regular(value)
    if regular is not None:
        for exact in (regular == "exact", False):
            try:
                return _marshalled(value if exact else _exact(value, 0))
            except ValueError:  # an item that was not looked at is of a subclass, or unknown to marshal
                continue
    seen, nodes = hashlib.sha256(), [0]
    for piece in _canonical(value, 0, nodes):
        seen.update(piece)
    return seen.hexdigest(), nodes[0]


def _marshalled(value: Any) -> tuple[str, int]:
    seen = hashlib.sha256(type(value).__name__.encode())
    for start in range(0, len(value), 10_000):
        seen.update(marshal.dumps(value[start : start + 10_000], 2))
    return seen.hexdigest(), len(value)


def _regular(value: Any) -> Literal["exact", "with subclasses"] | None:
    """Whether this is a list or tuple of which all leaves are scalars at one depth: marshal version 2 is canonical.

    Of a long one every n-th item is looked at, the same ones in equal values.
    """
    if _exact_type(type(value)) not in (list, tuple):
        return None
    exact = type(value) in (list, tuple)
    level: Any = [*value[:: len(value) // LOOKED_AT + 1], *value[-1:]]
    for levels in range(4):
        found = set(map(type, _flattened(level, levels)))
        kinds = set(map(_exact_type, found))
        exact = exact and kinds == found
        if kinds <= _MARSHALLED:
            return "exact" if exact else "with subclasses"
        if not kinds <= {list, tuple}:
            return None
    return None


def _flattened(value: Any, levels: int) -> Any:
    for _ in range(levels):
        value = itertools.chain.from_iterable(value)
    return value


def _exact_type(kind: type) -> type:
    """The builtin type that instances of `kind` are compared as; `kind` itself if there is none."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and issubclass(kind, numpy.generic):
        scalars = {"b": bool, "i": int, "u": int, "f": float, "c": complex, "U": str}
        return scalars.get(numpy.dtype(kind).kind, kind)
    return kind if kind in _SCALARS else _base_of(kind) or kind


def _exact(value: Any, depth: int) -> Any:
    """A copy with builtins for instances of subclasses and numpy scalars, as deep as `_regular` looks."""
    if _is_numpy_scalar(value):
        return _python_number(value)
    base = _exact_type(type(value))
    if base in (list, tuple) and depth <= 4:
        return base([_exact(item, depth + 1) for item in base.__iter__(value)])
    return value if base is type(value) else _base_part(value, base)


def _canonical(value: Any, depth: int, nodes: list[int]) -> Iterator[bytes]:
    nodes[0] += 1
    if type(value) not in _KNOWN:
        if _is_numpy_scalar(value):
            value = _python_number(value)
        elif (base := _base_of(type(value))) is not None:
            value = _base_part(value, base)
    kind = type(value)
    below = depth + 1
    if depth > DEEPEST:
        yield b"deep"
    elif kind in (list, tuple, deque):
        yield b"(" + kind.__name__.encode()
        for item in value:
            yield from _canonical(item, below, nodes)
        yield b")"
    elif kind in (set, frozenset, _KEYS, _ITEMS):
        yield b"(" + kind.__name__.encode()
        yield from sorted(b"".join(_canonical(item, below, nodes)) for item in value)
        yield b")"
    elif kind in (dict, Counter):
        yield b"(" + kind.__name__.encode()
        yield from sorted(
            b"".join((*_canonical(k, below, nodes), b":", *_canonical(v, below, nodes))) for k, v in value.items()
        )
        yield b")"
    elif kind is str:
        yield b"<str " + value.encode("utf-8", "surrogatepass") + b">"
    elif kind in _SCALARS or kind in (bytes, complex):
        yield b"<" + kind.__name__.encode() + (hex(value) if kind is int else repr(value)).encode() + b">"
    elif _is_array(value):
        yield b"(array" + repr(value.shape).encode()
        for item in value.ravel().tolist():
            yield from _canonical(item, below, nodes)
        yield b")"
    elif any(issubclass(kind, iterator) for iterator in _ITERATORS):
        yield b"<iterator>"
    else:
        yield json.dumps(_node(value, [1 << 62], depth)).encode()


_RAISED_BY_NONSENSE = (
    ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, MemoryError,
)  # fmt: skip


def decode(text: str) -> Any:
    """The value; raises Unreadable. Builds no type but those of the table above."""
    try:
        node = json.loads(text)
        value = build(node)
        if type(node) is list and node[0] in ("S", "N"):
            return Subclass(str(node[1]), value)
        return value
    except _RAISED_BY_NONSENSE as e:
        raise Unreadable(f"not an encoded value: {type(e).__name__}: {e}") from e


def build(node: Any) -> Any:
    """The value of a parsed node, an instance of a subclass as one of its base.

    Raises what the constructors raise; `decode` makes that Unreadable.
    """
    if type(node) is not list:
        if type(node) is dict:
            raise Unreadable("an object is no node")
        return node
    if not node:
        raise Unreadable("an empty array is no node")
    tag, *rest = node
    match tag:
        case "l":
            return [build(item) for item in rest]
        case "t":
            return tuple([build(item) for item in rest])
        case "s":
            return {build(item) for item in rest}
        case "z":
            return frozenset([build(item) for item in rest])
        case "d":
            return {build(k): build(v) for k, v in rest}
        case "C":
            return Counter({build(k): build(v) for k, v in rest})
        case "O":
            return OrderedDict([(build(k), build(v)) for k, v in rest])
        case "u":
            return deque([build(item) for item in rest])
        case "k":
            return dict.fromkeys([build(item) for item in rest]).keys()
        case "v":
            return {build(k): build(v) for k, v in rest}.items()
        case "I":
            return Items([build(item) for item in rest])
        case "f" | "D":
            (text,) = rest
            if type(text) is not str or len(text) > 10_000:
                raise Unreadable("a number's text is too long")
            return float(text) if tag == "f" else Decimal(text)
        case "i":
            (text,) = rest
            return int(text, 16)
        case "q":
            return Fraction(int(rest[0], 16), int(rest[1], 16))
        case "c":
            real, imaginary = rest
            return complex(build(real), build(imaginary))
        case "b" | "B":
            (text,) = rest
            return bytes.fromhex(text) if tag == "b" else bytearray.fromhex(text)
        case "r":
            start, stop, step = rest
            return range(start, stop, step)
        case "n":
            return _build_array(*rest)
        case "N":
            type_text, number = rest
            return _build_number(type_text, number)
        case "S":
            _, value = rest
            return build(value)
        case "o":
            (name,) = rest
            return Opaque(str(name))
        case "H":
            sha256, nodes = rest
            return Digest(str(sha256), int(nodes))
    raise Unreadable(f"no such tag: {str(tag)[:40]!r}")


def _build_number(type_text: Any, node: Any) -> Any:
    number = build(node)
    if not _NUMPY_SCALAR.fullmatch(type_text) or type(number) not in (bool, int, float, complex, str, Fraction):
        raise Unreadable(f"no numpy scalar: {str(type_text)[:40]!r}")
    return number


def _build_array(type_text: Any, shape: Any, items: Any) -> Any:
    """An array of Python objects, each of them equal to the element that was sent."""
    import numpy

    dtype = numpy.dtype(str(type_text))
    if dtype.kind not in _NUMPY_KINDS or dtype.itemsize > 4096:
        raise Unreadable(f"no such array type: {dtype}")
    if len(items) > LARGEST_NODES:
        raise Unreadable("an array larger than what is sent")
    array = numpy.empty(len(items), dtype=object)
    for index, item in enumerate(items):
        array[index] = build(item)
    return array.reshape([int(side) for side in shape])
