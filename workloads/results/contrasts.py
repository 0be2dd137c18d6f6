"""Questions that were fixed beforehand, each with the verdict that the evidence supports."""

from dataclasses import dataclass, replace
from itertools import combinations
from math import ceil, comb, hypot, isnan
from typing import Literal

import numpy as np
from scipy.stats import chi2_contingency, norm, ttest_ind_from_stats

from workloads.results.run_comparison import graded_by_all
from workloads.results.scores import Score, difference
from workloads.results.stats.bounded_mean import equal_shares_p, score_statistic, two_sided_p
from workloads.results.stats.difference import Difference, p_text
from workloads.results.stats.equivalence import MARGIN, above_p, equivalence_p
from workloads.results.stats.paired import Metric, pair, score
from workloads.results.stats.share import Share

Verdict = Literal["supported", "contradicted", "mixed", "undecidable"]
Rule = Literal["every", "some"]
ALPHA = 0.05
POWER = 0.8
DRAWS = 4000


@dataclass(frozen=True)
class Contrast:
    """`toward`: the evidence supports the claim. `p` is two-sided, None if no test is possible.

    `adjusted_p`: adjusted for all comparisons of the report. `needed`: the number of problems for a decision, if the
    difference is as observed; None if unknown, or if no number would do. `least_p`: as in `Difference`; 0 if unknown.
    """

    question: str
    evidence: str
    toward: bool
    p: float | None
    needed: int | None
    verdict: Verdict = "undecidable"
    adjusted_p: float | None = None
    least_p: float = 0.0


def judged(contrast: Contrast, adjusted_p: float | None) -> Contrast:
    """Returns the contrast with its verdict at 5%. Without a p, or with NaN, the verdict stays the same."""
    if contrast.p is None or adjusted_p is None or isnan(adjusted_p):
        return contrast
    evidence = f"{contrast.evidence} (adjusted {p_text(adjusted_p)})."
    if adjusted_p >= ALPHA:
        return replace(contrast, evidence=evidence, adjusted_p=adjusted_p)
    verdict: Verdict = "supported" if contrast.toward else "contradicted"
    return replace(contrast, evidence=evidence, adjusted_p=adjusted_p, verdict=verdict, needed=None)


def overall(contrasts: tuple[Contrast, ...], rule: Rule = "every") -> Verdict:
    """`every`: the claim is supported if all its contrasts support it, and contradicted by any of them.

    `some`: it is supported if one contrast supports it and none contradicts it; mixed if both occur.
    """
    verdicts = {item.verdict for item in contrasts}
    if "contradicted" in verdicts:
        return "mixed" if rule == "some" and "supported" in verdicts else "contradicted"
    if rule == "some":
        return "supported" if "supported" in verdicts else "undecidable"
    return "supported" if verdicts == {"supported"} else "undecidable"


def not_made(question: str, reason: str) -> Contrast:
    """Returns a question that cannot be answered, and why."""
    return Contrast(question, reason, False, None, None)


def mean_test(values: np.ndarray, largest: float) -> float:
    """Returns the two-sided p of a mean of zero, by problem. `values`: [problems], each in -`largest`..`largest`.

    If all values are equal and not zero, they are a difference: the score test has a variance for them.
    """
    return two_sided_p(score_statistic(values, -largest, largest), len(values), single=False)


def compared(question: str, first: Score, second: Score, metric: Metric, *, claim_higher: bool) -> Contrast | None:
    """Returns the claim that the first is higher (or lower) than the second, at one budget.

    None if they share no problem.
    """
    found = difference(first, second, metric)
    if found is None:
        return None
    toward = found.estimate > 0 if claim_higher else found.estimate < 0
    evidence = _evidence(first, second, metric, found)
    return Contrast(question, evidence, toward, number(found.p), found.needed, least_p=found.least_p)


def number(p: float) -> float | None:
    """Returns None for a p that is NaN, which decides nothing."""
    return None if isnan(p) else p


def _evidence(first: Score, second: Score, metric: Metric, found: Difference) -> str:
    word = {"accuracy": "right", "completed": "completed", "strict": "right and completed"}[metric]
    if first.codes is None or second.codes is None:
        counts = [f"{figure.label} {figure.share(metric).k}/{figure.share(metric).n}" for figure in (first, second)]
        return f"{counts[0]} {word}, {counts[1]}: {found}"
    return f"{first.label} {found.first:.1%} {word}, {second.label} {found.second:.1%}: {found}"


