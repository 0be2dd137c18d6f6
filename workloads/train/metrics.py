"""One line of metrics.jsonl for each optimizer step, and warnings about them."""

from collections.abc import Sequence
from statistics import median

from workloads.api.model import Contract

SPIKE_WINDOW, SPIKE_LEAST_STEPS = 50, 10
SPIKE_FACTOR, SPIKE_LEAST_NATS = 2.0, 0.5
SPIKES_NAMED = 10
"""Loss spikes that are named, at most."""


class Metric(Contract):
    """`loss`: mean cross-entropy over the step's supervised tokens, nats. `gradient_norm`: before clipping."""

    step: int
    samples: int
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens: int
    supervised_tokens: int
    tokens_per_second: float


def to_lines(metrics: Sequence[Metric]) -> bytes:
    return b"".join(metric.to_json() for metric in metrics)


def from_lines(data: bytes) -> list[Metric]:
    return [Metric.model_validate_json(line) for line in data.splitlines()]


def spikes(metrics: Sequence[Metric]) -> list[str]:
    """Returns steps whose loss is twice the median of the 50 steps before, and half a nat above it; the first ten by
    number.
    """
    found = []
    losses = [metric.loss for metric in metrics]
    for place in range(SPIKE_LEAST_STEPS, len(metrics)):
        usual = median(losses[max(0, place - SPIKE_WINDOW) : place])
        if losses[place] > max(SPIKE_FACTOR * usual, usual + SPIKE_LEAST_NATS):
            found.append(
                f"LossSpike: step {metrics[place].step}: loss {losses[place]:.3f} after a median of {usual:.3f}"
            )
    more = [f"LossSpike: and {len(found) - SPIKES_NAMED} more"] if len(found) > SPIKES_NAMED else []
    return found[:SPIKES_NAMED] + more
