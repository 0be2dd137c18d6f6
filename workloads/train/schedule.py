"""Learning rate by step, and the steps that publish a checkpoint. Pure."""

import math
from collections.abc import Mapping
from typing import Literal

from workloads.api.units import TrainInputs


class BadSchedule(Exception):
    """The stated samples, batch size and checkpoints do not fit together."""


def total_steps(inputs: TrainInputs) -> int:
    """Returns the optimizer steps of the run; the last one is smaller if batchSize does not divide samples."""
    return math.ceil(inputs.samples / inputs.batch_size)


def samples_after(inputs: TrainInputs, step: int) -> int:
    return min(step * inputs.batch_size, inputs.samples)


def checkpoint_steps(inputs: TrainInputs) -> Mapping[int, int]:
    """Returns step -> samples for every checkpoint. Raises BadSchedule for one that falls inside a step."""
    steps: dict[int, int] = {}
    for samples in inputs.checkpoints:
        step = math.ceil(samples / inputs.batch_size)
        if samples > inputs.samples or samples_after(inputs, step) != samples:
            raise BadSchedule(
                f"a checkpoint at {samples} samples: it must be a multiple of batchSize {inputs.batch_size} "
                f"up to samples {inputs.samples}, or samples itself"
            )
        steps[step] = samples
    return steps


def learning_rate(
    peak: float, schedule: Literal["cosine", "linear", "constant"], warmup_steps: int, steps: int, step: int
) -> float:
    """Returns the rate of step 1..steps. It rises linearly to `peak` at step `warmup_steps`.

    The next step has the peak too; from there cosine and linear fall over the rest of the run and would be 0 at steps +
    1.
    """
    if step <= warmup_steps:
        return peak * step / warmup_steps
    done = (step - warmup_steps - 1) / max(1, steps - warmup_steps)
    match schedule:
        case "constant":
            return peak
        case "linear":
            return peak * (1 - done)
        case "cosine":
            return peak * 0.5 * (1 + math.cos(math.pi * done))
