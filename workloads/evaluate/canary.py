"""Checks that the engine computes the trained checkpoint: compares its log-probabilities with the trainer's.

A check that outputs changed would pass with experts ignored, a wrong scale or swapped axes. So for fixed token
sequences the engine's log-probabilities must be within a tolerance of the trainer's, and closer to them than to the
base's.

In 16 bits a router of experts sometimes selects another expert than the trainer's did, and that token differs by up to
a nat without any error of the adapter. An error of an adapter shows in nearly all tokens, so the largest tenth of the
differences is left out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from workloads.api.records import Canary
from workloads.api.units import EngineIdentity

TOLERANCE = {"float32": 2e-3, "bfloat16": 6e-2, "float16": 2e-2, "fp8": 0.1}
"""Root mean square over the canary tokens without the largest tenth, nats, by the engine's coarsest dtype: the rounding
of other kernels. Correct adapters on a random base of experts reach at most 0.03 in bfloat16 and 0.015 in float16
(tests/evaluate/test_canary.py), with keys and values in fp8 0.06 (tests/evaluate/test_vllm_engine.py, tests/gpu).
"""
LEFT_OUT = 10
"""One in this many differences is left out."""


@dataclass(frozen=True)
class CanaryResult:
    """In nats; all but `largest` without the largest tenth.

    `gap`: the difference between the trainer's adapter and the base.
    """

    error: float
    largest: float
    to_base: float
    gap: float
    tolerance: float

    @property
    def differs_from_base(self) -> bool:
        """Returns whether adapter and base differ by more than rounding. If not, to be closer to one has no meaning."""
        return self.gap > self.tolerance

    @property
    def passed(self) -> bool:
        """Never true with NaN."""
        return self.error <= self.tolerance and (self.error < self.to_base or not self.differs_from_base)

    def __str__(self) -> str:
        return (
            f"the engine's log-probabilities are {self.error:.2g} nats (root mean square without the largest tenth; "
            f"largest {self.largest:.2g}) from the trainer's and {self.to_base:.2g} from the base's; "
            f"{self.tolerance:.2g} is allowed, and the checkpoint itself is {self.gap:.2g} from the base"
        )


def coarsest_dtype(engine: EngineIdentity) -> str:
    """Returns the coarsest dtype of the model and of the keys and values."""
    return str(engine.flags.get("kv_cache_dtype") or engine.dtype)


def check_canaries(canaries: Sequence[Canary], found: Sequence[Sequence[float]], dtype: str) -> CanaryResult:
    """`found`: the engine's log-probabilities, one sequence per canary, aligned with its `log_probs`."""
    differences = [
        (engine - trained, engine - base, trained - base)
        for canary, scores in zip(canaries, found, strict=True)
        for engine, trained, base in zip(scores, canary.log_probs, canary.base_log_probs, strict=True)
    ]
    error, to_base, gap = (_trimmed_root_mean_square([triple[column] for triple in differences]) for column in range(3))
    largest = max(abs(triple[0]) for triple in differences)
    return CanaryResult(error, largest, to_base, gap, TOLERANCE[dtype])


def _trimmed_root_mean_square(values: Sequence[float]) -> float:
    """Returns the root mean square of the nine tenths of `values` that are smallest; NaN if a value is NaN."""
    if any(math.isnan(value) for value in values):
        return math.nan
    kept = sorted(value * value for value in values)[: len(values) - len(values) // LEFT_OUT]
    return math.sqrt(sum(kept) / len(kept))
