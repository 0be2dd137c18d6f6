"""Questions put to the figures beforehand, each with the verdict that the evidence allows."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import ceil, hypot, isfinite
from typing import Literal

import numpy as np
from scipy.stats import chi2_contingency, norm, ttest_ind_from_stats

from workloads.results.bounded_mean import equal_shares_p, score_statistic, two_sided_p
from workloads.results.difference import Difference, holm, p_text
from workloads.results.figures import Figure, difference
from workloads.results.paired import Metric, score
from workloads.results.statistics import Share

Verdict = Literal["supported", "contradicted", "undecidable"]
ALPHA = 0.05
POWER = 0.8
DRAWS = 4000


@dataclass(frozen=True)
class Contrast:
    """`toward`: the estimate lies on the claim's side. `p` is two-sided, None when no test can be made.

    `needed`: problems that would decide, if the difference is as observed; None: unknown, or none would.
    """

    question: str
    evidence: str
    toward: bool
    p: float | None
    needed: int | None
    verdict: Verdict = "undecidable"


def judged(contrasts: Iterable[Contrast]) -> tuple[Contrast, ...]:
    """One family: verdicts at 5% after Holm. What is decided needs no more problems."""
    family = [item if item.p is None or isfinite(item.p) else replace(item, p=None) for item in contrasts]
    adjusted = iter(holm([item.p for item in family if item.p is not None]))
    return tuple(item if item.p is None else _judged(item, next(adjusted)) for item in family)


def _judged(contrast: Contrast, p: float) -> Contrast:
    evidence = contrast.evidence if p == contrast.p else f"{contrast.evidence} (adjusted {p_text(p)})"
    if p >= ALPHA:
        return replace(contrast, evidence=evidence + ".")
    verdict: Verdict = "supported" if contrast.toward else "contradicted"
    return replace(contrast, evidence=evidence + ".", verdict=verdict, needed=None)


def overall(contrasts: tuple[Contrast, ...]) -> Verdict:
    """A claim stands when all its contrasts do, and falls with one of them."""
    verdicts = {item.verdict for item in contrasts}
    if "contradicted" in verdicts:
        return "contradicted"
    return "supported" if verdicts == {"supported"} else "undecidable"


def compared(question: str, first: Figure, second: Figure, metric: Metric, *, claim_higher: bool) -> Contrast | None:
    """The claim is that the first is higher (or lower) than the second. None when they share nothing."""
    found = difference(first, second, metric)
    if found is None:
        return None
    toward = found.estimate > 0 if claim_higher else found.estimate < 0
    return Contrast(question, _evidence(first, second, metric, found), toward, found.p, found.needed)


def _evidence(first: Figure, second: Figure, metric: Metric, found: Difference) -> str:
    word = {"accuracy": "right", "completed": "completed", "strict": "right and completed"}[metric]
    return f"{first.label} {found.first:.1%} {word}, {second.label} {found.second:.1%}: {found}"


def unfinished_outweighs(question: str, model: Figure, base: Figure) -> Contrast:
    """The claim: of the gap to the base, more is answers that did not complete than answers that are wrong.

    Per output, +1 for not completed and not right, -1 for completed and not right; the mean's difference to the base
    is the first part of the gap less the second. Both parts may have either sign.
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
        p = float(ttest_ind_from_stats(*moments[0], *moments[1], equal_var=False).pvalue)
        spread, n = sum(deviation**2 for _, deviation, _ in moments) ** 0.5, min(ours[2], theirs[2])
    else:
        p = two_sided_p(score_statistic(pairs, -2.0, 2.0), len(pairs), single=False)
        spread, n = float(np.std(pairs)), len(pairs)
    estimate = unfinished - wrong
    return Contrast(question, f"{evidence}; {p_text(p)}, n = {n}", estimate > 0, p, _needed(estimate, spread))


def _parts(figure: Figure) -> tuple[float, float, int]:
    """Shares of not completed and not right, and of completed and not right, and n."""
    n = figure.accuracy.n
    wrong = figure.completed.k - figure.strict.k
    return (n - figure.accuracy.k - wrong) / n, wrong / n, n


def _signed_pairs(model: Figure, base: Figure) -> np.ndarray | None:
    if model.codes is None or base.codes is None:
        return None
    shared = [p for p in model.codes if p in base.codes and "e" not in model.codes[p] + base.codes[p]]
    return np.array([_signed(model.codes[p]) - _signed(base.codes[p]) for p in shared]) if shared else None


def _signed(codes: str) -> float:
    return sum((code in "wn") - (code in "WN") for code in codes) / len(codes)


def as_right_where_both_completed(question: str, model: Figure, base: Figure, margin: float = 0.05) -> Contrast:
    """The claim: on problems that both completed, the model loses less than `margin`. Needs verdicts by problem."""
    if model.codes is None or base.codes is None:
        evidence = "only counts are known: verdicts problem by problem would be needed, and counts cannot replace them."
        return Contrast(question, evidence, False, None, None)
    both = [p for p in model.codes if p in base.codes and (model.codes[p] + base.codes[p]).isupper()]
    if not both:
        return Contrast(question, "there is no such problem.", False, None, None)
    narrowed = [replace(figure, codes={p: (figure.codes or {})[p] for p in both}) for figure in (model, base)]
    found = difference(narrowed[0], narrowed[1], "accuracy")
    assert found is not None
    verdict: Verdict = "supported" if found.low > -margin else "contradicted" if found.high < 0 else "undecidable"
    evidence = f"{len(both)} such problems: {found}; a loss of {margin:.0%} counts as one."
    return Contrast(question, evidence, found.estimate > -margin, None, None, verdict)


