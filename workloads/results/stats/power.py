"""The power of an experiment before it is run: the smallest difference that paired answers detect."""

from math import ceil, sqrt

from scipy.optimize import brentq
from scipy.stats import norm

from workloads.results.stats.bounded_mean import critical


def detectable_difference(
    problems: int, discordance: float, alpha: float = 0.05, power: float = 0.8, outputs_per_problem: int = 1
) -> float | None:
    """Returns the smallest true difference of two accuracies that a two-sided paired test detects with `power`; None if
    it detects none.

    `problems`: paired problems. `discordance`: how often one output of each model differs on the same problem, right
    against wrong. One output per problem: solves the sample-size formula of Connor, Biometrics 43 (1987) 207-211, for
    the difference: sqrt(n) d = z(1 - alpha/2) sqrt(psi) + z(power) sqrt(psi - d^2). Several: models that differ by d on
    every problem, otherwise by chance, so that psi - d^2 is divided by their number; z(1 - alpha/2) is Student's, and
    the score test (`bounded_mean`) finds no difference below z^2 / n.
    """
    z_alpha = critical(alpha / 2, problems, single=outputs_per_problem == 1)
    z_power = float(norm.ppf(power))

    def surplus(difference: float) -> float:
        variance = max(0.0, discordance - difference**2) / outputs_per_problem
        threshold = max(z_alpha * sqrt(variance + difference**2), z_alpha**2 / sqrt(problems))
        return difference * sqrt(problems) - threshold - z_power * sqrt(variance)

    if surplus(discordance) < 0:
        return None
    return float(brentq(surplus, 0.0, discordance))


def problems_needed(difference: float, discordance: float, alpha: float = 0.05, power: float = 0.8) -> int | None:
    """Returns the number of paired problems at which `detectable_difference` is `difference`; None for a difference of
    zero.

    `discordance`: the mean squared difference by problem (`Pairs.mean_square`), which with one output per problem is
    the share of problems on which the two models differ.
    """
    if difference == 0:
        return None
    z_alpha, z_power = float(norm.ppf(1 - alpha / 2)), float(norm.ppf(power))
    spread = z_alpha * sqrt(discordance) + z_power * sqrt(max(0.0, discordance - difference**2))
    return ceil((spread / difference) ** 2)
