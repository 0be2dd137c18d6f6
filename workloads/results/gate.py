"""The gate: is a candidate worse than a baseline by less than was allowed? Non-inferiority on paired problems. Pure.

A requirement passes when the upper bound of the drop is below `max_drop`, fails when the lower bound is above it, and
otherwise there is not enough evidence. Bounds are one-sided at `alpha`; several requirements share it (Holm, each way).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import combinations
from typing import Literal

import numpy as np

from workloads.contract.experiment import FrozenGate, FrozenRequirement
from workloads.contract.manifest import Manifest, ManifestEvaluation, ManifestModel
from workloads.results.bounded_mean import tail
from workloads.results.difference import difference_interval, difference_statistic, holm
from workloads.results.paired import Pairs, pair, problem_codes

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
class Side:
    """A model in a manifest."""

    manifest: Manifest
    model: ManifestModel

    def evaluations(self, benchmark: str) -> tuple[ManifestEvaluation, ...]:
        found = self.manifest.evaluations
        return tuple(e for e in found if e.model == self.model.id and e.benchmark == benchmark)


@dataclass(frozen=True)
class RequirementResult:
    """`drop` is baseline - candidate, `low` and `high` its one-sided bounds at alpha, as shares.

    `p_pass`, `p_fail`: of the drop being at least, and at most, `max_drop`; Holm-adjusted. `noise`: share of problems
    on which the baseline differs from itself when it is generated again (A/A), where that was measured.
    """

    requirement: FrozenRequirement
    outcome: Outcome
    message: str
    n: int = 0
    baseline: float | None = None
    candidate: float | None = None
    drop: float | None = None
    low: float | None = None
    high: float | None = None
    discordance: float | None = None
    p_pass: float | None = None
    p_fail: float | None = None
    part_only: bool = False
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
    """`name`: base, run@samples, run@last, or a candidate's. Raises UnknownModel with the names that there are."""
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
    """The outcome of every requirement, and of the gate: it passes when all pass and fails when one fails.

    What is not measured yet takes its part of the error, so that an early failure is none that the end takes back.
    """
    measured = [_measure(item, gate, candidate, baseline) for item in gate.require]
    passing = holm([1.0 if m.p_pass is None else m.p_pass for m in measured])
    failing = holm([1.0 if m.p_fail is None else m.p_fail for m in measured])
    decided = tuple(
        m if m.p_pass is None else _decide(replace(m, p_pass=p_pass, p_fail=p_fail), gate.alpha)
        for m, p_pass, p_fail in zip(measured, passing, failing, strict=True)
    )
    return GateResult(
        outcome=_outcome({result.outcome for result in decided}),
        candidate=f"{candidate.manifest.experiment}/{candidate.model.id}",
        baseline=f"{baseline.manifest.experiment}/{baseline.model.id}",
        budget_tokens=gate.budget_tokens,
        alpha=gate.alpha,
        requirements=decided,
    )


def _outcome(found: set[Outcome]) -> Outcome:
    """A failure stands whatever else is unknown; what could not be evaluated comes before what is open."""
    order: tuple[Outcome, ...] = ("fail", "not_evaluable", "not_enough_evidence")
    return next((outcome for outcome in order if outcome in found), "pass")


def _measure(item: FrozenRequirement, gate: FrozenGate, candidate: Side, baseline: Side) -> RequirementResult:
    sides = (candidate, baseline)
    reasons = [reason for side in sides for reason in incomplete(side, item.benchmark, gate.budget_tokens)]
    reasons = reasons or list(unlike(candidate, baseline, item.benchmark))
    if reasons:
        return RequirementResult(item, "not_evaluable", "; ".join(reasons))
    ours, theirs = (problem_codes(side.manifest, side.model.id, item.benchmark, gate.budget_tokens) for side in sides)
    pairs = pair(theirs, ours, item.metric)
    if not pairs.n:
        return RequirementResult(item, "not_evaluable", "the two were asked no problem in common")
    low, high, p_pass, p_fail = bounds(pairs, item.max_drop, gate.alpha)
    first, second = float(np.mean(pairs.first)), float(np.mean(pairs.second))
    return RequirementResult(
        requirement=item,
        outcome="not_enough_evidence",
        message="",
        n=pairs.n,
        baseline=first,
        candidate=second,
        drop=first - second,
        low=low,
        high=high,
        discordance=pairs.discordance,
        p_pass=p_pass,
        p_fail=p_fail,
        part_only=_part_only(candidate, item.benchmark) or _part_only(baseline, item.benchmark),
        noise=noise(baseline, candidate.manifest, item, gate.budget_tokens),
    )


def bounds(pairs: Pairs, max_drop: float, alpha: float) -> tuple[float, float, float, float]:
    """(low, high, p_pass, p_fail) of the drop, first - second. `low` and `high` are one-sided bounds at `alpha`."""
    low, high = drop_bounds(pairs, alpha, alpha)
    return low, high, *drop_p(pairs, max_drop)


def drop_p(pairs: Pairs, max_drop: float) -> tuple[float, float]:
    """One-sided p: (p_pass, of a drop of `max_drop` or more; p_fail, of a drop of that or less)."""
    statistic = difference_statistic(pairs, max_drop)
    return tail(-statistic, pairs.n, single=pairs.single), tail(statistic, pairs.n, single=pairs.single)


