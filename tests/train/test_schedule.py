from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.train.world import inputs
from workloads.train.schedule import BadSchedule, checkpoint_steps, learning_rate, samples_after, total_steps

Shape = Literal["cosine", "linear", "constant"]


def test_25000_samples_of_50_are_500_steps_with_a_checkpoint_every_100(dense: Path, rows: Path) -> None:
    stated = inputs(dense, rows, samples=25_000, batch_size=50, checkpoints=(5_000, 10_000, 15_000, 20_000, 25_000))
    assert total_steps(stated) == 500
    assert checkpoint_steps(stated) == {100: 5_000, 200: 10_000, 300: 15_000, 400: 20_000, 500: 25_000}


def test_the_last_step_takes_what_is_left(dense: Path, rows: Path) -> None:
    stated = inputs(dense, rows, samples=10, batch_size=4, checkpoints=(4, 10))
    assert total_steps(stated) == 3
    assert [samples_after(stated, step) for step in (1, 2, 3)] == [4, 8, 10]
    assert checkpoint_steps(stated) == {1: 4, 3: 10}


@pytest.mark.parametrize("samples", [6, 12, 3])
def test_a_checkpoint_inside_a_step_or_after_the_end_is_refused(dense: Path, rows: Path, samples: int) -> None:
    with pytest.raises(BadSchedule, match=f"a checkpoint at {samples} samples"):
        checkpoint_steps(inputs(dense, rows, samples=10, batch_size=4, checkpoints=(samples,)))


def test_cosine_falls_over_the_whole_run() -> None:
    rates = [learning_rate(2e-4, "cosine", 0, 4, step) for step in (1, 2, 3, 4)]
    assert rates == pytest.approx([2e-4, 1.7071e-4, 1e-4, 0.29289e-4], rel=1e-4)


def test_linear_falls_in_equal_parts_after_the_warm_up() -> None:
    rates = [learning_rate(1.0, "linear", 2, 6, step) for step in range(1, 7)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.75, 0.5, 0.25])


@given(
    schedule=st.sampled_from(["cosine", "linear", "constant"]),
    steps=st.integers(1, 300),
    warmup=st.integers(0, 300),
)
def test_every_rate_is_positive_and_it_rises_only_to_the_peak(schedule: Shape, steps: int, warmup: int) -> None:
    rates = [learning_rate(1.0, schedule, warmup, steps, step) for step in range(1, steps + 1)]
    assert all(0 < rate <= 1 for rate in rates)
    before, after = rates[:warmup], rates[warmup:]
    assert before == sorted(before)
    assert after == sorted(after, reverse=True)
    assert after[:1] in ([], [1.0])
