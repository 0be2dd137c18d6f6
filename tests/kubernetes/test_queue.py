"""One worker at a time handles a key, when it is due, and after a longer pause if it failed."""

from controller.executors.kubernetes.workqueue import LONGEST_BACKOFF_SECONDS, KeyedQueue

A, B = ("ns", "a"), ("ns", "b")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_keys_come_in_the_order_in_which_they_are_due() -> None:
    clock = Clock()
    queue = KeyedQueue(clock)
    queue.add(A, 2.0)
    queue.add(B, 1.0)
    clock.now = 3.0
    assert [queue.take(), queue.take()] == [B, A]


def test_a_key_added_many_times_is_taken_once_at_the_earliest() -> None:
    clock = Clock()
    queue = KeyedQueue(clock)
    for seconds in (5.0, 0.0, 3.0):
        queue.add(A, seconds)
    queue.add(B, 0.1)
    assert queue.take() == A
    clock.now = 10.0
    assert queue.take() == B


def test_a_key_that_is_worked_on_is_not_given_to_another_worker() -> None:
    clock = Clock()
    queue = KeyedQueue(clock)
    queue.add(A)
    assert queue.take() == A
    queue.add(A)
    queue.add(B)
    assert queue.take() == B
    queue.done(A)
    assert queue.take() == A


def test_waits_double_with_failures_and_a_success_forgets_them() -> None:
    queue = KeyedQueue(Clock())
    waits = [queue.failed(A) for _ in range(20)]
    assert waits[6] > waits[0]
    assert max(waits) <= LONGEST_BACKOFF_SECONDS
    queue.succeeded(A)
    assert queue.failed(A) <= 0.5


def test_close_sends_workers_home() -> None:
    queue = KeyedQueue(Clock())
    queue.close()
    assert queue.take() is None
