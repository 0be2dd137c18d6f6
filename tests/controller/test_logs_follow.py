"""`potstill logs -f` prints each line of a log once, although the store only has its end."""

from hypothesis import given
from hypothesis import strategies as st

from controller.cli.logs import added_lines


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 20))
def test_each_line_is_printed_once_while_the_window_moves(before: int, more: int, window: int) -> None:
    log = [f"line {number}" for number in range(before + more)]
    earlier, later = log[:before][-window:], log[-window:]
    added = added_lines(earlier, later)
    assert added == log[max(before, len(log) - window) :]


def test_an_unchanged_log_adds_nothing() -> None:
    assert added_lines(["a", "b"], ["a", "b"]) == []


def test_a_log_that_moved_on_by_more_than_its_window_is_printed_whole() -> None:
    assert added_lines(["a", "b"], ["x", "y"]) == ["x", "y"]
