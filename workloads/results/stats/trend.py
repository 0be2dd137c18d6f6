"""The trend of a metric over all checkpoints of a run, with the problem as a random effect. Pure."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from workloads.results.contrasts import Contrast, mean_test, number
from workloads.results.run_comparison import graded_by_all
from workloads.results.scores import Score
from workloads.results.stats.bounded_mean import mean_interval
from workloads.results.stats.difference import p_text
from workloads.results.stats.paired import Metric, score


@dataclass(frozen=True)
class Trend:
    """`change`: the change of the line through all checkpoints from the first to the last, as a share, with 95% bounds.

    `n`: problems, or outputs of the smallest checkpoint if only counts are known. `least_p`: as in `Difference`.
    """

    change: float
    low: float
    high: float
    p: float
    n: int
    checkpoints: int
    least_p: float = 0.0

    def __str__(self) -> str:
        """Returns text such as: -8.2 points along the line through 5 checkpoints (-14.0 to -2.4, p = 0.006, n =
        100).
        """
        return (
            f"{self.change * 100:+.1f} points along the line through {self.checkpoints} checkpoints "
            f"({self.low * 100:+.1f} to {self.high * 100:+.1f}, {p_text(self.p)}, n = {self.n})"
        )


def trend(figures: tuple[Score, ...], metric: Metric) -> Trend | None:
    """Returns None with fewer than three checkpoints, with equal or unknown sample counts, or without a shared problem.

    Each problem has a separate line (random intercept and slope): for balanced data the mean of the slopes is the mixed
    model's (Matthews et al., BMJ 300 (1990) 230-235); its test is by problem (`bounded_mean`). From counts: the line
    through the shares and its z test (Armitage, Biometrics 11 (1955) 375-386), which assumes that checkpoints are
    independent.
    """
    samples = [figure.samples for figure in figures if figure.samples is not None]
    if len(samples) < 3 or len(samples) != len(figures) or len(set(samples)) < 2:
        return None
    weights = _weights(np.array(samples, dtype=float))
    codes = [figure.codes for figure in figures if figure.codes is not None]
    if len(codes) < len(figures):
        return _from_counts(figures, metric, weights)
    shared = graded_by_all(codes)
    if not shared:
        return None
    slopes = np.array([[score(own[p], metric) for own in codes] for p in shared]) @ weights
    slopes = np.where(np.abs(slopes) < 1e-12, 0.0, slopes)
    return _of_slopes(slopes, len(figures), float(np.abs(weights).sum()) / 2 + 1e-9)


def _weights(samples: np.ndarray) -> np.ndarray:
    """Returns weights of the shares, so that their sum is the least-squares line's change from the first to the
    last.
    """
    centred = samples - samples.mean()
    return np.asarray(centred * (samples[-1] - samples[0]) / (centred**2).sum())


def _of_slopes(slopes: np.ndarray, checkpoints: int, widest: float) -> Trend:
    """`widest`: the largest change that one problem can show."""
    low, high = mean_interval(list(slopes), -widest, widest, 0.05, single=False)
    least_p = min(1.0, 2.0 ** (1 - np.count_nonzero(slopes)))
    return Trend(float(slopes.mean()), low, high, mean_test(slopes, widest), len(slopes), checkpoints, least_p)


def _from_counts(figures: tuple[Score, ...], metric: Metric, weights: np.ndarray) -> Trend | None:
    shares = [figure.share(metric) for figure in figures]
    if any(not share.n for share in shares):
        return None
    values, sizes = np.array([s.k / s.n for s in shares]), np.array([s.n for s in shares])
    pooled = sum(s.k for s in shares) / sum(s.n for s in shares)
    change = float(values @ weights)
    under_none = float((weights**2 * pooled * (1 - pooled) / sizes).sum()) ** 0.5
    error = float((weights**2 * values * (1 - values) / sizes).sum()) ** 0.5
    p = float(2 * norm.sf(abs(change) / under_none)) if under_none else 1.0
    half = float(norm.ppf(0.975)) * max(error, under_none)
    return Trend(change, change - half, change + half, p, int(sizes.min()), len(figures))


def falls(question: str, figures: tuple[Score, ...], metric: Metric) -> Contrast | None:
    """The claim: the metric falls along the line through all checkpoints. None: see `trend`."""
    found = trend(figures, metric)
    if found is None:
        return None
    return Contrast(question, f"{metric}: {found}", found.change < 0, number(found.p), None, least_p=found.least_p)
