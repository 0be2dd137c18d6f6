"""Values cross the sandbox's border as typed JSON: nothing is lost, and nothing that is not a value gets through."""

import contextlib
import json
from collections import Counter, OrderedDict, deque
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.values import Digest, Items, Opaque, Subclass, Unreadable, decode, encode

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


def test_numpy() -> None:
    array = np.array([[1.5, 2.0]])
    assert np.array_equal(decode(encode(array)), array)
    assert decode(encode(np.int64(4))) == 4
    assert type(decode(encode(np.float32(4)))) is np.float32


def test_an_instance_of_a_subclass_is_its_builtin_part_and_its_name() -> None:
    class Sly(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    value = decode(encode(Sly(7)))
    assert isinstance(value, Subclass)
    assert (value.name, value.value, value.value == 8) == ("Sly", 7, False)


def test_what_cannot_be_compared_is_equal_to_nothing() -> None:
    value = decode(encode(object()))
    assert isinstance(value, Opaque)
    assert value != decode(encode(object()))
    assert [value] != [decode(encode(object()))]
    items = decode(encode(iter([1, 2])))
    assert isinstance(items, Items)
    assert items.items == [1, 2]
    assert items != [1, 2]


def test_large_values_are_digests_that_equal_values_share() -> None:
    large = [(n, str(n)) for n in range(30_000)]
    value = decode(encode(large))
    assert isinstance(value, Digest)
    assert value == decode(encode(list(large)))
    assert value != decode(encode([*large[:-1], (0, "")]))
    assert value != decode(encode(tuple(large)))


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
    with contextlib.suppress(Unreadable):
        decode(json.dumps(node))


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "[" * 100_000, '["l"', '["nope",1]', '["s",["l"]]', '["n","O",[1],[1]]', '["N","V8",1]',
     '["n","<i8",[1000000000000],[1]]', '["i",5]', '["d",[1]]', '["D","not a number"]', '["f","1' + "0" * 20_000 + '"]'],
)  # fmt: skip
def test_what_is_no_value_is_unreadable(text: str) -> None:
    with pytest.raises(Unreadable):
        decode(text)
