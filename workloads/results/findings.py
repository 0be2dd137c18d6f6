"""What an experiment says: claims fixed beforehand, each supported, contradicted or undecidable, with its doubt.

1 completion or reasoning, 2 degradation within a run, 3 stability, 4 the token limit, 5 asymmetry across domains,
6 what the limit removed. Pure; the same claims are made of a manifest and of a table that has only counts.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations, permutations

from workloads.contract.manifest import Manifest
from workloads.results.contrasts import (
    Contrast,
    Verdict,
    as_right_where_both_completed,
    compared,
    holds_steady,
    judged,
    loses_more,
    overall,
    steadier,
    unfinished_outweighs,
)
from workloads.results.difference import holm
from workloads.results.figures import Figure, Series, difference, series_of
from workloads.results.paired import Metric

METRICS: tuple[Metric, ...] = ("accuracy", "completed")


@dataclass(frozen=True)
class Finding:
    """`key` names the claim for programs: degrades/math_4k."""

    key: str
    claim: str
    verdict: Verdict
    contrasts: tuple[Contrast, ...]
    doubts: tuple[str, ...]


def findings(manifest: Manifest) -> tuple[Finding, ...]:
    return findings_of(series_of(manifest))


def findings_of(series: tuple[Series, ...]) -> tuple[Finding, ...]:
    """Only the claims that the figures at hand bear on; a claim without any contrast is left out."""
    made: list[Finding | None] = [completion_not_reasoning(run) for run in series]
    made += [degrades(run) for run in series]
    made += [steady(run) for run in series]
    made += [shorter_completes_more(short, long) for short, long in permutations(series, 2) if _shorter(short, long)]
    made += [dropping_completes_more(a, b) for a, b in permutations(series, 2) if _filtered(a, b)]
    made += [asymmetric(first, second) for first, second in combinations(series, 2) if _crossed(first, second)]
    made += [removed(run) for run in series]
    return tuple(finding for finding in made if finding is not None)


def _finding(key: str, claim: str, contrasts: Iterable[Contrast | None], *doubts: str) -> Finding | None:
    family = judged(contrast for contrast in contrasts if contrast is not None)
    return Finding(key, claim, overall(family), family, doubts) if family else None


def _names(run: Series) -> tuple[str, ...]:
    """The benchmark of the domain it was trained on; all, where that is not known."""
    return (run.home,) if run.home else tuple(run.figures)


def completion_not_reasoning(run: Series) -> Finding | None:
    """Asked of the last checkpoint where a gap to the base is shown at all (5%, Holm over the benchmarks)."""
    ends = [(run.figures[name][-1], run.base[name]) for name in run.figures if run.figures[name] and name in run.base]
    gaps = [(model, base, found) for model, base in ends if (found := difference(model, base, "accuracy")) is not None]
    adjusted = holm([found.p for _, _, found in gaps])
    shown = [(m, b) for (m, b, found), p in zip(gaps, adjusted, strict=True) if p < 0.05 and found.estimate < 0]
    contrasts = [
        made(f"{model.benchmark}: {question}", model, base)
        for model, base in shown
        for made, question in (
            (unfinished_outweighs, "more of the gap is unfinished than finished and wrong"),
            (as_right_where_both_completed, "on problems that both completed, no loss"),
        )
    ]
    return _finding(
        f"completion/{run.name}",
        f"{run.label}: it ends behind the base because answers do not complete, not because they are wrong",
        contrasts,
        "completed problems are no random sample: easier ones finish, so a high share of right answers among them says "
        "little about those that did not.",
        "what an unfinished output would have become is unknown; a larger budget would tell.",
    )


def degrades(run: Series) -> Finding | None:
    """Last against first checkpoint: fixed beforehand, unlike last against best, which is chosen after looking."""
    names = _names(run)
    contrasts = [
        compared(f"{name}, {metric}: the last is lower", figures[-1], figures[0], metric, claim_higher=False)
        for name in names
        if len(figures := run.figures.get(name, ())) > 1
        for metric in METRICS
    ]
    return _finding(
        f"degrades/{run.name}",
        f"{run.label}: more training makes it worse",
        contrasts,
        "one seed: another order of the data may peak elsewhere.",
        *_peak(run, names),
    )


def _peak(run: Series, names: Iterable[str]) -> Iterable[str]:
    """The best checkpoint was chosen by looking: named, with the p that its choice costs."""
    for name in names:
        figures = run.figures.get(name, ())
        if len(figures) < 3:
            continue
        found = [(figure, difference(figure, figures[-1], "accuracy")) for figure in figures[:-1]]
        known = [(figure, d) for figure, d in found if d is not None]
        adjusted = holm([d.p for _, d in known])
        (figure, best), p = max(zip(known, adjusted, strict=True), key=lambda item: item[0][1].estimate)
        yield (
            f"{name}: the best earlier checkpoint, {figure.label}, was chosen by looking; against the last it has "
            f"{best}, after adjustment for the choice p = {p:.2g}."
        )


def steady(run: Series) -> Finding | None:
    contrasts = [
        holds_steady(f"{name}, {metric}", figures, metric)
        for name in _names(run)
        if len(figures := run.figures.get(name, ())) > 1
        for metric in METRICS
    ]
    return _finding(
        f"steady/{run.name}",
        f"{run.label}: checkpoints do not differ",
        contrasts,
        "no test supports this claim: it is contradicted, or the problems are too few to tell.",
    )


def steadier_than(first: Series, second: Series, benchmark: str) -> Finding | None:
    a, b = first.figures.get(benchmark, ()), second.figures.get(benchmark, ())
    contrasts = [
        steadier(f"{benchmark}, {metric}: fewer points between its checkpoints", a, b, metric)
        for metric in METRICS
        if len(a) > 1 and len(b) > 1
    ]
    return _finding(
        f"steadier/{first.name}/{second.name}/{benchmark}",
        f"{first.label} is steadier than {second.label}",
        contrasts,
        "the more checkpoints a run has, and the fewer problems, the wider it spans by chance.",
    )


def shorter_completes_more(short: Series, long: Series) -> Finding | None:
    """The token limit against completion."""
    doubts = []
    if any(f.budget_tokens != g.budget_tokens for f in _all(short) for g in _all(long)):
        doubts.append(
            "the two are shown at different token budgets: a smaller one alone completes less, whatever the training."
        )
    if short.overlong != long.overlong:
        doubts.append(
            f"the limit is not all that differs: one run has overlong rows {short.overlong}, the other {long.overlong}."
        )
    return _finding(
        f"limit/{short.name}/{long.name}",
        f"{short.label}: a shorter limit in training than {long.label}'s makes answers complete",
        _completes_more(short, long, "the shorter limit"),
        *doubts,
    )


def dropping_completes_more(dropping: Series, cutting: Series) -> Finding | None:
    """Same data, same limit: overlong rows left out in the one run and cut in the other."""
    return _finding(
        f"dropping/{dropping.name}/{cutting.name}",
        f"{dropping.label}: leaving overlong rows out makes answers complete, against cutting them ({cutting.label})",
        _completes_more(dropping, cutting, "leaving out"),
        "the two also learn from other problems: what is left out is longer.",
    )


def _completes_more(first: Series, second: Series, what: str) -> Iterable[Contrast | None]:
    """At the latest number of samples that both have."""
    for name in _names(first):
        figures = first.figures.get(name, ())
        shared = [(a, b) for a in figures if a.samples is not None and (b := second.at(name, a.samples)) is not None]
        if shared:
            a, b = shared[-1]
            question = f"{name} after {a.samples:,} samples: {what} completes more"
            yield compared(question, a, b, "completed", claim_higher=True)


def _filtered(first: Series, second: Series) -> bool:
    same = (first.data_name, first.sequence_tokens) == (second.data_name, second.sequence_tokens)
    return same and (first.overlong, second.overlong) == ("drop", "truncate")


def _all(run: Series) -> list[Figure]:
    return [figure for figures in run.figures.values() for figure in figures]


def _shorter(short: Series, long: Series) -> bool:
    lengths = (short.sequence_tokens, long.sequence_tokens)
    return short.data_name == long.data_name and None not in lengths and (lengths[0] or 0) < (lengths[1] or 0)


def asymmetric(first: Series, second: Series) -> Finding | None:
    """At the last checkpoints: the loss on the other's domain."""
    assert first.home is not None
    assert second.home is not None
    away = [
        (run.figures[name][-1], run.base[name])
        for run, name in ((first, second.home), (second, first.home))
        if run.figures.get(name) and name in run.base
    ]
    question = f"it loses more on {second.home} than {second.label} on {first.home}"
    return _finding(
        f"asymmetric/{first.name}/{second.name}",
        f"{first.label} forgets {second.home} more than {second.label} forgets {first.home}",
        [loses_more(question, away[0], away[1])] if len(away) == 2 else [],
        "points on two benchmarks are not one currency: how hard their problems are decides what a point is worth.",
    )


