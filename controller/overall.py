"""The share of an experiment that is done, and an estimate of its end: one number over trainings and evaluations."""

from dataclasses import dataclass

from controller.planner.actions import EvaluationLine, RunLine, Status
from workloads.stages.generate import GENERATE
from workloads.stages.grade import GRADE
from workloads.stages.train import TRAIN

LEAST_SHARE = 0.03
"""An end is estimated only after this share was done in this session."""
COUNTED_PHASES = frozenset(stage.activity for stage in (TRAIN, GENERATE, GRADE))
"""Phases that `done` of `total` describes."""


def share_done(status: Status) -> float:
    """Returns the share from 0 to 1. A checkpoint counts as much as an evaluation; generating and grading are half of
    it each.

    Failed work counts as done.
    """
    weights = [(max(1, run.checkpoints_expected), _trained(run)) for run in status.runs]
    weights += [(1, _evaluated(line)) for line in status.evaluations]
    total = sum(weight for weight, _ in weights)
    return sum(weight * share for weight, share in weights) / total if total else 0.0


def _trained(run: RunLine) -> float:
    if run.state in ("done", "failed"):
        return 1.0
    if run.total:
        return run.done / run.total
    return run.checkpoints / run.checkpoints_expected if run.checkpoints_expected else 0.0


def _evaluated(line: EvaluationLine) -> float:
    if line.state in ("done", "failed"):
        return 1.0
    share = line.done / line.total if line.total and line.state == "running" else 0.0
    return {GENERATE.name: share / 2, GRADE.name: 0.5 + share / 2}.get(line.stage, 0.0)


def is_loading(line: RunLine | EvaluationLine) -> bool:
    """Returns whether its program runs and has done nothing countable yet, so that its phase is more informative."""
    return line.state == "running" and not line.done and bool(line.phase) and line.phase not in COUNTED_PHASES


def is_preparing(status: Status) -> bool:
    """Returns whether programs run, and none of them has done anything countable yet, for example while an engine
    starts.
    """
    lines: list[RunLine | EvaluationLine] = [*status.runs, *status.evaluations]
    running = [line for line in lines if line.state == "running"]
    return bool(running) and all(is_loading(line) for line in running)


@dataclass
class Estimate:
    """Extrapolates from the work of this session, without the time in which programs only prepared.

    An engine may take minutes to start while nothing is counted, so its start says nothing about the speed of the rest.
    `first`: the share at the first call.
    """

    first: float | None = None
    _preparing_seconds: float = 0.0
    _called_at: float = 0.0

    def left_seconds(self, share: float, seconds: float, preparing: bool = False) -> float | None:
        """Returns the seconds left, without further starts of engines. `seconds`: since the session began.
        `preparing`: whether programs have only prepared since the last call.

        None while too little is done for an estimate.
        """
        self.first = share if self.first is None else self.first
        if preparing:
            self._preparing_seconds += seconds - self._called_at
        self._called_at = seconds
        done, worked = share - self.first, seconds - self._preparing_seconds
        return worked * (1 - share) / done if done >= LEAST_SHARE and worked >= 1 else None

    def text(self, share: float, seconds: float, preparing: bool = False) -> str:
        """Returns text such as 25% done, about 3 min left."""
        left = self.left_seconds(share, seconds, preparing)
        percent = f"{min(99, int(100 * share)) if share < 1 else 100}% done"
        return percent if left is None or share >= 1 else f"{percent}, about {_rounded(left)} left"


def _rounded(seconds: float) -> str:
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
