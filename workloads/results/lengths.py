"""Compares output lengths with the base's, on the same problems, with a test. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import wilcoxon

from workloads.api.manifest import Manifest
from workloads.results.run_comparison import ALPHA
from workloads.results.stats.difference import holm

EXACT_PROBLEMS = 25
"""Up to this number of problems, and without ties, the signed-rank test is exact."""


@dataclass(frozen=True)
class LengthContrast:
    """Tokens of a model's outputs and of the base's; with several outputs a problem, their mean.

    `median`, `base_median`: over the `problems` of both. `longer`, `shorter`: problems on which the model's output is
    longer, or shorter. `at_limit`: outputs of the model that the largest budget cut, of `outputs`. `p`: Wilcoxon's
    signed-rank test; outputs cut by the limit count with its length, so the difference is underestimated. `adjusted_p`:
    Holm over all models and benchmarks.
    """

    model: str
    benchmark: str
    problems: int
    median: float
    base_median: float
    longer: int
    shorter: int
    at_limit: int
    outputs: int
    p: float
    adjusted_p: float | None = None

    @property
    def significant(self) -> bool:
        return self.adjusted_p is not None and self.adjusted_p < ALPHA

    @property
    def verdict(self) -> str:
        """The verdict in words."""
        if not self.significant:
            return "not distinguishable from the base"
        return "longer than the base" if self.longer > self.shorter else "shorter than the base"


def length_contrasts(manifest: Manifest) -> tuple[LengthContrast, ...]:
    """Returns contrasts of the last checkpoint of each run, and of each candidate, if outputs are known."""
    last = {model.run: model.id for model in manifest.models if model.run is not None}
    made = [
        contrast
        for benchmark in manifest.benchmarks
        for model in last.values()
        if (contrast := _contrast(manifest, model, benchmark.name)) is not None
    ]
    adjusted = holm([contrast.p for contrast in made])
    return tuple(replace(contrast, adjusted_p=p) for contrast, p in zip(made, adjusted, strict=True))


def _contrast(manifest: Manifest, model: str, benchmark: str) -> LengthContrast | None:
    ours, theirs = (_tokens(manifest, name, benchmark) for name in (model, "base"))
    shared = [problem for problem in ours if problem in theirs]
    if not shared:
        return None
    first, second = (np.array([float(np.mean(side[p])) for p in shared]) for side in (ours, theirs))
    difference = first - second
    own = [e for e in manifest.evaluations if (e.model, e.benchmark) == (model, benchmark)]
    return LengthContrast(
        model=model,
        benchmark=benchmark,
        problems=len(shared),
        median=float(np.median(first)),
        base_median=float(np.median(second)),
        longer=int((difference > 0).sum()),
        shorter=int((difference < 0).sum()),
        at_limit=sum(e.finish.count("l") for e in own),
        outputs=sum(len(e.tokens) for e in own),
        p=signed_rank_p(difference),
    )


def _tokens(manifest: Manifest, model: str, benchmark: str) -> Mapping[str, tuple[int, ...]]:
    """Returns the tokens of outputs by problem."""
    found: dict[str, tuple[int, ...]] = {}
    for e in manifest.evaluations:
        if (e.model, e.benchmark) == (model, benchmark) and e.tokens:
            size = e.outputs_per_problem
            found |= {p: e.tokens[i * size : (i + 1) * size] for i, p in enumerate(e.problems)}
    return found


def signed_rank_p(differences: np.ndarray) -> float:
    """Returns the two-sided p of Wilcoxon's signed-rank test without zeros; 1 if nothing differs.

    Exact for few values without ties (Wilcoxon, Biometrics 1 (1945) 80-83), otherwise the normal approximation with
    correction for ties.
    """
    nonzero = differences[differences != 0]
    if not len(nonzero):
        return 1.0
    tied = len(np.unique(np.abs(nonzero))) < len(nonzero)
    exact = len(nonzero) <= EXACT_PROBLEMS and not tied
    found = wilcoxon(nonzero, method="exact") if exact else wilcoxon(nonzero, method="approx", correction=True)
    return min(1.0, float(found.pvalue))
