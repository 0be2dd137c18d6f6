"""The findings of an experiment: claims fixed beforehand, each supported, contradicted, mixed or undecidable. Pure.

1 completion or reasoning, 2 degradation within a run, 3 stability, 4 the token limit against completion and accuracy, 5
asymmetry across domains and whether it is caused by completion, 6 what the limit removed. Claims use every benchmark,
and every contrast is made at one token budget. The same claims are made for a manifest and for a table with only
counts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations

from workloads.results.contrasts import (
    Contrast,
    Rule,
    Verdict,
    as_right_where_both_completed,
    compared,
    holds_steady,
    judged,
    loses_more,
    not_made,
    overall,
    steadier,
    unfinished_outweighs,
)
from workloads.results.scores import Score, Series, difference
from workloads.results.stats.difference import holm, p_text
from workloads.results.stats.paired import Metric
from workloads.results.stats.trend import falls

METRICS: tuple[Metric, ...] = ("accuracy", "completed")
MOSTLY_UNFINISHED = "more of the gap is unfinished than finished and wrong"


@dataclass(frozen=True)
class Finding:
    """`key`: the name of the claim for programs: degrades/math_4k.

    `rule`: how its contrasts make its verdict (`overall`).
    """

    key: str
    claim: str
    verdict: Verdict
    contrasts: tuple[Contrast, ...]
    doubts: tuple[str, ...]
    rule: Rule = "every"


def findings_of(series: tuple[Series, ...]) -> tuple[Finding, ...]:
    """Returns findings with verdicts at 5% after Holm correction over all contrasts of all findings.

    `conclusions` has those of a report.
    """
    made = unjudged_findings(series)
    return judged_findings(made, holm([contrast.p or 0.0 for contrast in tested_contrasts(made)]))


def unjudged_findings(series: tuple[Series, ...]) -> tuple[Finding, ...]:
    """Returns only claims for which there are values; a claim without any contrast is left out."""
    made: list[Finding | None] = [completion_not_reasoning(run) for run in series]
    made += [degrades(run, name) for run in series for name in run.figures]
    made += [steady(run) for run in series]
    made += [steadier_than(later, earlier) for earlier, later in combinations(series, 2) if _other_data(earlier, later)]
    made += [completion_elsewhere(run) for run in series]
    made += [
        claim(short, long)
        for short, long in permutations(series, 2)
        if _shorter(short, long)
        for claim in (shorter_completes_more, shorter_is_worse)
    ]
    made += [dropping_completes_more(a, b) for a, b in permutations(series, 2) if _filtered(a, b)]
    made += [asymmetric(first, second) for first, second in combinations(series, 2)]
    made += [removed(run) for run in series]
    return tuple(finding for finding in made if finding is not None)


def tested_contrasts(made: Iterable[Finding]) -> list[Contrast]:
    """Returns all contrasts that have a p, in order."""
    return [contrast for finding in made for contrast in finding.contrasts if contrast.p is not None]


def judged_findings(made: tuple[Finding, ...], adjusted: Sequence[float]) -> tuple[Finding, ...]:
    """`adjusted`: a p for each of `tested_contrasts`."""
    left = iter(adjusted)
    found = []
    for finding in made:
        contrasts = tuple(c if c.p is None else judged(c, next(left)) for c in finding.contrasts)
        found.append(replace(finding, contrasts=contrasts, verdict=overall(contrasts, finding.rule)))
    return tuple(found)


def _finding(
    key: str, claim: str, contrasts: Iterable[Contrast | None], *doubts: str, rule: Rule = "every"
) -> Finding | None:
    family = tuple(contrast for contrast in contrasts if contrast is not None)
    return Finding(key, claim, overall(family, rule), family, doubts, rule) if family else None


def _no_end(run: Series, places: Sequence[str] = ("last",), benchmark: str | None = None) -> list[Contrast]:
    """Returns why there is no verdict on the end of a run: one contrast for each missing result."""
    reasons = {
        reason: name for (name, place), reason in run.missing.items() if place in places and benchmark in (None, name)
    }
    return [not_made(f"{name}: no verdict", f"{reason}.") for reason, name in reasons.items()]


def completion_not_reasoning(run: Series) -> Finding | None:
    """Uses the last checkpoint if there is a significant gap to the base (`_gaps`)."""
    contrasts = [
        made(f"{model.benchmark}: {question}", model, base)
        for model, base in _gaps(run)
        for made, question in (
            (unfinished_outweighs, MOSTLY_UNFINISHED),
            (as_right_where_both_completed, "on problems that both completed, no loss"),
        )
    ]
    return _finding(
        f"completion/{run.name}",
        f"{run.label}: it ends behind the base because answers do not complete, not because they are wrong",
        contrasts + (_no_end(run) if contrasts else []),
        "completed problems are no random sample: easier ones finish, so a high share of right answers among them says "
        "little about those that did not.",
        "what an unfinished output would have become is unknown; a larger budget would tell.",
    )


def _gaps(run: Series) -> list[tuple[Score, Score]]:
    """Returns (last checkpoint, base) by benchmark on which the first is less often right (5%, Holm over the
    benchmarks).
    """
    ends = [(end, run.base[name]) for name in run.figures if (end := run.end(name)) is not None and name in run.base]
    gaps = [(model, base, found) for model, base in ends if (found := difference(model, base, "accuracy")) is not None]
    adjusted = holm([found.p for _, _, found in gaps])
    return [(m, b) for (m, b, found), p in zip(gaps, adjusted, strict=True) if p < 0.05 and found.estimate < 0]


def completion_elsewhere(run: Series) -> Finding | None:
    """Uses the benchmarks of other domains than the run's data. None unless the file states the domain of its data."""
    away = [name for name, domain in run.domains.items() if run.domain not in (None, domain)]
    contrasts = [
        unfinished_outweighs(f"{model.benchmark}: {MOSTLY_UNFINISHED}", model, base)
        for model, base in _gaps(run)
        if model.benchmark in away
    ]
    missing = [contrast for name in away for contrast in _no_end(run, benchmark=name)]
    return _finding(
        f"completion-elsewhere/{run.name}",
        f"{run.label}: what it loses outside {run.domain} it loses because answers do not complete",
        contrasts + (missing if contrasts else []),
        "what an unfinished output would have become is unknown; a larger budget would tell.",
    )