def unfinished_outweighs(question: str, model: Score, base: Score) -> Contrast:
    """The claim: uncompleted answers cause more of the gap to the base than wrong answers do.

    Per output, +1 for not completed and not right, -1 for completed and not right; the mean's difference to the base is
    the first part of the gap minus the second. Both parts may have either sign.
    """
    ours, theirs = _parts(model), _parts(base)
    gap = (base.accuracy.k / base.accuracy.n) - (model.accuracy.k / model.accuracy.n)
    unfinished, wrong = ours[0] - theirs[0], ours[1] - theirs[1]
    evidence = (
        f"the gap of {gap * 100:+.1f} points is {unfinished * 100:+.1f} not completed and not right, "
        f"{wrong * 100:+.1f} completed but not right"
    )
    pairs = _signed_pairs(model, base)
    if pairs is None:
        moments = [(u - w, (u + w - (u - w) ** 2) ** 0.5, n) for u, w, n in (ours, theirs)]
        n = min(ours[2], theirs[2])
        p = _independent_p(moments)
        spread = sum(deviation**2 for _, deviation, _ in moments) ** 0.5
    else:
        p, spread, n = mean_test(pairs, 2.0), float(np.std(pairs)), len(pairs)
    estimate = unfinished - wrong
    return Contrast(question, f"{evidence}; {p_text(p)}, n = {n}", estimate > 0, p, _needed(estimate, spread))


def _independent_p(moments: list[tuple[float, float, int]]) -> float:
    """Returns p of Welch's t test of (mean, deviation, n); if neither side varies, of a permutation test."""
    if not any(deviation for _, deviation, _ in moments):
        same = moments[0][0] == moments[1][0]
        return 1.0 if same else 1 / comb(moments[0][2] + moments[1][2], moments[0][2])
    found = float(ttest_ind_from_stats(*moments[0], *moments[1], equal_var=False).pvalue)
    return 1.0 if isnan(found) else found


def _parts(figure: Score) -> tuple[float, float, int]:
    """Returns shares of not completed and not right, and of completed and not right, and n."""
    n = figure.accuracy.n
    wrong = figure.completed.k - figure.strict.k
    return (n - figure.accuracy.k - wrong) / n, wrong / n, n


def _signed_pairs(model: Score, base: Score) -> np.ndarray | None:
    if model.codes is None or base.codes is None:
        return None
    shared = [p for p in model.codes if p in base.codes and "e" not in model.codes[p] + base.codes[p]]
    return np.array([_signed(model.codes[p]) - _signed(base.codes[p]) for p in shared]) if shared else None


def _signed(codes: str) -> float:
    return sum((code in "wn") - (code in "WN") for code in codes) / len(codes)


def as_right_where_both_completed(question: str, model: Score, base: Score, margin: float = MARGIN) -> Contrast:
    """The claim: on problems that both completed, the model loses less than `margin`. Needs verdicts by problem.

    Its p is the smaller of two, each doubled for having two sides: of a loss of `margin` or more, which supports the
    claim, and of no loss, which contradicts it. The two hypotheses exclude each other, so only one p counts.
    """
    if model.codes is None or base.codes is None:
        evidence = "only counts are known: verdicts problem by problem would be needed, and counts cannot replace them."
        return not_made(question, evidence)
    both = [p for p in model.codes if p in base.codes and (model.codes[p] + base.codes[p]).isupper()]
    if not both:
        return not_made(question, "there is no such problem.")
    narrowed = [replace(figure, codes={p: (figure.codes or {})[p] for p in both}) for figure in (model, base)]
    found = difference(narrowed[0], narrowed[1], "accuracy")
    assert found is not None
    evidence = f"{len(both)} such problems: {found}; a loss of {margin:.0%} counts as one"
    pairs = pair(narrowed[0].codes or {}, narrowed[1].codes or {}, "accuracy")
    support = min(1.0, 2 * above_p(pairs, -margin))
    against = found.p if found.estimate < 0 else 1.0
    return Contrast(question, evidence, support <= against, number(min(support, against)), None)


def holds_steady(question: str, figures: tuple[Score, ...], metric: Metric) -> Contrast:
    """The claim: no two checkpoints differ by MARGIN or more.

    Supported by equivalence (two one-sided tests) of every two checkpoints; contradicted by a test of one share for
    all. Its p is the smaller of the two: their hypotheses exclude each other.
    """
    shares = [figure.share(metric) for figure in figures]
    values = [share.k / share.n for share in shares]
    against = _homogeneity(figures, shares, metric)
    support = max((equivalence_of(a, b, metric) for a, b in combinations(figures, 2)), default=1.0)
    evidence = (
        f"{min(values):.1%} to {max(values):.1%} over {len(values)} checkpoints, {p_text(against)} of one share for "
        f"all, {p_text(support)} of two that differ by {MARGIN * 100:g} points or more"
    )
    first, second = min(shares, key=lambda s: s.k / s.n), max(shares, key=lambda s: s.k / s.n)
    needed = _needed(max(values) - min(values), (_variance(first) + _variance(second)) ** 0.5)
    return Contrast(question, evidence, support <= against, number(min(support, against)), needed)


def equivalence_of(first: Score, second: Score, metric: Metric) -> float:
    """Returns the p that two figures differ by MARGIN or more; 1 if only counts are known."""
    if first.codes is None or second.codes is None:
        return 1.0
    pairs = pair(first.codes, second.codes, metric)
    return equivalence_p(pairs, MARGIN) if pairs.n else 1.0