def _crossed(first: Series, second: Series) -> bool:
    """Different domains under the same limit."""
    homes = {first.home, second.home}
    return None not in homes and len(homes) == 2 and first.sequence_tokens == second.sequence_tokens


def removed(run: Series) -> Finding | None:
    """Counted, not sampled: the whole data set was looked at."""
    if run.data is None or run.sequence_tokens is None:
        return None
    data, touched = run.data, run.data.dropped + run.data.truncated
    half: Verdict = "supported" if 2 * touched > data.rows else "contradicted"
    evidence = (
        f"{data.dropped:,} of {data.rows:,} rows dropped ({data.dropped / data.rows:.0%}), {data.truncated:,} cut "
        f"({data.truncated / data.rows:.0%}); median length {data.length_percentiles['p50']:,} before, "
        f"{data.kept_length_percentiles['p50']:,} after; the end is taught by {data.supervises_end:.0%} of the samples."
    )
    question = f"the limit of {run.sequence_tokens:,} tokens touches most rows"
    contrast = Contrast(question, evidence, touched > 0, None, None, half)
    doubts = ("what was dropped is longer, and so probably harder, than what was kept.",) if data.dropped else ()
    claim = f"{run.label}: the limit drops or cuts most of the data"
    return Finding(f"removed/{run.name}", claim, half, (contrast,), doubts)
