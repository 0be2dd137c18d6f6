"""What an experiment can tell before it is run: the smallest difference that paired answers detect."""

from math import ceil, sqrt

from scipy.optimize import brentq
from scipy.stats import norm


def detectable_difference(problems: int, discordance: float, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """Smallest true difference of two accuracies that a two-sided McNemar test finds with `power`; None: none does.

    `problems`: paired problems. `discordance`: share of problems on which the two models differ, right against wrong.
    Solves the sample-size formula of Connor, Biometrics 43 (1987) 207-211, for the difference:
    sqrt(n) d = z(1 - alpha/2) sqrt(psi) + z(power) sqrt(psi - d^2).
    """
    z_alpha, z_power = float(norm.ppf(1 - alpha / 2)), float(norm.ppf(power))

    def surplus(difference: float) -> float:
        needed = z_alpha * sqrt(discordance) + z_power * sqrt(max(0.0, discordance - difference**2))
        return difference * sqrt(problems) - needed

    if surplus(discordance) < 0:
        return None
    return float(brentq(surplus, 0.0, discordance))


def problems_needed(difference: float, discordance: float, alpha: float = 0.05, power: float = 0.8) -> int | None:
    """Paired problems at which `detectable_difference` is `difference`; None: no number shows a difference of zero.

    `discordance`: the mean squared difference by problem (`Pairs.mean_square`), which with one output per problem is
    the share of problems on which the two models differ.
    """
    if difference == 0:
        return None
    z_alpha, z_power = float(norm.ppf(1 - alpha / 2)), float(norm.ppf(power))
    spread = z_alpha * sqrt(discordance) + z_power * sqrt(max(0.0, discordance - difference**2))
    return ceil((spread / difference) ** 2)
