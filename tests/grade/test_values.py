"""Values cross the sandbox's border as typed JSON: nothing is lost, and nothing that is not a value gets through."""

import contextlib
import json
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from decimal import Decimal
from enum import IntEnum, StrEnum
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.typed_json import Digest, Items, Opaque, Subclass, UnreadableValue, decode, encode

HASHABLE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False)
    | st.fractions(),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=4),
    max_leaves=8,
)
VALUES = st.recursive(
    HASHABLE,
    lambda inner: st.lists(inner) | st.dictionaries(HASHABLE, inner, max_size=4) | st.sets(HASHABLE, max_size=4),
    max_leaves=20,
)


def _types(value: object) -> object:
    if isinstance(value, dict):
        return (type(value), frozenset((_types(k), _types(v)) for k, v in value.items()))
    if isinstance(value, list | tuple):
        return (type(value), tuple(_types(item) for item in value))
    return type(value)


@pytest.mark.slow
@settings(max_examples=40)
@given(VALUES)
def test_a_value_comes_back_equal_and_of_its_type(value: object) -> None:
    back = decode(encode(value))
    assert back == value
    assert _types(back) == _types(value)


@pytest.mark.parametrize(
    "value",
    [
        Counter("aab"), OrderedDict([(1, 2)]), deque([1]), range(1, 9, 2), Decimal("1.50"), Fraction(1, 3),
        bytearray(b"x"), 10**5000, -(10**400), float("inf"), {1: 2}.keys(), {frozenset({1}): [()]},
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_the_types_that_solutions_use(value: object) -> None:
    assert decode(encode(value)) == value
    assert type(decode(encode(value))) is type(value)


def test_numbers_of_numpy_come_back_as_python_numbers_of_the_same_value() -> None:
    array = decode(encode(np.array([[1.5, 2.0]], dtype=np.float16)))
    assert array.shape == (1, 2)
    assert [type(item) for item in array.flat] == [float, float]
    assert np.array_equal(array, np.array([[1.5, 2.0]]))
    four = decode(encode(np.float32(4)))
    assert isinstance(four, Subclass)
    assert (four.name, four.value, type(four.value)) == ("<f4", 4.0, float)


@pytest.mark.parametrize(
    ("number", "python"),
    [
        (np.float16("inf"), float("inf")), (np.float32(0.1), 0.10000000149011612), (np.int8(-1), -1), (np.bool_(1), True),
        (np.uint64(2**64 - 1), 2**64 - 1), (np.complex64(1 + 2j), 1 + 2j), (np.str_("a"), "a"),
        (np.longdouble(0.5), 0.5), (np.longdouble("inf"), float("inf")),
        (np.longdouble(2**53) + 1, Fraction(2**53 + 1)), (np.longdouble(2) ** 2000, Fraction(2**2000)), (np.clongdouble(1j), 1j),
    ],
)  # fmt: skip
def test_numpy_scalars_are_exact(number: object, python: object) -> None:
    (inner,) = decode(encode([number]))
    assert inner == python
    assert type(inner) is type(python)


class Point(NamedTuple):
    x: int
    y: int


class Colour(IntEnum):
    RED = 1


class Text(StrEnum):
    A = "a"


class Name(str):
    pass


class Half(Fraction):
    pass


class Queue(deque[object]):
    pass


class Bag(Counter[str]):
    pass


@pytest.mark.parametrize(
    ("value", "python"),
    [
        ([Point(1, 2)], [(1, 2)]),
        ({"a": defaultdict(list, b=[1])}, {"a": {"b": [1]}}),
        ((Colour.RED, Text.A), (1, "a")),
        ({Name("k"): 1}, {"k": 1}),
        ({Point(1, 2)}, {(1, 2)}),
        ({(np.int64(1), np.str_("a")): np.float64(0.5)}, {(1, "a"): 0.5}),
        ([np.longdouble(2)], [2]),
        ([Half(1, 2)], [0.5]),
        ([Queue([1])], [deque([1])]),
        ([Bag("aab")], [Counter("aab")]),
        ([{1: 2}.items()], [{(1, 2)}]),
        ([[[defaultdict(int)]]], [[[{}]]]),
    ],
)
def test_instances_of_subclasses_within_a_value_are_equal_where_python_says_so(value: object, python: object) -> None:
    assert value == python
    assert decode(encode(value)) == python


@pytest.mark.slow
@pytest.mark.parametrize(
    ("value", "python"),
    [
        ([Point(n, -n) for n in range(30_000)], [(n, -n) for n in range(30_000)]),
        ([np.int64(n) for n in range(30_000)], list(range(30_000))),
        ([*range(29_990), *[Colour.RED] * 10], [*range(29_990), *[1] * 10]),
        ([0, Colour.RED, *range(29_990)], [0, 1, *range(29_990)]),
        ([0, np.int64(1), *range(29_990)], [0, 1, *range(29_990)]),
        ([0, [np.int64(1)], *range(29_990)], [0, [1], *range(29_990)]),
        (defaultdict(int, {n: n for n in range(30_000)}), {n: n for n in range(30_000)}),
    ],
)
def test_that_holds_of_digests_too(value: object, python: object) -> None:
    assert isinstance(decode(encode(value)), Digest)
    assert decode(encode(value)) == decode(encode(python))


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda n: defaultdict(int, dict.fromkeys(range(30000), n)),
        lambda n: np.full(30_000, n),
        lambda n: [Fraction(n, 7)] * 30_000,
        lambda n: [Decimal(n)] * 30_000,
        lambda n: {"a": np.full(30_000, n)},
        lambda n: [OrderedDict({n: n}), *range(30_000)],
    ],
)
def test_digests_of_unequal_values_differ(make: Callable[[int], object]) -> None:
    assert decode(encode(make(1))) == decode(encode(make(1)))
    assert decode(encode(make(1))) != decode(encode(make(2)))


