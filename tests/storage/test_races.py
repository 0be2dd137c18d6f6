"""Writers in separate processes write the same keys at the same time."""

import subprocess
from collections.abc import Sequence
from typing import Any

import pytest

from tests.storage import writers
from tests.storage.writers import NAME, UNIT
from workloads.storage.base import Store
from workloads.storage.markers import list_markers, read_marker, verify

pytestmark = [pytest.mark.slow, pytest.mark.long]


def all_results(processes: Sequence[subprocess.Popen[str]]) -> list[Any]:
    for process in processes:
        writers.begin(process)
    return [writers.result(process) for process in processes]


def test_every_new_key_has_one_winner(store: Store) -> None:
    keys, processes = 200, [writers.start("race", store.url, writer, 200) for writer in range(4)]
    won: list[list[int]] = all_results(processes)
    assert sorted(number for numbers in won for number in numbers) == list(range(keys))
    for writer, numbers in enumerate(won):
        assert all(store.get(f"race/{number}") == b"writer %d" % writer for number in numbers)


def test_no_compare_and_set_is_lost(store: Store) -> None:
    store.put_new("counter", b"0 0")
    tries: list[int] = all_results([writers.start("count", store.url, 40) for _ in range(3)])
    assert int(store.get("counter").split()[0]) == 3 * 40
    assert sum(tries) >= 3 * 40


@pytest.mark.parametrize("round_", range(5))
def test_two_attempts_that_commit_one_checkpoint_leave_one_winner(store: Store, round_: int) -> None:
    told = all_results([writers.start("commit", store.url, attempt) for attempt in (1, 2)])
    winner = read_marker(store, UNIT, NAME)
    assert winner is not None
    loser = 3 - winner.attempt
    assert told[winner.attempt - 1] == f"attempt {winner.attempt}"
    assert told[loser - 1] == "superseded"
    assert verify(store, winner, deep=True) == []


def test_two_attempts_that_commit_the_same_content_both_succeed(store: Store) -> None:
    told = all_results([writers.start("commit", store.url, attempt, 7) for attempt in (1, 2)])
    [marker] = list_markers(store, UNIT)
    assert told == [f"attempt {marker.attempt}"] * 2
    assert verify(store, marker, deep=True) == []