def degrades(run: Series, benchmark: str) -> Finding | None:
    """Compares the last with the first checkpoint, and tests the trend over all: fixed beforehand, unlike last against
    best.
    """
    figures = run.figures.get(benchmark, ())
    first, last = run.start(benchmark), run.end(benchmark)
    contrasts: list[Contrast | None] = []
    for metric in METRICS:
        if first is not None and last is not None and first is not last:
            question = f"{metric}: the last is lower than the first"
            contrasts.append(compared(question, last, first, metric, claim_higher=False))
        if last is not None:
            contrasts.append(falls(f"{metric}: it falls over all checkpoints", figures, metric))
    return _finding(
        f"degrades/{run.name}/{benchmark}",
        f"{run.label}: more training makes it worse on {benchmark}",
        [*contrasts, *_no_end(run, ("first", "last"), benchmark)],
        "one seed: another order of the data may peak elsewhere.",
        *_peak(run, benchmark),
        rule="some",
    )


def _peak(run: Series, benchmark: str) -> Iterable[str]:
    """The best checkpoint was chosen by looking: named, with the p that its choice costs."""
    figures = run.figures.get(benchmark, ())
    if len(figures) < 3 or run.end(benchmark) is None:
        return
    found = [(figure, difference(figure, figures[-1], "accuracy")) for figure in figures[:-1]]
    known = [(figure, d) for figure, d in found if d is not None]
    if known:
        adjusted = holm([d.p for _, d in known])
        (figure, best), p = max(zip(known, adjusted, strict=True), key=lambda item: item[0][1].estimate)
        yield (
            f"the best earlier checkpoint, {figure.label}, was chosen by looking; against the last it has "
            f"{best}, after adjustment for the choice {p_text(p)}."
        )


