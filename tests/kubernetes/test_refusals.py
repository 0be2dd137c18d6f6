"""A refused Job is retried after growing pauses, and at once when another Job was created."""

from datetime import UTC, datetime, timedelta

from controller.executors.kubernetes.api import ApiError
from controller.executors.kubernetes.refusals import LONGEST_SECONDS, Refusals, is_refusal, message_of


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 2, 16, 9, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def test_pauses_double_to_a_most() -> None:
    refusals = Refusals(Clock())
    assert [refusals.add("a", "no") for _ in range(6)] == [2, 4, 8, 16, 30, LONGEST_SECONDS]


def test_one_that_is_made_frees_the_others() -> None:
    clock = Clock()
    refusals = Refusals(clock)
    for key in ("a", "b"):
        for _ in range(5):
            refusals.add(key, "quota")
    clock.now += timedelta(seconds=1)
    assert refusals.seconds_to_next() == LONGEST_SECONDS - 1
    assert refusals.made("a")
    assert [(key, one.retry_at) for key, one in refusals.current().items()] == [("b", clock.now)]
    assert (refusals.seconds_to_next(), refusals.add("b", "quota")) == (None, 2)
    assert not refusals.made("c")


def test_an_api_server_that_is_busy_refuses_nothing() -> None:
    assert not any(is_refusal(ApiError(status, "", "", "")) for status in (401, 429, 503, 504))
    assert all(is_refusal(ApiError(status, "", "", "")) for status in (400, 403, 404, 409, 422, 500))


def test_the_servers_own_words_are_kept_on_one_bounded_line() -> None:
    assert message_of(ApiError(403, "Forbidden", "exceeded\nquota", "POST")) == "exceeded quota"
    assert message_of(ApiError(403, "Forbidden", "", "POST")) == "403 Forbidden"
    assert len(message_of(ApiError(403, "", "x" * 10**6, ""))) <= 600
