"""The gate as a condition, without results to compare."""

from controller.executors.kubernetes.gating import gate_condition
from workloads.api.experiment import FrozenGate, FrozenRequirement


def gate(baseline: str = "base") -> FrozenGate:
    require = (FrozenRequirement(benchmark="math-500", metric="accuracy", max_drop=0.1),)
    return FrozenGate(candidate="math@last", baseline=baseline, require=require, budget_tokens=4096)


def test_before_the_end_it_is_not_known() -> None:
    condition = gate_condition(gate(), None)
    assert (condition.status, condition.reason) == ("Unknown", "NotFinished")
