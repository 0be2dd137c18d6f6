"""What is measured of an experiment, from what stands in its store. Pure."""

from collections.abc import Mapping

from controller.decide.pieces import resolve_pieces
from controller.view import StoreView
from workloads.contract import layout
from workloads.contract.experiment import FrozenExperiment
from workloads.contract.wanted import train_unit


def evaluation_lags(frozen: FrozenExperiment, store: StoreView) -> Mapping[str, float]:
    """Seconds from a checkpoint's commit to its grades', by evaluation. What was graded before is left out."""
    lags = {}
    for piece in resolve_pieces(frozen, store):
        grades = store.unit(piece.grade_unit).markers.get(layout.GRADES) if piece.grade_unit else None
        if grades is not None and piece.checkpoint is not None and grades.created >= frozen.accepted:
            lags[piece.want.id] = (grades.created - piece.checkpoint.created).total_seconds()
    return lags


def gpu_seconds_by_run(frozen: FrozenExperiment, store: StoreView) -> Mapping[str, float]:
    """GPU-seconds of each run's closed trainings, of every experiment."""
    return {
        run.name: sum(a.end.gpu_seconds for a in store.unit(train_unit(run)).attempts if a.end is not None)
        for run in frozen.runs
    }
