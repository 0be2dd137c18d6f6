"""A unit may be tried a limited number of times: attempts in a row without a commit are limited, whatever ended
them.
"""

from datetime import timedelta
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.planner.retry_policy import BY_REQUEST, retry_state
from controller.planner.round import owner_of
from controller.snapshot.types import Attempt, UnitView
from tests.controller.experiments import START, experiment, run
from workloads.api.evaluation_matrix import train_unit
from workloads.api.experiment import Limits
from workloads.api.records import CheckpointRecord, Ending, Marker, TaskEnd
from workloads.api.tasks import TrainTask

FROZEN = experiment((run("short", (50,)),))
UNIT = train_unit(FROZEN.runs[0])
LIMITS = Limits(attempts=3, preemptions=20)


def seen(outcomes: list[tuple[Ending, bool]], moved: set[int]) -> UnitView:
    """Attempts with these ends, (outcome, charged). Each attempt in `moved` committed a checkpoint."""
    [asked] = FROZEN.runs
    assert asked.data_source is not None
    attempts = []
    for number, (outcome, charged) in enumerate(outcomes, 1):
        about = {"number": number, "owner": owner_of(FROZEN), "created": START}
        task = TrainTask(unit=UNIT, inputs=asked.inputs, base=FROZEN.base, data=asked.data_source, **about)
        ended = START + timedelta(minutes=number)
        told = {"reason": "Told", "message": "x", "charged": charged, "retry": True, "ended": ended}
        attempts.append(Attempt(task, TaskEnd(number=number, outcome=outcome, **told)))
    markers = {}
    for number in moved:
        record = CheckpointRecord(samples=number, step=number)
        name = f"checkpoint-{number}"
        about = {"content": "0" * 64, "files": (), "created": START, "record": record}
        markers[name] = Marker(unit=UNIT, name=name, attempt=number, **about)
    return UnitView(UNIT, tuple(attempts), markers)


def reason(view: UnitView) -> str | None:
    exhausted = retry_state(view, owner_of(FROZEN), LIMITS).exhausted
    return exhausted.reason if exhausted else None


def test_a_training_that_was_preempted_21_times_with_progress_each_time_continues() -> None:
    preempted: list[tuple[Ending, bool]] = [("preempted", False)] * 21
    assert reason(seen(preempted, set(range(1, 22)))) is None
    assert reason(seen(preempted, {1})) == "TooManyInterruptions"
    assert reason(seen(preempted, set())) == "TooManyInterruptions"
    assert reason(seen(preempted, {2})) is None


@pytest.mark.parametrize("outcome", sorted(set(get_args(Ending)) - BY_REQUEST - {"succeeded"}))
def test_interruptions_that_leave_nothing_behind_end_at_their_bound(outcome: Ending) -> None:
    assert reason(seen([(outcome, False)] * 20, set())) is None
    assert reason(seen([(outcome, False)] * 21, set())) == "TooManyInterruptions"


ENDS = st.lists(st.tuples(st.sampled_from(sorted(get_args(Ending))), st.booleans()), max_size=60)


@pytest.mark.slow
@settings(deadline=None)
@given(outcomes=ENDS, data=st.data())
def test_whether_it_is_given_up_depends_only_on_what_came_since_the_last_progress(
    outcomes: list[tuple[Ending, bool]], data: st.DataObject
) -> None:
    moved = data.draw(st.sets(st.integers(1, max(1, len(outcomes)))))
    since = max(moved, default=1)
    suspended: tuple[Ending, bool] = ("suspended", False)
    late = [suspended] * (since - 1) + outcomes[since - 1 :]
    assert reason(seen(outcomes, moved)) == reason(seen(late, moved))
