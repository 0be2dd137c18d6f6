"""When requests that wait join a batch."""

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.engines.base import Decoding, Request
from workloads.engines.transformers.admission import SHARE, Admission

DECODING = Decoding(temperature=0.0, top_p=1.0, limit_tokens=1, stop_token_ids=())


def requests(count: int) -> Iterator[Request]:
    return (Request(str(number), "group", (1,), None, DECODING, 0) for number in range(count))


def batch(rows: int, waiting: int, full_length_rows: int = 1000) -> Admission:
    admission = Admission(rows, full_length_rows)
    for request in requests(waiting):
        admission.put(request)
    return admission


def test_an_empty_batch_takes_what_waits_up_to_its_rows() -> None:
    admission = batch(32, 40)
    assert [request.id for request in admission.take(0)] == [str(number) for number in range(32)]
    assert len(admission) == 8
    assert [request.id for request in batch(32, 3).take(0)] == ["0", "1", "2"]


def test_requests_join_others_once_a_share_of_the_rows_is_free() -> None:
    admission = batch(64, 100)
    admission.take(0)
    together = 64 // SHARE
    assert admission.take(64 - together + 1) == []
    assert len(admission.take(64 - together)) == together


def test_a_single_request_joins_a_batch_that_has_room() -> None:
    assert len(batch(64, 1).take(10)) == 1


def test_a_small_batch_takes_one_for_one() -> None:
    admission = batch(2, 3)
    assert [len(admission.take(0)), len(admission.take(2)), len(admission.take(1))] == [2, 0, 1]


@pytest.mark.parametrize(("full_length_rows", "taken"), [(0, 1), (1, 2), (45, 90), (300, 512)])
def test_no_more_are_under_way_than_memory_has_room_for_while_they_grow(full_length_rows: int, taken: int) -> None:
    admission = batch(512, 600, full_length_rows)
    assert len(admission.take(0)) == taken
    assert admission.take(taken) == []


@pytest.mark.parametrize(
    ("waiting", "running", "wants"),
    [(0, 0, True), (31, 0, True), (32, 0, False), (2, 29, True), (3, 29, False), (0, 32, False)],
)
def test_more_are_wanted_where_rows_are_free_for_which_none_waits(waiting: int, running: int, wants: bool) -> None:
    assert batch(32, waiting).wants(running) is wants


@given(st.integers(1, 200), st.integers(0, 300), st.integers(0, 2**32))
def test_all_are_taken_in_their_order_and_never_more_than_there_is_room_for(rows: int, count: int, seed: int) -> None:
    generator, admission = Random(seed), Admission(rows, 1000)
    coming, running, taken = list(requests(count)), 0, []
    for _ in range(10 * count + 10):
        for _ in range(min(len(coming), generator.randrange(3))):
            admission.put(coming.pop(0))
        joining = admission.take(running)
        free = rows - running
        assert len(joining) <= free
        assert not joining or not running or free >= max(1, rows // SHARE)
        assert joining or running or not len(admission), "a batch stays empty although requests wait"
        running += len(joining)
        taken += [int(request.id) for request in joining]
        running -= min(running, generator.randrange(3))
    assert taken == list(range(count))


@pytest.mark.parametrize(
    ("waiting", "running", "room"),
    [(0, 100, 4), (12, 100, 4), (13, 100, 3), (0, 412, 1), (0, 413, 0), (100, 412, 0), (0, 512, 0)],
)
def test_room_for_more_is_counted_in_evaluations(waiting: int, running: int, room: int) -> None:
    assert batch(512, waiting).room(running, 100) == room


def test_a_batch_half_empty_has_room_for_one_evaluation_of_any_size() -> None:
    assert [batch(512, 0).room(running, 1000) for running in (256, 257)] == [1, 0]
