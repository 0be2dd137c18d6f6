"""Counts evaluations. One model on one benchmark is one evaluation, for any number of parts."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

State = Literal["waiting", "running", "done", "failed"]


@dataclass(frozen=True)
class EvaluationCounts:
    """`graded`: all parts are done. `failed`: a part failed, so the evaluation cannot be complete."""

    asked: int
    graded: int
    failed: int


def evaluation_states(parts: Iterable[tuple[str, str, State]]) -> dict[tuple[str, str], State]:
    """Returns the state of each evaluation by (model, benchmark). `parts`: (model, benchmark, state) of every part.

    It is failed if a part failed, done if all are done, waiting if all wait, otherwise running.
    """
    found: dict[tuple[str, str], set[State]] = {}
    for model, benchmark, state in parts:
        found.setdefault((model, benchmark), set()).add(state)
    return {name: _whole(states) for name, states in found.items()}


def _whole(states: set[State]) -> State:
    if "failed" in states:
        return "failed"
    return next(iter(states)) if len(states) == 1 else "running"


def evaluation_counts(parts: Iterable[tuple[str, str, State]]) -> EvaluationCounts:
    """`parts`: (model, benchmark, state) of every part of every evaluation."""
    states = list(evaluation_states(parts).values())
    return EvaluationCounts(len(states), states.count("done"), states.count("failed"))
