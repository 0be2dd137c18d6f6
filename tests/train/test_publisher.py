import threading

import pytest

from workloads.train.checkpoint_writer import Publisher


def fail() -> None:
    raise OSError("the store is away")


def test_work_is_done_in_order_behind_the_caller_and_waited_for_at_the_end() -> None:
    gate, done = threading.Event(), list[str]()

    def first() -> None:
        gate.wait(10)
        done.append("first")

    with Publisher() as publisher:
        publisher.submit(first)
        publisher.check()
        assert not publisher.idle
        assert done == []
        gate.set()
        publisher.submit(lambda: done.append("second"))
        assert done[0] == "first"
        publisher.wait()
        assert publisher.idle
    assert done == ["first", "second"]


def submit_after_a_failure() -> None:
    with Publisher() as publisher:
        publisher.submit(fail)
        publisher.submit(pytest.fail)


def leave_after_a_failure() -> None:
    with Publisher() as publisher:
        publisher.submit(fail)


def diverge_after_a_failure() -> None:
    with Publisher() as publisher:
        publisher.submit(fail)
        raise ValueError("diverged")


def test_an_error_of_the_work_is_raised_where_more_work_is_submitted() -> None:
    with pytest.raises(OSError, match="the store is away"):
        submit_after_a_failure()


def test_an_error_of_the_last_work_is_not_lost() -> None:
    with pytest.raises(OSError, match="the store is away"):
        leave_after_a_failure()


def test_the_trainings_own_error_comes_first() -> None:
    with pytest.raises(ValueError, match="diverged"):
        diverge_after_a_failure()
