"""The gate: whether the candidate's drop from the baseline is smaller than allowed. Non-inferiority on paired problems.
Pure.

A requirement passes if the upper bound of the drop is below `max_drop` and fails if the lower bound is above it;
otherwise there is not enough evidence. The gate passes if all requirements pass: an intersection-union test, which
needs no correction (Berger, Technometrics 24 (1982) 295-300). It fails if one fails: failures share `alpha` (Holm).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import combinations
from typing import Literal

import numpy as np

from workloads.api.experiment import FrozenGate, FrozenRequirement
from workloads.api.manifest import Manifest
from workloads.results.comparable import Side, incomplete, problem_sets, unlike
from workloads.results.stats.bounded_mean import tail
from workloads.results.stats.difference import difference_interval, difference_statistic
from workloads.results.stats.paired import Pairs, pair, problem_codes
from workloads.words import count_of

MIN_PROBLEMS = 20
"""Below this number of problems no requirement passes: the error rate is above `alpha` there (`perf.intervals`)."""

FAIL_ALPHA_PART = 0.2
FAIL_ALPHA_WHOLE = 0.8
"""Shares of `alpha` for failing on a part of a benchmark, and later on all of it: two looks, `alpha` in total."""

Outcome = Literal["pass", "fail", "not_enough_evidence", "not_evaluable"]


class GateExit(IntEnum):
    """Exit codes of `potstill gate`; 2 is wrong use."""

    PASS = 0
    FAIL = 1
    NOT_ENOUGH_EVIDENCE = 3
    NOT_EVALUABLE = 4


EXITS: dict[Outcome, GateExit] = {
    "pass": GateExit.PASS,
    "fail": GateExit.FAIL,
    "not_enough_evidence": GateExit.NOT_ENOUGH_EVIDENCE,
    "not_evaluable": GateExit.NOT_EVALUABLE,
}


@dataclass(frozen=True)
class RequirementResult:
    """`drop` is baseline - candidate, as a share. `low` and `high`: its one-sided bounds, which decide the outcome.

    `high` is at the gate's alpha, `low` at `fail_alpha`: this requirement's level for failing, after Holm and after the
    share for a part or the whole of a benchmark. `p_pass`, `p_fail`: one-sided p of a drop of `max_drop` or more, and
    of `max_drop` or less. Compare both with alpha; `p_fail` is corrected like `fail_alpha`. `n`: problems compared;
    `left_out`: problems of only one of the two. `part_only`, `partial`: whether, and why, the result covers a part of
    the benchmark. `noise`: how often the baseline differs from a second generation of itself, if measured.
    """

    requirement: FrozenRequirement
    outcome: Outcome
    message: str
    n: int = 0
    outputs_per_problem: int = 1
    left_out: int = 0
    baseline: float | None = None
    candidate: float | None = None
    drop: float | None = None
    low: float | None = None
    high: float | None = None
    discordance: float | None = None
    p_pass: float | None = None
    p_fail: float | None = None
    fail_alpha: float | None = None
    part_only: bool = False
    partial: str | None = None
    noise: float | None = None

    @property
    def name(self) -> str:
        return f"{self.requirement.benchmark} {self.requirement.metric}"


@dataclass(frozen=True)
class GateResult:
    outcome: Outcome
    candidate: str
    baseline: str
    budget_tokens: int
    alpha: float
    requirements: tuple[RequirementResult, ...]

    @property
    def exit_code(self) -> GateExit:
        return EXITS[self.outcome]


class UnknownModel(ValueError):
    """The gate names a model that the manifest does not have."""


def side_of(manifest: Manifest, name: str) -> Side:
    """`name`: base, run@samples, run@last, or a candidate's. Raises UnknownModel, which lists the existing names."""
    known = {model.id: model for model in manifest.models}
    run, _, which = name.partition("@")
    if which == "last":
        of_run = [model for model in manifest.models if model.run == run and model.kind == "checkpoint"]
        known |= {name: max(of_run, key=lambda model: model.samples or 0)} if of_run else {}
    if name not in known:
        raise UnknownModel(
            f"{manifest.experiment} has no model {name}: it has {', '.join(m.id for m in manifest.models)}"
        )
    return Side(manifest, known[name])


