"""The digest of a value that is too large to send: equal for equal values of equal types, in any order of sets and
dicts.

Numbers of numpy and instances of subclasses have the digests of the values that they are compared as (see
`typed_json`).
"""

import hashlib
import itertools
import json
import marshal
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any, Literal

from workloads.value_types import (
    DEEPEST,
    ITEMS,
    ITERATORS,
    KEYS,
    KNOWN,
    MARSHALLED,
    SCALARS,
    base_of,
    base_part,
    is_array,
    is_numpy_scalar,
    python_number,
)

Node = Callable[[Any, list[int], int], Any]
"""Takes a value, the nodes that it may have, and its depth. Returns what is sent for it (`typed_json`)."""
LOOKED_AT = 1_000
"""Items of a large list that are checked to choose how its digest is made."""


def digest_of(value: Any, node: Node) -> tuple[str, int]:
    """Returns (SHA-256, nodes). Lists and tuples of scalars at one depth use marshal; other values go node by node."""
    regular = _regular(value)
    if regular is not None:
        # marshal treats a numpy scalar as bytes: if there may be one, marshal gets a copy without any
        for exact in (regular == "exact" and "numpy" not in sys.modules, False):
            try:
                return _marshalled(value if exact else _exact(value, 0))
            except ValueError:  # an unchecked item is an instance of a subclass, or unknown to marshal
                continue
    seen, nodes = hashlib.sha256(), [0]
    for piece in _canonical(value, 0, nodes, node):
        seen.update(piece)
    return seen.hexdigest(), nodes[0]


def _marshalled(value: Any) -> tuple[str, int]:
    seen = hashlib.sha256(type(value).__name__.encode())
    for start in range(0, len(value), 10_000):
        seen.update(marshal.dumps(value[start : start + 10_000], 2))
    return seen.hexdigest(), len(value)


def _regular(value: Any) -> Literal["exact", "with subclasses"] | None:
    """Returns whether it is a list or tuple whose leaves are all scalars at one depth: marshal version 2 is then
    canonical.

    In a long one every n-th item is checked, the same ones in equal values.
    """
    if _exact_type(type(value)) not in (list, tuple):
        return None
    exact = type(value) in (list, tuple)
    level: Any = [*value[:: len(value) // LOOKED_AT + 1], *value[-1:]]
    for levels in range(4):
        found = set(map(type, _flattened(level, levels)))
        kinds = set(map(_exact_type, found))
        exact = exact and kinds == found
        if kinds <= MARSHALLED:
            return "exact" if exact else "with subclasses"
        if not kinds <= {list, tuple}:
            return None
    return None


def _flattened(value: Any, levels: int) -> Any:
    for _ in range(levels):
        value = itertools.chain.from_iterable(value)
    return value


def _exact_type(kind: type) -> type:
    """Returns the builtin type that instances of `kind` are compared as; `kind` itself if there is none."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and issubclass(kind, numpy.generic):
        scalars = {"b": bool, "i": int, "u": int, "f": float, "c": complex, "U": str}
        return scalars.get(numpy.dtype(kind).kind, kind)
    return kind if kind in SCALARS else base_of(kind) or kind


def _exact(value: Any, depth: int) -> Any:
    """Returns a copy with builtins for instances of subclasses and numpy scalars, to the depth that `_regular`
    checks.
    """
    if is_numpy_scalar(value):
        return python_number(value)
    base = _exact_type(type(value))
    if base in (list, tuple) and depth <= 4:
        return base([_exact(item, depth + 1) for item in base.__iter__(value)])
    return value if base is type(value) else base_part(value, base)


def _canonical(value: Any, depth: int, nodes: list[int], node: Node) -> Iterator[bytes]:
    nodes[0] += 1
    if type(value) not in KNOWN:
        if is_numpy_scalar(value):
            value = python_number(value)
        elif (base := base_of(type(value))) is not None:
            value = base_part(value, base)
    kind = type(value)
    below = depth + 1
    if depth > DEEPEST:
        yield b"deep"
    elif kind in (list, tuple, deque):
        yield b"(" + kind.__name__.encode()
        for item in value:
            yield from _canonical(item, below, nodes, node)
        yield b")"
    elif kind in (set, frozenset, KEYS, ITEMS):
        yield b"(" + kind.__name__.encode()
        yield from sorted(b"".join(_canonical(item, below, nodes, node)) for item in value)
        yield b")"
    elif kind in (dict, Counter):
        yield b"(" + kind.__name__.encode()
        yield from sorted(
            b"".join((*_canonical(k, below, nodes, node), b":", *_canonical(v, below, nodes, node)))
            for k, v in value.items()
        )
        yield b")"
    elif kind is str:
        yield b"<str " + value.encode("utf-8", "surrogatepass") + b">"
    elif kind in SCALARS or kind in (bytes, complex):
        yield b"<" + kind.__name__.encode() + (hex(value) if kind is int else repr(value)).encode() + b">"
    elif is_array(value):
        yield b"(array" + repr(value.shape).encode()
        for item in value.ravel().tolist():
            yield from _canonical(item, below, nodes, node)
        yield b")"
    elif any(issubclass(kind, iterator) for iterator in ITERATORS):
        yield b"<iterator>"
    else:
        yield json.dumps(node(value, [1 << 62], depth)).encode()