def drop_bounds(pairs: Pairs, alpha_low: float, alpha_high: float) -> tuple[float, float]:
    """One-sided bounds of the drop: it is above the first at 1 - `alpha_low`, below the second at 1 - `alpha_high`."""
    return (
        difference_interval(pairs, 2 * alpha_low)[0],
        difference_interval(pairs, 2 * alpha_high)[1],
    )


def _decide(result: RequirementResult, alpha: float) -> RequirementResult:
    limit = f"the {result.requirement.max_drop:.1%} that are allowed"
    assert result.p_fail is not None
    assert result.p_pass is not None
    if result.p_fail <= alpha:
        return replace(result, outcome="fail", message=f"the drop is above {limit}")
    if result.p_pass > alpha:
        more = "; evaluate all problems" if result.part_only else ""
        return replace(result, message=f"the drop may lie on either side of {limit}{more}")
    if result.part_only:
        message = (
            f"the drop looks below {limit}, but a part of the benchmark may only fail early: evaluate all problems"
        )
        return replace(result, message=message)
    return replace(result, outcome="pass", message=f"the drop is below {limit}")


def _part_only(side: Side, benchmark: str) -> bool:
    """Some part of the benchmark was not asked."""
    parts = next(b.parts for b in side.manifest.benchmarks if b.name == benchmark)
    return not set(parts) <= {e.part for e in side.evaluations(benchmark)}


def incomplete(side: Side, benchmark: str, budget_tokens: int) -> Iterable[str]:
    """Why this side cannot be compared: nothing may be compared that is not whole."""
    name = f"{side.manifest.experiment}/{side.model.id} on {benchmark}"
    found = side.evaluations(benchmark)
    if not found:
        yield f"{name} was not evaluated"
    for evaluation in found:
        at = [b for b in evaluation.budgets if b.counts.budget == budget_tokens]
        if evaluation.state != "done":
            yield f"{name}/{evaluation.part} is {evaluation.state}" + (
                f": {evaluation.reason}" if evaluation.reason else ""
            )
        elif not at:
            yield f"{name}/{evaluation.part} was not graded at {budget_tokens:,} tokens"
        elif "e" in at[0].verdicts:
            yield f"{name}/{evaluation.part} has {at[0].verdicts.count('e')} outputs that could not be graded"


def unlike(candidate: Side, baseline: Side, benchmark: str) -> Iterable[str]:
    """What differs between the two protocols, by name. Prompts may differ between the base and what was trained."""
    for name, ours, theirs in protocol(candidate, baseline, benchmark):
        if ours != theirs:
            yield f"{name} differs: {ours} for the candidate, {theirs} for the baseline"


def protocol(candidate: Side, baseline: Side, benchmark: str) -> Iterable[tuple[str, object, object]]:
    """(name, the candidate's, the baseline's) of everything that must be alike before two models are compared."""
    a, b = candidate.manifest, baseline.manifest
    contents = [next(item for item in m.benchmarks if item.name == benchmark) for m in (a, b)]
    yield f"{benchmark}'s content", contents[0].content[:12], contents[1].content[:12]
    yield "the grader", contents[0].grader, contents[1].grader
    for field in ("temperature", "top_p", "n", "seed"):
        yield f"sampling.{field}", getattr(a.sampling, field), getattr(b.sampling, field)
    yield "the largest budget", a.budgets[-1], b.budgets[-1]
    ours, theirs = candidate.evaluations(benchmark), baseline.evaluations(benchmark)
    engines = [[e.engine for e in side if e.engine] for side in (ours, theirs)]
    for field in ("name", "version", "dtype", "gpu"):
        mine, other = (_only(getattr(engine, field) for engine in side) for side in engines)
        yield f"engine.{field}", mine, other
    for flag in sorted({flag for side in engines for engine in side for flag in engine.flags}):
        mine, other = (_only(engine.flags.get(flag) for engine in side) for side in engines)
        yield f"engine.flags.{flag}", mine, other
    yield "the grader's version", _only(e.grader_version for e in ours), _only(e.grader_version for e in theirs)
    if (candidate.model.kind == "base") == (baseline.model.kind == "base"):
        yield "thinking", candidate.model.thinking, baseline.model.thinking
        parts = {e.part: e for e in theirs}
        for part in ours:
            same = parts.get(part.part)
            if same is not None and part.problems == same.problems:
                yield f"the prompts of {benchmark}/{part.part}", _short(part), _short(same)


def _short(evaluation: ManifestEvaluation) -> str:
    return (evaluation.prompts_sha256 or "")[:12]


def _only(values: Iterable[object]) -> str:
    return ", ".join(sorted({str(value) for value in values}))


def noise(baseline: Side, other: Manifest, item: FrozenRequirement, budget_tokens: int) -> float | None:
    """A/A: how often the baseline differs from itself. From a second generation of it in another manifest, or from
    several outputs of one problem. None where neither was measured.
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
    """Mean over problems of how often two outputs of the problem differ."""
    several = [verdicts for verdicts in codes.values() if len(verdicts) > 1 and "e" not in verdicts]
    if not several:
        return None
    rates = []
    for verdicts in several:
        pairs = [pair({"": a}, {"": b}, item.metric) for a, b in combinations(verdicts, 2)]
        rates.append(sum(p.discordance for p in pairs) / len(pairs))
    return float(np.mean(rates))