def judge(gate: FrozenGate, candidate: Side, baseline: Side) -> GateResult:
    """Returns the outcome of every requirement and of the gate.

    Requirements without results count in Holm's correction with p = 1, so that a failure now remains a failure later.
    """
    measured = [_measure(item, gate, candidate, baseline) for item in gate.require]
    p_fail = [1.0 if found.result.p_fail is None else found.result.p_fail for found in measured]
    levels = fail_levels(p_fail, [found.share for found in measured], gate.alpha)
    decided = tuple(_decided(found, level, gate.alpha) for found, level in zip(measured, levels, strict=True))
    return GateResult(
        outcome=_outcome({result.outcome for result in decided}),
        candidate=f"{candidate.manifest.experiment}/{candidate.model.id}",
        baseline=f"{baseline.manifest.experiment}/{baseline.model.id}",
        budget_tokens=gate.budget_tokens,
        alpha=gate.alpha,
        requirements=decided,
    )


def _outcome(found: set[Outcome]) -> Outcome:
    """A failure decides even if other requirements are unknown; "could not be evaluated" comes before "not enough
    evidence".
    """
    order: tuple[Outcome, ...] = ("fail", "not_evaluable", "not_enough_evidence")
    return next((outcome for outcome in order if outcome in found), "pass")


@dataclass(frozen=True)
class _Measured:
    """`pairs`: None if the two cannot be compared; `result` has the reason. `share`: the share of alpha for failing."""

    result: RequirementResult
    pairs: Pairs | None = None
    share: float = 1.0


def _measure(item: FrozenRequirement, gate: FrozenGate, candidate: Side, baseline: Side) -> _Measured:
    sides = (candidate, baseline)
    reasons = [reason for side in sides for reason in incomplete(side, item.benchmark, gate.budget_tokens)]
    reasons = reasons or list(unlike(candidate, baseline, item.benchmark))
    if reasons:
        return _Measured(RequirementResult(item, "not_evaluable", "; ".join(reasons)))
    sets = problem_sets(candidate, baseline, item.benchmark)
    if sets.reason is not None:
        return _Measured(RequirementResult(item, "not_evaluable", sets.reason))
    ours, theirs = (problem_codes(side.manifest, side.model.id, item.benchmark, gate.budget_tokens) for side in sides)
    pairs = pair(theirs, ours, item.metric)
    first, second = float(np.mean(pairs.first)), float(np.mean(pairs.second))
    p_pass, p_fail = drop_p(pairs, item.max_drop)
    result = RequirementResult(
        requirement=item,
        outcome="not_enough_evidence",
        message="",
        n=pairs.n,
        outputs_per_problem=candidate.manifest.sampling.n,
        left_out=sets.only_baseline + sets.only_candidate,
        baseline=first,
        candidate=second,
        drop=first - second,
        discordance=pairs.discordance,
        p_pass=p_pass,
        p_fail=p_fail,
        part_only=sets.partial is not None,
        partial=sets.partial,
        noise=noise(baseline, candidate.manifest, item, gate.budget_tokens),
    )
    several = any(len(b.parts) > 1 for side in sides for b in side.manifest.benchmarks if b.name == item.benchmark)
    return _Measured(result, pairs, fail_share(partial=sets.partial is not None, parts=2 if several else 1))


def fail_share(*, partial: bool, parts: int) -> float:
    """Returns the share of alpha for failing: a benchmark of one part is tested once, one of several parts possibly
    twice.
    """
    return FAIL_ALPHA_PART if partial else FAIL_ALPHA_WHOLE if parts > 1 else 1.0


def fail_levels(p_values: Sequence[float], shares: Sequence[float], alpha: float) -> list[float]:
    """Returns for each requirement the level at which its `p_fail` fails the gate, Holm over all requirements.

    `p <= level` if and only if Holm's correction of p / share rejects at `alpha`.
    """
    scaled = np.asarray(p_values) / np.asarray(shares)
    order = np.argsort(scaled, kind="stable")
    adjusted = np.empty(len(scaled))
    adjusted[order] = np.maximum.accumulate(scaled[order] * np.arange(len(scaled), 0, -1))
    return [
        float(alpha * share / len(scaled) if whole == 0 else alpha * p / whole)
        for p, share, whole in zip(p_values, shares, adjusted, strict=True)
    ]


