"""Python values as typed JSON text, for arguments and results of the sandbox. Never pickle.

A scalar (None, bool, int, finite float, str) is itself; everything else is an array whose first element is a tag:
    l list, t tuple, s set, z frozenset, d dict ([k, v] pairs), b bytes, B bytearray, f nan/inf, i huge int, c complex,
    r range, q Fraction, D Decimal, k dict keys, v dict items, n numpy array, N numpy scalar, C Counter, O OrderedDict,
    u deque, S a subclass ([name, value of its base]), I an iterator or view (its items), o opaque ([type name]),
    H the digest of a value too large to send ([sha256, nodes]).
The encoder runs in the process of hostile code: any text that it writes is only a value. The decoder reads
hostile text: it builds the types above and nothing else, or raises Unreadable. It returns numbers of numpy as Python
numbers of the same value, because numpy rounds what it compares with: np.float16("inf") == 100000 is true in numpy.
Arrays become arrays of Python objects, so that Python compares their elements. An instance of a subclass becomes an
instance of its base; the name of its type is kept only if it is the whole value, for the type rule of the tolerance.
Imports nothing but the standard library (numpy only when an array is decoded), so that the sandbox stays small.
"""

import json
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from workloads.value_digest import digest_of
from workloads.value_types import (
    DEEPEST,
    ITEMS,
    ITERATORS,
    KEYS,
    NUMPY_KINDS,
    NUMPY_SCALAR,
    base_of,
    base_part,
    is_array,
    is_numpy_scalar,
    python_number,
)

LARGEST_NODES = 20_000
"""Values with more nodes than this are sent as digests. A node is an element, or 16 characters of a string."""


class UnreadableValue(ValueError):
    """The text is not an encoded value."""


class _TooLarge(Exception):
    pass


@dataclass(frozen=True, eq=False)
class Opaque:
    """A value that cannot be compared: not equal to anything, including itself."""

    type_name: str

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = object.__hash__


@dataclass(frozen=True, eq=False)
class Items:
    """The items of an iterator or a view. Never equal to a list, because the iterator was not."""

    items: list[Any]


@dataclass(frozen=True)
class Digest:
    """A large value. Equal digests mean equal values of equal types, so a large [1] and [1.0] differ here."""

    sha256: str
    nodes: int


@dataclass(frozen=True, eq=False)
class Subclass:
    """The whole value is an instance of a subclass, or a numpy scalar (`name`: its dtype): equal to `value`, but of
    another type.
    """

    name: str
    value: Any


def encode(value: Any) -> str:
    """Returns typed JSON of any value; of a digest if it has more than LARGEST_NODES nodes."""
    room = [LARGEST_NODES]
    try:
        node = _node(value, room, 0)
    except _TooLarge:
        room[0] = -1
    if room[0] < 0:
        node = ["H", *digest_of(value, _node)]
    return json.dumps(node, separators=(",", ":"))


def encode_input(value: Any) -> str:
    """Returns typed JSON of a value of any size. Raises ValueError if decoding would not return the same value."""
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
    if kind is KEYS:
        return ["k", *[_node(item, room, below) for item in value]]
    if kind is ITEMS:
        return ["v", *[[_node(k, room, below), _node(v, room, below)] for k, v in value]]
    return _uncommon(value, room, depth)


def _uncommon(value: Any, room: list[int], depth: int) -> Any:
    kind = type(value)
    if is_array(value):
        room[0] -= int(value.size)
        if room[0] < 0:
            raise _TooLarge
        items = [_node(item, room, depth + 1) for item in value.ravel().tolist()]
        return ["n", value.dtype.str, list(value.shape), items]
    if is_numpy_scalar(value):
        number = python_number(value)
        if is_numpy_scalar(number):
            return ["o", kind.__name__]
        return ["N", value.dtype.str, _node(number, room, depth + 1)]
    base = base_of(kind)
    if base is not None:
        return ["S", kind.__name__, _node(base_part(value, base), room, depth + 1)]
    if any(issubclass(kind, iterator) for iterator in ITERATORS):
        return ["I", *[_node(item, room, depth + 1) for item in value]]
    return ["o", kind.__name__]


_RAISED_BY_NONSENSE = (
    ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, MemoryError,
)  # fmt: skip


def decode(text: str) -> Any:
    """Returns the value; raises UnreadableValue. Makes only the types in the table above."""
    try:
        node = json.loads(text)
        value = build(node)
        if type(node) is list and node[0] in ("S", "N"):
            return Subclass(str(node[1]), value)
        return value
    except _RAISED_BY_NONSENSE as e:
        raise UnreadableValue(f"not an encoded value: {type(e).__name__}: {e}") from e


def build(node: Any) -> Any:
    """Returns the value of a parsed node; an instance of a subclass becomes one of its base.

    Raises any exception of the constructors; `decode` converts it to UnreadableValue.
    """
    if type(node) is not list:
        if type(node) is dict:
            raise UnreadableValue("an object is not a node")
        return node
    if not node:
        raise UnreadableValue("an empty array is not a node")
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
                raise UnreadableValue("a number's text is too long")
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
    raise UnreadableValue(f"no such tag: {str(tag)[:40]!r}")


def _build_number(type_text: Any, node: Any) -> Any:
    number = build(node)
    if not NUMPY_SCALAR.fullmatch(type_text) or type(number) not in (bool, int, float, complex, str, Fraction):
        raise UnreadableValue(f"no numpy scalar: {str(type_text)[:40]!r}")
    return number


def _build_array(type_text: Any, shape: Any, items: Any) -> Any:
    """Returns an array of Python objects, each equal to the element that was sent."""
    import numpy

    dtype = numpy.dtype(str(type_text))
    if dtype.kind not in NUMPY_KINDS or dtype.itemsize > 4096:
        raise UnreadableValue(f"no such array type: {dtype}")
    if len(items) > LARGEST_NODES:
        raise UnreadableValue("an array larger than what is sent")
    array = numpy.empty(len(items), dtype=object)
    for index, item in enumerate(items):
        array[index] = build(item)
    return array.reshape([int(side) for side in shape])