def _homogeneity(figures: tuple[Score, ...], shares: list[Share], metric: Metric) -> float:
    """Returns the p of one share at all checkpoints: Cochran's Q by problem on the shared ones; from counts:
    chi-squared.
    """
    codes = [figure.codes for figure in figures if figure.codes is not None]
    shared = graded_by_all(codes)
    if shared and len(codes) == len(figures):
        return equal_shares_p(np.array([[score(own[p], metric) for own in codes] for p in shared]))
    table = np.array([[share.k, share.n - share.k] for share in shares])
    return 1.0 if (table.sum(axis=0) == 0).any() else float(chi2_contingency(table).pvalue)


def steadier(
    question: str, first: tuple[Score, ...], second: tuple[Score, ...], metric: Metric, seed: int = 0
) -> Contrast:
    """The claim: the first run's checkpoints span fewer points (largest minus smallest share) than the second's.

    The noise of a span is simulated from the shares (parametric bootstrap), as if checkpoints were independent; with
    several outputs a problem, from the variance between problems. p comes from the normal approximation of the spans'
    difference. The upward bias of each span is subtracted, but not below 0, because no true span is smaller.
    """
    spans = [_span(np.array([f.share(metric).k / f.share(metric).n for f in run])) for run in (first, second)]
    draws = [_span_draws(run, metric, np.random.default_rng(seed + i)) for i, run in enumerate((first, second))]
    observed = float(spans[0] - spans[1])
    true = [max(0.0, 2 * float(span) - float(own.mean())) for span, own in zip(spans, draws, strict=True)]
    estimate = true[0] - true[1]
    deviation = float((draws[0] - draws[1]).std())
    n = min(_problems(figure, metric) for run in (first, second) for figure in run)
    p = float(2 * norm.sf(abs(estimate) / deviation)) if deviation else _constant_p(observed, n)
    evidence = f"spans of {spans[0] * 100:.1f} and {spans[1] * 100:.1f} points, {p_text(p)}, n = {n}"
    return Contrast(question, evidence, estimate < 0, p, _needed(estimate, deviation * n**0.5))


def _span(shares: np.ndarray) -> np.ndarray:
    return np.asarray(np.max(shares, axis=0) - np.min(shares, axis=0))


def _span_draws(run: tuple[Score, ...], metric: Metric, rng: np.random.Generator) -> np.ndarray:
    return _span(np.array([_share_draws(figure, metric, rng) for figure in run]))


def _share_draws(figure: Score, metric: Metric, rng: np.random.Generator) -> np.ndarray:
    share, problems = figure.share(metric), _problems(figure, metric)
    if problems == share.n:
        return np.asarray(rng.binomial(share.n, share.k / share.n, DRAWS) / share.n)
    scores = [score(codes, metric) for codes in (figure.codes or {}).values() if "e" not in codes]
    error = float(np.std(scores, ddof=1)) / len(scores) ** 0.5 if len(scores) > 1 else 0.5
    return np.asarray(np.clip(rng.normal(share.k / share.n, error, DRAWS), 0.0, 1.0))


def _problems(figure: Score, metric: Metric) -> int:
    """Returns independent observations: outputs if there is one a problem, otherwise problems."""
    share = figure.share(metric)
    return share.n if share.problems is None else share.problems


def _constant_p(observed: float, problems: int) -> float:
    return 2.0 ** (1 - problems) if observed else 1.0


def loses_more(question: str, first: tuple[Score, Score], second: tuple[Score, Score]) -> Contrast | None:
    """The claim: (model, base) of `first` lose more accuracy than those of `second`, on another benchmark."""
    losses = [difference(base, model, "accuracy") for model, base in (first, second)]
    if any(loss is None for loss in losses):
        return None
    a, b = (loss for loss in losses if loss is not None)
    z = float(norm.ppf(1 - ALPHA / 2))
    deviations = [(loss.high - loss.low) / (2 * z) for loss in (a, b)]
    deviation = hypot(*deviations)
    estimate = a.estimate - b.estimate
    p = float(2 * norm.sf(abs(estimate) / deviation)) if deviation else _constant_p(estimate, min(a.n, b.n))
    low, high = estimate - z * deviation, estimate + z * deviation
    evidence = (
        f"{a.estimate * 100:.1f} points lost on {first[0].benchmark}, {b.estimate * 100:.1f} on {second[0].benchmark}: "
        f"{estimate * 100:+.1f} ({low * 100:+.1f} to {high * 100:+.1f}, {p_text(p)})"
    )
    return Contrast(question, evidence, estimate > 0, p, _needed(estimate, deviation * min(a.n, b.n) ** 0.5))


def _variance(share: Share) -> float:
    return share.k / share.n * (1 - share.k / share.n)


def _needed(estimate: float, deviation: float) -> int | None:
    """Returns the number of problems that detects a mean of this size and deviation per problem (two-sided 5%, power
    80%).
    """
    if not estimate or not deviation:
        return None
    reach = float(norm.ppf(1 - ALPHA / 2)) + float(norm.ppf(POWER))
    return ceil((reach * deviation / estimate) ** 2)
