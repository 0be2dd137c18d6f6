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
)  # what the controller puts before the program's own message
STATE_TEXTS = {"failed": "failed", "running": "running", "waiting": "not evaluated yet", "done": "not asked"}
"""Of an evaluation without a result; one that is done has none of what is looked for."""


@dataclass(frozen=True)
class FailureCause:
    """`text` is the message of the first failure with this cause; messages that differ in numbers only are one cause.

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
    """Empty when nothing failed."""
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
    """(message, label of a failed run, model and benchmark of a failed part)."""
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
    """The program's own message, without what names the attempt and the checkpoint."""
    return PREFIXES.sub("", reason or "") or "no reason is recorded"


def shortened(text: str, characters: int) -> str:
    """The first line, cut after a word where it is longer than `characters`; not within brackets."""
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
    """Numbers of evaluations: one for each model and benchmark, whatever parts it has (`contract.counts`)."""

    asked: int
    graded: int
    failed: int
    running: int

    @property
    def text(self) -> str:
        """For instance: 12 of 36 evaluations are graded, 2 failed, 4 are running, 18 are waiting."""
        waiting = self.asked - self.graded - self.failed - self.running
        parts = [f"{self.graded:,} of {count_of(self.asked, 'evaluation')} {'is' if self.asked == 1 else 'are'} graded"]
        parts += [f"{self.failed:,} failed"] if self.failed else []
        for number, state in ((self.running, "running"), (waiting, "waiting")):
            parts += [f"{number:,} {'is' if number == 1 else 'are'} {state}"] if number else []
        return ", ".join(parts)


def progress(manifest: Manifest) -> FailureProgress:
    states = list(evaluation_states((e.model, e.benchmark, e.state) for e in manifest.evaluations).values())
    return FailureProgress(len(states), states.count("done"), states.count("failed"), states.count("running"))
