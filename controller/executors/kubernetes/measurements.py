"""Computes measurements of an experiment from its records in the store. Pure."""

from collections.abc import Mapping

from controller.planner.evaluations import resolve_evaluations
from controller.snapshot.types import StoreSnapshot
from workloads.api import store_keys
from workloads.api.evaluation_matrix import train_unit
from workloads.api.experiment import FrozenExperiment


def evaluation_lags(frozen: FrozenExperiment, store: StoreSnapshot) -> Mapping[str, float]:
    """Returns the seconds from a checkpoint's commit to its grades, by evaluation.

    Leaves out evaluations that were graded before.
    """
    lags = {}
    for piece in resolve_evaluations(frozen, store):
        grades = store.unit(piece.grade_unit).markers.get(store_keys.GRADES) if piece.grade_unit else None
        if grades is not None and piece.checkpoint is not None and grades.created >= frozen.accepted:
            lags[piece.want.id] = (grades.created - piece.checkpoint.created).total_seconds()
    return lags


def gpu_seconds_by_run(frozen: FrozenExperiment, store: StoreSnapshot) -> Mapping[str, float]:
    """Returns the GPU-seconds of each run's closed trainings, over all experiments."""
    return {
        run.name: sum(a.end.gpu_seconds for a in store.unit(train_unit(run)).attempts if a.end is not None)
        for run in frozen.runs
    }
