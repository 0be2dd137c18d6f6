"""Why runs and evaluations failed: one entry for each cause, the most common first. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from workloads.api.blocked import blocking_run
from workloads.api.counts import evaluation_states
from workloads.api.manifest import Manifest
from workloads.words import count_of

PREFIXES = re.compile(
    r"^(?:no checkpoint at [\d,]+ samples: |\d+ attempts? failed, attempt \d+ with: |attempt \d+: )+"
)  # prefixes that the controller adds to the program's message
STATE_TEXTS = {"failed": "failed", "running": "running", "waiting": "not evaluated yet", "done": "not asked"}
"""Texts for an evaluation without a result; a finished evaluation is in this state only if its result is missing."""


@dataclass(frozen=True)
class FailureCause:
    """`text`: the message of the first failure with this cause. Messages that differ only in numbers are one cause.

    `runs`: labels. `evaluations`: models with their benchmarks; parts of one benchmark are one evaluation.
    """

    text: str
    runs: tuple[str, ...]
    evaluations: tuple[str, ...]

    @property
    def where(self) -> str:
        """For instance: 1 run (Math 4K) and 12 evaluations."""
        runs = f"{count_of(len(self.runs), 'run')} ({', '.join(self.runs)})" if self.runs else ""
        evaluations = count_of(len(self.evaluations), "evaluation") if self.evaluations else ""
        return " and ".join(part for part in (runs, evaluations) if part)


def causes(manifest: Manifest) -> tuple[FailureCause, ...]:
    """Returns an empty tuple if nothing failed."""
    failed = list(_failed(manifest))
    grouped: dict[str, list[tuple[str, str | None, str | None]]] = {}
    for text, run, evaluation in failed:
        grouped.setdefault(re.sub(r"\d+", "#", text), []).append((text, run, evaluation))
    found = [
        FailureCause(
            text=members[0][0],
            runs=tuple(run for _, run, _ in members if run is not None),
            evaluations=tuple(dict.fromkeys(name for _, _, name in members if name is not None)),
        )
        for members in grouped.values()
    ]
    return tuple(sorted(found, key=lambda cause: -len(cause.runs) - len(cause.evaluations)))


def _failed(manifest: Manifest) -> Iterable[tuple[str, str | None, str | None]]:
    """Yields (message, label of a failed run, model and benchmark of a failed part)."""
    run_causes = {run.name: cause_text(run.reason) for run in manifest.runs if run.state == "failed"}
    for run in manifest.runs:
        if run.state == "failed":
            yield run_causes[run.name], run.label, None
    for evaluation in manifest.evaluations:
        if evaluation.state == "failed":
            own = cause_text(evaluation.reason)
            cause = run_causes.get(blocking_run(evaluation.reason) or "", own)
            yield cause, None, f"{evaluation.model} {evaluation.benchmark}"


def cause_text(reason: str | None) -> str:
    """Returns the program's message without the names of attempt and checkpoint."""
    return PREFIXES.sub("", reason or "") or "no reason is recorded"


def shortened(text: str, characters: int) -> str:
    """Returns the first line, cut after a word if it is longer than `characters`, and not within brackets."""
    line = (text.splitlines() or [""])[0]
    if line == text and len(text) <= characters:
        return text
    cut = line[:characters]
    if " " in cut[characters // 2 :]:
        cut = cut[: cut.rfind(" ")]
    if cut.rfind("(") > cut.rfind(")"):
        cut = cut[: cut.rfind("(")] or cut
    return f"{cut.rstrip()}..."


@dataclass(frozen=True)
class FailureProgress:
    """Numbers of evaluations: one for each model and benchmark, for any number of parts (`api.counts`)."""

    asked: int
    graded: int
    failed: int
    running: int

    @property
    def text(self) -> str:
        """Returns text such as: 12 of 36 evaluations are graded, 2 failed, 4 are running, 18 are waiting."""
        waiting = self.asked - self.graded - self.failed - self.running
        parts = [f"{self.graded:,} of {count_of(self.asked, 'evaluation')} {'is' if self.asked == 1 else 'are'} graded"]
        parts += [f"{self.failed:,} failed"] if self.failed else []
        for number, state in ((self.running, "running"), (waiting, "waiting")):
            parts += [f"{number:,} {'is' if number == 1 else 'are'} {state}"] if number else []
        return ", ".join(parts)


def progress(manifest: Manifest) -> FailureProgress:
    states = list(evaluation_states((e.model, e.benchmark, e.state) for e in manifest.evaluations).values())
    return FailureProgress(len(states), states.count("done"), states.count("failed"), states.count("running"))
