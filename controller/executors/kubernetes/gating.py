"""The gate as a condition of the status: computed from the manifest of a finished experiment, as `potstill gate`
does.
"""

from controller.planner.actions import Condition, ConditionStatus
from workloads.api.experiment import FrozenGate
from workloads.api.manifest import Manifest

CONDITIONS: dict[str, tuple[ConditionStatus, str]] = {
    "pass": ("True", "Pass"),
    "fail": ("False", "Fail"),
    "not_enough_evidence": ("Unknown", "NotEnoughEvidence"),
    "not_evaluable": ("Unknown", "NotEvaluable"),
}
"""Status and reason of the condition GatePassed, by the gate's outcome."""


def gate_condition(gate: FrozenGate, manifest: Manifest | None) -> Condition:
    """`manifest`: None if the experiment is not finished. The statistics (60 MiB) are imported with the first gate."""
    if manifest is None:
        return Condition("GatePassed", "Unknown", "NotFinished", "the gate is judged when all evaluations are done")
    if "://" in gate.baseline or gate.baseline.partition("#")[0].endswith(".json"):
        message = f"{gate.baseline} is not in this experiment and the controller opens no URLs: run potstill gate"
        return Condition("GatePassed", "Unknown", "NotEvaluable", message)
    from workloads.results.gate import UnknownModel, judge, side_of

    try:
        result = judge(gate, side_of(manifest, gate.candidate), side_of(manifest, gate.baseline))
    except UnknownModel as error:
        return Condition("GatePassed", "Unknown", "NotEvaluable", str(error))
    status, reason = CONDITIONS[result.outcome]
    outcomes_text = "; ".join(
        f"{one.name}: {one.outcome.replace('_', ' ')}: {one.message}" for one in result.requirements
    )
    return Condition("GatePassed", status, reason, f"{gate.candidate} against {gate.baseline}: {outcomes_text}")
