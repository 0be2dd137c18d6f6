"""The base's weights on their volume: brought there when first needed; until then nothing that reads them is ready."""

from collections.abc import Mapping

from controller.decide.actions import FetchWeights, Why
from controller.decide.standing import Standing
from controller.view import Weights
from workloads.contract.units import UnitRef

READERS = frozenset({"train", "generate"})
"""Kinds of units whose programs read the base."""


def fetches(weights: Weights | None, standings: Mapping[UnitRef, Standing]) -> list[FetchWeights]:
    """Nothing is fetched for an experiment whose results are all there."""
    needed = any(unit.kind in READERS and stands.state == "ready" for unit, stands in standings.items())
    if weights is None or weights.state != "absent" or not needed:
        return []
    return [FetchWeights(Why("WeightsAbsent", "trainings and evaluations are ready and wait for the base's weights"))]


def awaiting(standings: Mapping[UnitRef, Standing], weights: Weights | None) -> dict[UnitRef, Standing]:
    """Units that read the base wait until it is fetched. If it cannot be fetched, units that have not started fail."""
    if weights is None or weights.state == "ready":
        return dict(standings)
    if weights.state == "failed":
        held = Standing("exhausted", Why("WeightsNotFetched", f"the base's weights: {weights.message}"))
    else:
        held = Standing("backoff", Why("WeightsArriving", f"waits for the base's weights: {weights.message}"))
    return {
        unit: held if unit.kind in READERS and stands.state in {"ready", "backoff"} else stands
        for unit, stands in standings.items()
    }
