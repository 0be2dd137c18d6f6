"""The download of the base's weights to their volume. Until it is done, no unit that reads them is ready."""

from collections.abc import Mapping

from controller.planner.actions import FetchWeights, Reason
from controller.planner.unit_state import UnitState
from controller.snapshot.types import Weights
from workloads.api.units import UnitRef
from workloads.stages.registry import stage_named


def prefetch_actions(weights: Weights | None, unit_states: Mapping[UnitRef, UnitState]) -> list[FetchWeights]:
    """Returns the download, if it is needed: not for an experiment whose results all exist."""
    needed = any(reads_base(unit) and unit_state.state == "ready" for unit, unit_state in unit_states.items())
    if weights is None or weights.state != "absent" or not needed:
        return []
    return [
        FetchWeights(Reason("WeightsAbsent", "trainings and evaluations are ready and wait for the base's weights"))
    ]


def wait_for_base(unit_states: Mapping[UnitRef, UnitState], weights: Weights | None) -> dict[UnitRef, UnitState]:
    """Returns the states in which units that read the base wait for the download.

    If it failed, units that have not started fail.
    """
    if weights is None or weights.state == "ready":
        return dict(unit_states)
    if weights.state == "failed":
        state_before_fetch = UnitState(
            "exhausted", Reason("WeightsNotFetched", f"the base's weights: {weights.message}")
        )
    else:
        state_before_fetch = UnitState(
            "backoff", Reason("WeightsArriving", f"waits for the base's weights: {weights.message}")
        )
    return {
        unit: state_before_fetch if reads_base(unit) and unit_state.state in {"ready", "backoff"} else unit_state
        for unit, unit_state in unit_states.items()
    }


def reads_base(unit: UnitRef) -> bool:
    return stage_named(unit.kind).reads_base
