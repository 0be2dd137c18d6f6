"""Results so far, as in the report's first tables, and the comparison of two experiments."""

from dataclasses import dataclass

from controller.cli.versions import differences
from workloads.api.experiment import FrozenExperiment
from workloads.api.manifest import Manifest
from workloads.report.overview import Overview, overview
from workloads.report.pairs import PairTable, pair_table
from workloads.results.conclusions import conclusions
from workloads.results.effects import Effect, NotCompared, effects
from workloads.results.run_comparison import compared_budgets

ALPHA = 0.05


@dataclass(frozen=True)
class Results:
    """`overview`: the headline and a row for each run.

    `last_pairs`: last checkpoints of two runs; None if no two are compared. `comparisons`: how many comparisons the
    intervals are adjusted for.
    """

    state: str
    overview: Overview
    last_pairs: PairTable | None
    comparisons: int
    budgets: tuple[int, ...]


def results(manifest: Manifest) -> Results:
    concluded = conclusions(manifest)
    return Results(
        state=manifest.state,
        overview=overview(manifest, concluded),
        last_pairs=pair_table(manifest, concluded, "last"),
        comparisons=concluded.comparisons,
        budgets=compared_budgets(manifest),
    )


@dataclass(frozen=True)
class Side:
    """One of two experiments. `manifest`: None if it has no result yet."""

    id: str
    frozen: FrozenExperiment
    manifest: Manifest | None


@dataclass(frozen=True)
class EffectShown:
    """`points`, `low`, `high`: new - old in percentage points, 95% interval of this comparison alone.

    `adjusted_p`: after Holm correction over all rows. `again`: the same prompts were generated twice, so that
    differences are noise.
    """

    model: str
    benchmark: str
    budget_tokens: int
    metric: str
    old: float
    new: float
    points: float
    low: float
    high: float
    problems: int
    adjusted_p: float
    significant: bool
    again: bool


@dataclass(frozen=True)
class Comparison:
    """`differs`: fields of the experiment file. `unchanged`: (model, benchmark) with equal verdicts of the same units.

    `note`: why nothing is compared.
    """

    old: str
    new: str
    differs: tuple[str, ...]
    compared: tuple[EffectShown, ...] = ()
    unchanged: tuple[tuple[str, str], ...] = ()
    not_compared: tuple[NotCompared, ...] = ()
    only_old: tuple[str, ...] = ()
    only_new: tuple[str, ...] = ()
    contradictory: tuple[tuple[str, str], ...] = ()
    only_old_benchmarks: tuple[str, ...] = ()
    only_new_benchmarks: tuple[str, ...] = ()
    note: str | None = None


def comparison(old: Side, new: Side) -> Comparison:
    """Compares models of the same id, on the problems of both, as `potstill diff` compares two manifests."""
    differs = differences(old.frozen, new.frozen)
    missing = [side.id for side in (old, new) if side.manifest is None]
    if old.manifest is None or new.manifest is None:
        return Comparison(old.id, new.id, differs, note=f"{' and '.join(missing)}: no result yet")
    found = effects(old.manifest, new.manifest)
    return Comparison(
        old=old.id,
        new=new.id,
        differs=differs,
        compared=tuple(map(_shown, found.compared)),
        unchanged=found.unchanged,
        not_compared=found.not_compared,
        only_old=found.only_old,
        only_new=found.only_new,
        contradictory=found.contradictory,
        only_old_benchmarks=found.only_old_benchmarks,
        only_new_benchmarks=found.only_new_benchmarks,
    )


def _shown(effect: Effect) -> EffectShown:
    found = effect.difference
    return EffectShown(
        model=effect.model,
        benchmark=effect.benchmark,
        budget_tokens=effect.budget_tokens,
        metric=effect.metric,
        old=found.second,
        new=found.first,
        points=found.estimate * 100,
        low=found.low * 100,
        high=found.high * 100,
        problems=found.n,
        adjusted_p=effect.adjusted_p,
        significant=effect.adjusted_p < ALPHA,
        again=effect.again,
    )
