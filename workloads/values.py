"""Python values as typed JSON text: how arguments go into the sandbox, and results come out. Never pickle.

A scalar (None, bool, int, finite float, str) is itself; everything else is an array whose first element is a tag:
    l list, t tuple, s set, z frozenset, d dict ([k, v] pairs), b bytes, B bytearray, f nan/inf, i huge int, c complex,
    r range, q Fraction, D Decimal, k dict keys, n numpy array, N numpy scalar, C Counter, O OrderedDict, u deque,
    S a subclass ([name, value of its builtin base]), I an iterator or view (its items), o opaque ([type name]),
    H the digest of a value too large to send ([sha256, nodes]).
The encoder runs beside hostile code: whatever it is tricked into writing is just another value. The decoder reads
hostile text: it builds builtins, numbers and numpy arrays of listed types and nothing else, or raises Unreadable.
Imports nothing but the standard library (numpy only when a numpy value is met), so that the sandbox stays small.
"""

import hashlib
import itertools
import json
import marshal
import sys
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

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
_ITERATORS = (Iterator, type(_EMPTY.items()), type(_EMPTY.values()))
_BUILTIN_BASES = (int, float, str, list, tuple, dict, set, frozenset, bytes, complex)


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
    """An instance of a subclass of a builtin: compared as its builtin part, but of another type."""

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
    return _uncommon(value, room, depth)


def _uncommon(value: Any, room: list[int], depth: int) -> Any:
    kind = type(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and kind is numpy.ndarray and value.dtype.kind in "biufcU":
        room[0] -= int(value.size)
        if room[0] < 0:
            raise _TooLarge
        return [
            "n",
            value.dtype.str,
            list(value.shape),
            [_node(item, room, depth + 1) for item in value.ravel().tolist()],
        ]
    if numpy is not None and isinstance(value, numpy.generic) and value.dtype.kind in "biufcU":
        return ["N", value.dtype.str, _node(value.item(), room, depth + 1)]
    for base in _BUILTIN_BASES:
        if base in kind.__mro__:
            return ["S", kind.__name__, _node(_builtin_part(value, base), room, depth + 1)]
    if any(issubclass(kind, iterator) for iterator in _ITERATORS):
        return ["I", *[_node(item, room, depth + 1) for item in value]]
    return ["o", kind.__name__]


def _builtin_part(value: Any, base: type) -> Any:
    if base is dict:
        return dict(dict.items(value))
    if base in (list, tuple, set, frozenset):
        return base(base.__iter__(value))
    if base is complex:
        return complex.__pos__(value)
    if base is bytes:
        return bytes.__getitem__(value, slice(None))
    return {int: int.__int__, float: float.__float__, str: str.__str__}[base](value)


def _digest(value: Any) -> tuple[str, int]:
    """(SHA-256, nodes). Lists and tuples of plain scalars at one depth go through marshal; the rest, node by node."""
    if _is_regular(value):
        seen = hashlib.sha256(type(value).__name__.encode())
        try:
            for start in range(0, len(value), 10_000):
                seen.update(marshal.dumps(value[start : start + 10_000], 2))
            return seen.hexdigest(), len(value)
        except ValueError:  # an item that marshal does not know, between those that were looked at
            pass
    seen = hashlib.sha256()
    for piece in _canonical(value, 0):
        seen.update(piece)
    return seen.hexdigest(), 0


def _is_regular(value: Any) -> bool:
    """A list or tuple whose leaves are at one depth and exact scalars: marshal version 2 is canonical for it.

    Of a long one every n-th item is looked at, the same ones in equal values.
    """
    if type(value) not in (list, tuple):
        return False
    level: Any = [*value[:: len(value) // LOOKED_AT + 1], *value[-1:]]
    for levels in range(4):
        kinds = set(map(type, _flattened(level, levels)))
        if kinds <= _MARSHALLED:
            return True
        if not kinds <= {list, tuple}:
            return False
    return False


def _flattened(value: Any, levels: int) -> Any:
    for _ in range(levels):
        value = itertools.chain.from_iterable(value)
    return value


def _canonical(value: Any, depth: int) -> Iterator[bytes]:
    kind = type(value)
    if depth > DEEPEST:
        yield b"deep"
    elif kind in (list, tuple, deque):
        yield b"(" + kind.__name__.encode()
        for item in value:
            yield from _canonical(item, depth + 1)
        yield b")"
    elif kind in (set, frozenset):
        yield b"(" + kind.__name__.encode()
        yield from sorted(b"".join(_canonical(item, depth + 1)) for item in value)
        yield b")"
    elif kind in (dict, Counter):
        yield b"(" + kind.__name__.encode()
        yield from sorted(
            b"".join((*_canonical(k, depth + 1), b":", *_canonical(v, depth + 1))) for k, v in value.items()
        )
        yield b")"
    elif kind is str:
        yield b"<str " + value.encode("utf-8", "surrogatepass") + b">"
    elif kind in _SCALARS or kind in (bytes, complex):
        yield b"<" + kind.__name__.encode() + (hex(value) if kind is int else repr(value)).encode() + b">"
    else:
        try:
            yield json.dumps(_uncommon(value, [LARGEST_NODES], depth)).encode()
        except _TooLarge:
            yield b"a large " + kind.__name__.encode()


_RAISED_BY_NONSENSE = (
    ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, MemoryError,
)  # fmt: skip


def decode(text: str) -> Any:
    """The value; raises Unreadable. Builds no type but those of the table above."""
    try:
        return build(json.loads(text))
    except _RAISED_BY_NONSENSE as e:
        raise Unreadable(f"not an encoded value: {type(e).__name__}: {e}") from e


def build(node: Any) -> Any:
    """The value of a parsed node. Raises what its constructors raise; `decode` makes that Unreadable."""
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
        case "n" | "N":
            return _build_numpy(tag, rest)
        case "S":
            name, value = rest
            return Subclass(str(name), build(value))
        case "o":
            (name,) = rest
            return Opaque(str(name))
        case "H":
            sha256, nodes = rest
            return Digest(str(sha256), int(nodes))
    raise Unreadable(f"no such tag: {str(tag)[:40]!r}")


def _build_numpy(tag: str, rest: list[Any]) -> Any:
    import numpy

    dtype = numpy.dtype(str(rest[0]))
    if dtype.kind not in "biufcU" or dtype.itemsize > 4096:
        raise Unreadable(f"no such array type: {dtype}")
    if tag == "N":
        return dtype.type(build(rest[1]))
    shape, items = rest[1], rest[2]
    if len(items) > LARGEST_NODES:
        raise Unreadable("an array larger than what is sent")
    return numpy.array([build(item) for item in items], dtype=dtype).reshape([int(side) for side in shape])
