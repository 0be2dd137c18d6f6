import pytest

from workloads.train.metrics import Metric, from_lines, spikes, to_lines


def run(losses: list[float]) -> list[Metric]:
    return [
        Metric(
            step=step,
            samples=4 * step,
            loss=loss,
            learning_rate=1e-4,
            gradient_norm=1.0,
            tokens=100,
            supervised_tokens=60,
            tokens_per_second=10.0,
        )
        for step, loss in enumerate(losses, start=1)
    ]


def test_a_loss_far_above_the_usual_is_named_by_its_step() -> None:
    assert spikes(run([1.0] * 20 + [2.1] + [1.0] * 5)) == ["LossSpike: step 21: loss 2.100 after a median of 1.000"]


@pytest.mark.parametrize(
    "losses",
    [
        [1.0] * 20 + [1.9] * 3,
        [0.01] * 20 + [0.4],
        [9.0, 1.0, 8.0, 1.0],
        [5.0 - 0.1 * step for step in range(40)],
    ],
    ids=["below twice", "below half a nat", "too early to say", "falling"],
)
def test_losses_without_a_spike_give_no_finding(losses: list[float]) -> None:
    assert spikes(run(losses)) == []


def test_many_spikes_are_counted_not_listed() -> None:
    found = spikes(run([1.0] * 40 + [9.0, 1.0] * 15))
    assert len(found) == 11
    assert found[-1] == "LossSpike: and 5 more"


def test_lines_give_back_every_bit() -> None:
    metrics = run([0.1 + 0.2, 1 / 3])
    assert from_lines(to_lines(metrics)) == metrics