def holds_steady(question: str, figures: tuple[Figure, ...], metric: Metric) -> Contrast:
    """The claim: one share at all checkpoints. A test can contradict it only; to support it, see `steadier`."""
    shares = [figure.share(metric) for figure in figures]
    values = [share.k / share.n for share in shares]
    p = _homogeneity(figures, shares, metric)
    span = f"{min(values):.1%} to {max(values):.1%} over {len(values)} checkpoints, {p_text(p)} of one share for all"
    first, second = min(shares, key=lambda s: s.k / s.n), max(shares, key=lambda s: s.k / s.n)
    needed = _needed(max(values) - min(values), (_variance(first) + _variance(second)) ** 0.5)
    return Contrast(question, span, False, p, needed)


def _homogeneity(figures: tuple[Figure, ...], shares: list[Share], metric: Metric) -> float:
    """By problem on the problems that all share (Cochran's Q for any number of outputs); else chi-squared on counts."""
    codes = [figure.codes or {} for figure in figures]
    shared = [p for p in codes[0] if all(p in other and "e" not in other[p] for other in codes)]
    if shared:
        return equal_shares_p(np.array([[score(other[p], metric) for other in codes] for p in shared]))
    table = np.array([[share.k, share.n - share.k] for share in shares])
    return 1.0 if (table.sum(axis=0) == 0).any() else float(chi2_contingency(table).pvalue)


def steadier(
    question: str, first: tuple[Figure, ...], second: tuple[Figure, ...], metric: Metric, seed: int = 0
) -> Contrast:
    """The claim: the first run's checkpoints span fewer points (largest less smallest share) than the second's.

    The noise of a span is simulated from the counts (parametric bootstrap), which takes checkpoints for independent;
    p from the normal approximation of the spans' difference, its upward bias taken off.
    """
    spans = [_span(np.array([f.share(metric).k / f.share(metric).n for f in run])) for run in (first, second)]
    draws = [_span_draws(run, metric, np.random.default_rng(seed + i)) for i, run in enumerate((first, second))]
    observed = float(spans[0] - spans[1])
    noise = draws[0] - draws[1]
    estimate = 2 * observed - float(noise.mean())
    deviation = float(noise.std())
    p = float(2 * norm.sf(abs(estimate) / deviation)) if deviation else 1.0
    n = min(figure.share(metric).n for run in (first, second) for figure in run)
    evidence = f"spans of {spans[0] * 100:.1f} and {spans[1] * 100:.1f} points, {p_text(p)}, n = {n}"
    return Contrast(question, evidence, estimate < 0, p, _needed(estimate, deviation * n**0.5))


def _span(shares: np.ndarray) -> np.ndarray:
    return np.asarray(np.max(shares, axis=0) - np.min(shares, axis=0))


def _span_draws(run: tuple[Figure, ...], metric: Metric, rng: np.random.Generator) -> np.ndarray:
    shares = [figure.share(metric) for figure in run]
    return _span(np.array([rng.binomial(s.n, s.k / s.n, DRAWS) / s.n for s in shares]))


def loses_more(question: str, first: tuple[Figure, Figure], second: tuple[Figure, Figure]) -> Contrast | None:
    """The claim: (model, base) of `first` lose more accuracy than those of `second`, on another benchmark."""
    losses = [difference(base, model, "accuracy") for model, base in (first, second)]
    if any(loss is None for loss in losses):
        return None
    a, b = (loss for loss in losses if loss is not None)
    z = float(norm.ppf(1 - ALPHA / 2))
    deviations = [(loss.high - loss.low) / (2 * z) for loss in (a, b)]
    deviation = hypot(*deviations)
    estimate = a.estimate - b.estimate
    p = float(2 * norm.sf(abs(estimate) / deviation)) if deviation else 1.0
    low, high = estimate - z * deviation, estimate + z * deviation
    evidence = (
        f"{a.estimate * 100:.1f} points lost on {first[0].benchmark}, {b.estimate * 100:.1f} on {second[0].benchmark}: "
        f"{estimate * 100:+.1f} ({low * 100:+.1f} to {high * 100:+.1f}, {p_text(p)})"
    )
    return Contrast(question, evidence, estimate > 0, p, _needed(estimate, deviation * min(a.n, b.n) ** 0.5))


def _variance(share: Share) -> float:
    return share.k / share.n * (1 - share.k / share.n)


def _needed(estimate: float, deviation: float) -> int | None:
    """Problems at which a mean of this size and this deviation per problem is found (two-sided 5%, power 80%)."""
    if not estimate:
        return None
    reach = float(norm.ppf(1 - ALPHA / 2)) + float(norm.ppf(POWER))
    return ceil((reach * deviation / estimate) ** 2)
