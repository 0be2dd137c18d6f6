"""How the past attempts of a unit limit its next one: whether it is exhausted, when it may start, and its group size.

Only attempts of this experiment count, and only those after the last `retry`. An attempt counts as a failure if the
work itself failed. `limits.attempts` limits failures in a row; `limits.preemptions` limits other outcomes
(interruptions) in a row, for each kind. An attempt that committed a marker, a state or a checkpoint resets both counts.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

from controller.planner.actions import Reason
from controller.snapshot.types import Attempt, UnitView
from workloads.api.experiment import Limits
from workloads.api.records import ExitCode, TaskEnd
from workloads.api.tasks import Owner
from workloads.words import count_of

FAILURE_BACKOFF_SECONDS = 2.0
UNAVAILABLE_BACKOFF_SECONDS = 10.0
LONGEST_BACKOFF_SECONDS = 300.0
BY_REQUEST = frozenset({"suspended", "deleted"})


@dataclass(frozen=True)
class RetryState:
    """`max_group_size`: the largest size of a group that the unit may join; None for any size."""

    exhausted: Reason | None = None
    not_before: datetime | None = None
    max_group_size: int | None = None


def retry_state(view: UnitView, owner: Owner, limits: Limits) -> RetryState:
    ended = [(attempt, attempt.end) for attempt in _counting(view, owner) if attempt.end is not None]
    ends = [end for _, end in ended]
    exhausted = _final(ends) or _failures(view, ended, limits) or _interruptions(view, ended, limits)
    return RetryState(exhausted, _not_before(ends), _max_group_size(view, ends))


def _counting(view: UnitView, owner: Owner) -> list[Attempt]:
    return [a for a in view.attempts if a.number > view.retried_through and a.task.owner == owner]


def _final(ends: list[TaskEnd]) -> Reason | None:
    last = next((end for end in ends if not end.retry), None)
    return Reason(last.reason, f"attempt {last.number}: {last.message}") if last else None


def _failures(view: UnitView, ended: list[tuple[Attempt, TaskEnd]], limits: Limits) -> Reason | None:
    moved = {marker.attempt for marker in view.markers.values()}
    failures = 0
    last: TaskEnd | None = None
    for attempt, end in ended:
        failures = 0 if attempt.number in moved else failures
        if end.counts_as_failure:
            failures += 1
            last = end
    if last is None or failures < limits.attempts:
        return None
    return Reason(last.reason, f"{count_of(failures, 'attempt')} failed, attempt {last.number} with: {last.message}")


def _interruptions(view: UnitView, ended: list[tuple[Attempt, TaskEnd]], limits: Limits) -> Reason | None:
    moved = {marker.attempt for marker in view.markers.values()}
    ends: list[TaskEnd] = []
    for attempt, end in ended:
        if attempt.number in moved:
            ends = []
        if not end.counts_as_failure and end.outcome not in BY_REQUEST and end.outcome != "succeeded":
            ends.append(end)
    for outcome, count in Counter(end.outcome for end in ends).items():
        if count > limits.preemptions:
            last = next(end for end in reversed(ends) if end.outcome == outcome)
            return Reason(
                "TooManyInterruptions", f"{count_of(count, 'attempt')} ended {outcome}, the last with: {last.message}"
            )
    return None


def _not_before(ends: list[TaskEnd]) -> datetime | None:
    """Returns the end of the backoff, which doubles with each failure in a row.

    Interruptions need no backoff, except those by the store.
    """
    if not ends:
        return None
    last = ends[-1]
    if last.exit_code == ExitCode.STORE_UNAVAILABLE:
        alike = [end.exit_code == ExitCode.STORE_UNAVAILABLE for end in ends]
        first = UNAVAILABLE_BACKOFF_SECONDS
    elif last.counts_as_failure:
        alike = [end.counts_as_failure for end in ends]
        first = FAILURE_BACKOFF_SECONDS
    else:
        return None
    in_a_row = next((index for index, same in enumerate(reversed(alike)) if not same), len(alike))
    seconds = min(first * 2.0 ** (in_a_row - 1), LONGEST_BACKOFF_SECONDS)
    return last.ended + timedelta(seconds=seconds)


def _max_group_size(view: UnitView, ends: list[TaskEnd]) -> int | None:
    """Returns the largest group that a unit may join after its last failure; None for any size.

    It is 1 if the unit caused the failure, and half the number of suspects if no member is named.
    """
    failed = [end for end in ends if end.outcome == "failed"]
    if not failed:
        return None
    last = failed[-1]
    if last.counts_as_failure or last.member == view.unit.digest:
        return 1
    return None if last.member is not None or last.suspects <= 1 else max(1, last.suspects // 2)
