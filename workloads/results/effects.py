"""The effects of a change: compares each model of two manifests on the problems of both, problem by problem. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from workloads.api.manifest import Manifest
from workloads.results.comparable import Side, incomplete, protocol
from workloads.results.stats.difference import Difference, holm, paired_difference
from workloads.results.stats.paired import METRICS, Metric, pair, problem_codes


@dataclass(frozen=True)
class Effect:
    """`difference` is new - old; `adjusted_p`: after Holm correction over all effects.

    `again`: the same prompts were generated twice, so that differences are noise. `discordance`: share of the problems
    on which the two differ.
    """

    model: str
    benchmark: str
    budget_tokens: int
    metric: Metric
    difference: Difference
    discordance: float
    adjusted_p: float
    again: bool


@dataclass(frozen=True)
class NotCompared:
    model: str
    benchmark: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Effects:
    """`unchanged`: (model, benchmark) with the same verdicts from the same units. `only_*`: ids of models of one side.

    `contradictory`: (model, benchmark) with different verdicts from the same units, which is impossible unless a
    manifest was changed or a store is damaged. They are in `compared` too. `*_benchmarks`: names of benchmarks of one
    side.
    """

    compared: tuple[Effect, ...]
    unchanged: tuple[tuple[str, str], ...]
    not_compared: tuple[NotCompared, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]
    contradictory: tuple[tuple[str, str], ...] = ()
    only_old_benchmarks: tuple[str, ...] = ()
    only_new_benchmarks: tuple[str, ...] = ()


def effects(old: Manifest, new: Manifest) -> Effects:
    """Compares models with the same id like the gate: only complete results with the same protocol."""
    compared: list[Effect] = []
    unchanged: list[tuple[str, str]] = []
    contradictory: list[tuple[str, str]] = []
    refused: list[NotCompared] = []
    names = [[benchmark.name for benchmark in side.benchmarks] for side in (old, new)]
    ids = [[model.id for model in side.models] for side in (old, new)]
    for before, after, benchmark in _pairs(old, new):
        name = (after.model.id, benchmark)
        same_units = _grades(before, benchmark) == _grades(after, benchmark) and None not in _grades(after, benchmark)
        if same_units and _verdicts(before, benchmark) == _verdicts(after, benchmark):
            unchanged.append(name)
            continue
        if same_units:
            contradictory.append(name)
        if reasons := tuple(_reasons(before, after, benchmark)):
            refused.append(NotCompared(*name, reasons))
        else:
            compared += _compared(before, after, benchmark)
    adjusted = holm([effect.adjusted_p for effect in compared])
    return Effects(
        compared=tuple(replace(effect, adjusted_p=p) for effect, p in zip(compared, adjusted, strict=True)),
        unchanged=tuple(unchanged),
        not_compared=tuple(refused),
        only_old=tuple(name for name in ids[0] if name not in ids[1]),
        only_new=tuple(name for name in ids[1] if name not in ids[0]),
        contradictory=tuple(contradictory),
        only_old_benchmarks=tuple(name for name in names[0] if name not in names[1]),
        only_new_benchmarks=tuple(name for name in names[1] if name not in names[0]),
    )


def _pairs(old: Manifest, new: Manifest) -> Iterator[tuple[Side, Side, str]]:
    """Yields models and benchmarks of both."""
    models = {model.id: model for model in old.models}
    known = {benchmark.name for benchmark in old.benchmarks}
    for benchmark in (item.name for item in new.benchmarks if item.name in known):
        for model in new.models:
            if model.id in models:
                before, after = Side(old, models[model.id]), Side(new, model)
                if before.evaluations(benchmark) and after.evaluations(benchmark):
                    yield before, after, benchmark


def _grades(side: Side, benchmark: str) -> set[str | None]:
    return {evaluation.grade for evaluation in side.evaluations(benchmark)}


def _verdicts(side: Side, benchmark: str) -> list[object]:
    """Returns what must be equal in both manifests if their verdicts come from the same units."""
    return [
        (e.part, e.state, e.problems, e.outputs_per_problem, [(b.counts.budget, b.verdicts) for b in e.budgets])
        for e in side.evaluations(benchmark)
    ]


def _budgets(before: Side, after: Side) -> list[int]:
    return [budget for budget in after.manifest.budgets if budget in before.manifest.budgets]


def _reasons(before: Side, after: Side, benchmark: str) -> Iterator[str]:
    budgets = _budgets(before, after)
    if not budgets:
        yield "they share no token budget"
    reasons = dict.fromkeys(
        reason for side in (before, after) for budget in budgets for reason in incomplete(side, benchmark, budget)
    )
    yield from reasons
    if reasons:
        return  # a missing result has no engine and no grader to compare
    for name, theirs, ours in protocol(before, after, benchmark):
        if theirs != ours:
            yield f"{name} differs: {theirs} -> {ours}"


def _compared(before: Side, after: Side, benchmark: str) -> Iterator[Effect]:
    generated = [{e.generate for e in side.evaluations(benchmark)} for side in (before, after)]
    for budget in _budgets(before, after):
        theirs, ours = (problem_codes(s.manifest, s.model.id, benchmark, budget) for s in (before, after))
        for metric in METRICS:
            pairs = pair(ours, theirs, metric)
            if pairs.n:
                found = paired_difference(pairs)
                again = generated[0] == generated[1]
                yield Effect(after.model.id, benchmark, budget, metric, found, pairs.discordance, found.p, again)