def test_an_instance_of_a_subclass_is_its_builtin_part_and_its_name() -> None:
    class Sly(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    value = decode(encode(Sly(7)))
    assert isinstance(value, Subclass)
    assert (value.name, value.value, value.value == 8) == ("Sly", 7, False)


def test_values_that_cannot_be_compared_equal_nothing() -> None:
    value = decode(encode(object()))
    assert isinstance(value, Opaque)
    assert value != decode(encode(object()))
    assert [value] != [decode(encode(object()))]
    items = decode(encode(iter([1, 2])))
    assert isinstance(items, Items)
    assert items.items == [1, 2]
    plain: object = [1, 2]
    assert items != plain


def test_large_values_are_digests_that_equal_values_share() -> None:
    large = [(n, str(n)) for n in range(30_000)]
    value = decode(encode(large))
    assert isinstance(value, Digest)
    assert value == decode(encode(list(large)))
    assert value != decode(encode([*large[:-1], (0, "")]))
    assert value != decode(encode(tuple(large)))


@pytest.mark.slow
def test_large_sets_and_dicts_have_one_digest_whatever_their_order() -> None:
    names = [f"k{n}" for n in range(30_000)]
    assert decode(encode(dict.fromkeys(names))) == decode(encode(dict.fromkeys(reversed(names))))
    assert decode(encode(set(names))) == decode(encode({*names[9:], *names}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(list("ltszdbBficrqDknNCOuSIoH")) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=12,
)  # fmt: skip


@given(JSON)
def test_hostile_json_is_a_value_or_unreadable(node: object) -> None:
    with contextlib.suppress(UnreadableValue):
        decode(json.dumps(node))


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "[" * 100_000, '["l"', '["nope",1]', '["s",["l"]]', '["n","O",[1],[1]]', '["N","V8",1]',
     '["n","<i8",[1000000000000],[1]]', '["i",5]', '["d",[1]]', '["D","not a number"]', '["f","1' + "0" * 20_000 + '"]'],
)  # fmt: skip
def test_an_invalid_value_is_unreadable(text: str) -> None:
    with pytest.raises(UnreadableValue):
        decode(text)