def drop_p(pairs: Pairs, max_drop: float) -> tuple[float, float]:
    """Returns one-sided p: (p_pass, of a drop of `max_drop` or more; p_fail, of a drop of `max_drop` or less)."""
    statistic = difference_statistic(pairs, max_drop)
    return tail(-statistic, pairs.n, single=pairs.single), tail(statistic, pairs.n, single=pairs.single)


def drop_bounds(pairs: Pairs, alpha_low: float, alpha_high: float) -> tuple[float, float]:
    """Returns one-sided bounds of the drop: it is above the first at 1 - `alpha_low`, below the second at 1 -
    `alpha_high`.
    """
    return (
        difference_interval(pairs, 2 * alpha_low)[0],
        difference_interval(pairs, 2 * alpha_high)[1],
    )


def passes(p_pass: float, problems: int, alpha: float) -> bool:
    return p_pass <= alpha and problems >= MIN_PROBLEMS


def _decided(found: _Measured, level: float, alpha: float) -> RequirementResult:
    if found.pairs is None:
        return found.result
    low, high = drop_bounds(found.pairs, level, alpha)
    p_pass, p_fail = found.result.p_pass, found.result.p_fail
    assert p_pass is not None
    assert p_fail is not None
    corrected = min(1.0, p_fail * alpha / level)
    result = replace(found.result, low=low, high=high, fail_alpha=level, p_fail=corrected)
    limit = f"the {result.requirement.max_drop:.1%} that are allowed"
    if p_fail <= level:
        return replace(result, outcome="fail", message=f"the drop is above {limit}")
    partly = f"{result.partial}: it may fail early, but to pass evaluate all problems" if result.partial else ""
    if p_pass > alpha:
        few = f"to pass, {MIN_PROBLEMS} problems are needed" if result.n < MIN_PROBLEMS else ""
        reasons = [f"the drop may lie on either side of {limit}", few, partly]
        return replace(result, message="; ".join(filter(None, reasons)))
    if partly:
        return replace(result, message=f"the drop looks below {limit}, but {partly}")
    if not passes(p_pass, result.n, alpha):
        few = f"{count_of(result.n, 'problem')} {'is' if result.n == 1 else 'are'} too few"
        return replace(result, message=f"the drop looks below {limit}, but {few}: {MIN_PROBLEMS} are needed")
    return replace(result, outcome="pass", message=f"the drop is below {limit}")


def noise(baseline: Side, other: Manifest, item: FrozenRequirement, budget_tokens: int) -> float | None:
    """Returns how often the baseline differs from itself (A/A): from a second generation in another manifest, or from
    several outputs of one problem. None if neither was measured.
    """
    mine = problem_codes(baseline.manifest, baseline.model.id, item.benchmark, budget_tokens)
    digests = {e.generate for e in baseline.evaluations(item.benchmark)}
    for model in other.models:
        if model.content != baseline.model.content or model.kind != baseline.model.kind:
            continue
        again = Side(other, model)
        if digests.isdisjoint(e.generate for e in again.evaluations(item.benchmark)):
            pairs = pair(mine, problem_codes(other, model.id, item.benchmark, budget_tokens), item.metric)
            return pairs.discordance if pairs.n else None
    return _within(mine, item)


def _within(codes: dict[str, str], item: FrozenRequirement) -> float | None:
    """Returns the mean over problems of how often two outputs of the problem differ."""
    several = [verdicts for verdicts in codes.values() if len(verdicts) > 1 and "e" not in verdicts]
    if not several:
        return None
    rates = []
    for verdicts in several:
        pairs = [pair({"": a}, {"": b}, item.metric) for a, b in combinations(verdicts, 2)]
        rates.append(sum(p.discordance for p in pairs) / len(pairs))
    return float(np.mean(rates))