def steady(run: Series) -> Finding | None:
    contrasts = [
        holds_steady(f"{name}, {metric}: no two checkpoints differ by 5 points", figures, metric)
        for name, figures in run.figures.items()
        if len(figures) > 1
        for metric in METRICS
    ]
    return _finding(f"steady/{run.name}", f"{run.label}: checkpoints do not differ", contrasts)


def steadier_than(first: Series, second: Series) -> Finding | None:
    """Uses every benchmark of both, each run at its own checkpoints, at the largest common budget."""
    contrasts: list[Contrast | None] = []
    for name in first.figures:
        a, b = first.figures[name], second.figures.get(name, ())
        if len(a) < 2 or len(b) < 2:
            continue
        budget = _common_budget(first, second)
        if budget is None:
            contrasts.append(not_made(f"{name}: fewer points between its checkpoints", _unequal(first, second)))
            continue
        a, b = first.at_budget(budget)[name], second.at_budget(budget)[name]
        contrasts += [
            steadier(f"{name}, {metric}: fewer points between its checkpoints", a, b, metric) for metric in METRICS
        ]
    return _finding(
        f"steadier/{first.name}/{second.name}",
        f"{first.label} is steadier than {second.label}",
        contrasts,
        "the more checkpoints a run has, and the fewer problems, the wider it spans by chance.",
        "a run that improves is not steady: the claim does not say whether a span is good or bad.",
        rule="some",
    )


def _common_budget(first: Series, second: Series) -> int | None:
    return max((b for b in first.budgets if b in second.budgets), default=None)


def _unequal(first: Series, second: Series) -> str:
    return (
        f"{first.label} is known at {first.budget_tokens:,} tokens and {second.label} at {second.budget_tokens:,}: a "
        "smaller budget alone completes less; both at one budget are needed."
    )


def shorter_completes_more(short: Series, long: Series) -> Finding | None:
    """The token limit against completion."""
    return _finding(
        f"limit/{short.name}/{long.name}",
        f"{short.label}: a shorter limit in training than {long.label}'s makes answers complete on some benchmark",
        _at_equal_samples(short, long, "completed", "the shorter limit completes more", claim_higher=True),
        *_limit_doubts(short, long),
        rule="some",
    )


def shorter_is_worse(short: Series, long: Series) -> Finding | None:
    """The token limit against accuracy: at equal samples, and last checkpoint against last."""
    ends: list[Contrast | None] = []
    budgets, unequal = _shared_budgets(short, long)
    for name in short.figures:
        last = (short.end(name), long.end(name))
        if last[0] is None or last[1] is None or last[0].samples == last[1].samples:
            continue
        question = f"{name}, last checkpoints: the shorter limit is lower"
        ends += [not_made(question, unequal)] if unequal else []
        for budget in budgets:
            a, b = (run.at(name, end.samples or 0, budget) for run, end in zip((short, long), last, strict=True) if end)
            if a is not None and b is not None:
                at = f" at {budget:,} tokens" if len(budgets) > 1 else ""
                ends.append(compared(question + at, a, b, "accuracy", claim_higher=False))
    return _finding(
        f"limit-accuracy/{short.name}/{long.name}",
        f"{short.label}: a shorter limit in training than {long.label}'s makes answers wrong on some benchmark",
        [
            *_at_equal_samples(short, long, "accuracy", "the shorter limit is less often right", claim_higher=False),
            *ends,
        ],
        *_limit_doubts(short, long),
        rule="some",
    )


def _limit_doubts(short: Series, long: Series) -> Iterable[str]:
    if short.overlong != long.overlong:
        yield (
            f"the limit is not all that differs: one run has overlong rows {short.overlong}, the other {long.overlong}."
        )


def dropping_completes_more(dropping: Series, cutting: Series) -> Finding | None:
    """Compares runs with the same data and limit: one leaves overlong rows out, the other cuts them."""
    return _finding(
        f"dropping/{dropping.name}/{cutting.name}",
        f"{dropping.label}: leaving overlong rows out makes answers complete, against cutting them ({cutting.label})",
        _at_equal_samples(dropping, cutting, "completed", "leaving out completes more", claim_higher=True),
        "the two also learn from other problems: what is left out is longer.",
        rule="some",
    )


def _at_equal_samples(
    first: Series, second: Series, metric: Metric, what: str, *, claim_higher: bool
) -> Iterable[Contrast | None]:
    """Yields contrasts at the first and at the last common number of samples, at each budget of either run."""
    budgets, unequal = _shared_budgets(first, second)
    for name, figures in first.figures.items():
        theirs = {figure.samples for figure in second.figures.get(name, ())}
        shared = [f.samples for f in figures if f.samples is not None and f.samples in theirs]
        for samples in dict.fromkeys([*shared[:1], *shared[-1:]]):
            question = f"{name} after {samples:,} samples: {what}"
            if unequal:
                yield not_made(question, unequal)
            for budget in budgets:
                a, b = first.at(name, samples, budget), second.at(name, samples, budget)
                if a is not None and b is not None:
                    at = f" at {budget:,} tokens" if len(budgets) > 1 else ""
                    yield compared(question + at, a, b, metric, claim_higher=claim_higher)


def _shared_budgets(first: Series, second: Series) -> tuple[list[int], str]:
    """Returns the runs' own budgets at which both have results, and why a budget is missing."""
    wanted = sorted({first.budget_tokens, second.budget_tokens})
    budgets = [b for b in wanted if b in first.budgets and b in second.budgets]
    return budgets, "" if budgets else _unequal(first, second)


def _filtered(first: Series, second: Series) -> bool:
    same = (first.data_name, first.sequence_tokens) == (second.data_name, second.sequence_tokens)
    return same and (first.overlong, second.overlong) == ("drop", "truncate")


def _shorter(short: Series, long: Series) -> bool:
    lengths = (short.sequence_tokens, long.sequence_tokens)
    return short.data_name == long.data_name and None not in lengths and (lengths[0] or 0) < (lengths[1] or 0)


def _other_data(first: Series, second: Series) -> bool:
    """Returns whether the runs have different data and the same limit."""
    return first.data_name != second.data_name and first.sequence_tokens == second.sequence_tokens


def asymmetric(first: Series, second: Series) -> Finding | None:
    """Compares at the last checkpoints the loss on the other run's domain.

    None unless the file states two different domains.
    """
    if first.domain is None or second.domain is None or first.domain == second.domain or not _other_data(first, second):
        return None
    ours, theirs = first.benchmarks_of(first.domain), first.benchmarks_of(second.domain)
    contrasts: list[Contrast | None] = []
    for away, home in ((away, home) for away in theirs for home in ours):
        question = f"it loses more on {away} than {second.label} on {home}"
        ends = [(first.end(away), first.base.get(away)), (second.end(home), second.base.get(home))]
        known = [(end, base) for end, base in ends if end is not None and base is not None]
        if len(known) == 2:
            contrasts.append(loses_more(question, known[0], known[1]))
        else:
            reasons = [run.missing.get((name, "last")) for run, name in ((first, away), (second, home))]
            contrasts.append(not_made(question, "; ".join(r for r in reasons if r) or "a result is missing."))
    return _finding(
        f"asymmetric/{first.name}/{second.name}",
        f"{first.label} forgets {second.domain} more than {second.label} forgets {first.domain}",
        contrasts,
        "points on two benchmarks are not one currency: how hard their problems are decides what a point is worth.",
        rule="some",
    )


def removed(run: Series) -> Finding | None:
    """Counted, not sampled: it uses the whole data set."""
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
