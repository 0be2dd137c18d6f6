"""Simulates how often the gate is wrong or undecided. `python -m workloads.results.gate_simulation` prints the table.

Pairs are drawn with a true drop and a true discordance: only the baseline is right with probability (discordance +
drop) / 2, only the candidate with (discordance - drop) / 2. There is one requirement on all problems of the benchmark;
a benchmark of more than 100 problems has a fast part, which takes its share of the error for failing.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binom, norm

from workloads.benchmarks.load import FAST_PROBLEMS
from workloads.results.gate import MIN_PROBLEMS, drop_p, fail_share, passes
from workloads.results.stats.bounded_mean import critical
from workloads.results.stats.difference import score_z
from workloads.results.stats.paired import Pairs

PROBLEMS = (100, 378, 500)
DISCORDANCE = (0.05, 0.10, 0.20)
MAX_DROP = 0.05
DRAWS = 2000


@dataclass(frozen=True)
class Rates:
    """Shares of experiments in which the gate passes, fails, and finds too little evidence."""

    passed: float
    failed: float

    @property
    def undecided(self) -> float:
        return 1 - self.passed - self.failed


def rates(n: int, discordance: float, drop: float, *, max_drop: float, alpha: float, draws: int, seed: int) -> Rates:
    """`drop`: the true drop of the candidate, at most `discordance`."""
    rng = np.random.default_rng(seed)
    shares = [(discordance + drop) / 2, (discordance - drop) / 2, 1 - discordance]
    outcomes = {}
    passed = failed = 0
    fail_alpha = alpha * fail_share(partial=False, parts=2 if n > FAST_PROBLEMS else 1)
    for only_baseline, only_candidate, same in rng.multinomial(n, shares, draws).tolist():
        key = only_baseline, only_candidate
        if key not in outcomes:
            first = (1.0,) * only_baseline + (0.0,) * only_candidate + (1.0,) * same
            second = (0.0,) * only_baseline + (1.0,) * only_candidate + (1.0,) * same
            p_pass, p_fail = drop_p(Pairs(first, second, True, 0), max_drop)
            outcomes[key] = (passes(p_pass, n, alpha), p_fail <= fail_alpha)
        passed += outcomes[key][0]
        failed += outcomes[key][1]
    return Rates(passed / draws, failed / draws)


def chance_to_pass(
    problems: int, discordance: float, max_drop: float, alpha: float, outputs_per_problem: int = 1
) -> float:
    """Returns the probability that a requirement passes if nothing changed: verdicts then differ equally often in both
    directions.

    `discordance`: how often one output of each differs on the same problem. With one output per problem it is an exact
    sum over all outcomes. With several it is the normal approximation, for models whose outputs differ only by chance.
    """
    if problems < MIN_PROBLEMS or max_drop <= 0:
        return 0.0
    if outputs_per_problem > 1:
        spread = (discordance / outputs_per_problem / problems) ** 0.5
        return float(norm.cdf(max_drop / spread - critical(alpha, problems, single=False)))
    different = np.arange(problems + 1)
    weights = binom.pmf(different, problems, discordance)
    return sum(
        float(weights[count]) * float(binom.cdf(_most_lost(int(count), problems, max_drop, alpha), count, 0.5))
        for count in different[weights > 1e-9]
    )


def _most_lost(different: int, problems: int, max_drop: float, alpha: float) -> int:
    """Returns how many of the `different` problems, whose verdicts differ, the candidate may lose and still pass.

    -1: it cannot pass.
    """
    low, high = -1, different
    threshold = -critical(alpha, problems, single=True)
    while low < high:
        lost = (low + high + 1) // 2
        passed = score_z(lost, different - lost, problems, max_drop) <= threshold
        low, high = (lost, high) if passed else (low, lost - 1)
    return low


def fewest_problems(max_drop: float, alpha: float, *, single: bool) -> int | None:
    """Returns the number of problems from which a requirement can pass, if no verdict differs; None if none can.

    `single`: one output each.
    """
    if max_drop <= 0:
        return None
    if max_drop >= 1:
        return MIN_PROBLEMS
    problems = MIN_PROBLEMS
    while (problems * max_drop / (1 - max_drop)) ** 0.5 < critical(alpha, problems, single=single):
        problems += 1
    return problems


def table(draws: int = DRAWS, seed: int = 16) -> str:
    """Returns Markdown: by problems, discordance and true drop (none, the allowed one, twice that)."""
    columns = ("Problems", "Discordance", "True drop", "Pass", "Fail", "Not enough evidence", "An error is")
    lines = ["| " + " | ".join(columns) + " |", "| --- " * len(columns) + "|"]
    for n in PROBLEMS:
        for discordance in DISCORDANCE:
            for drop in sorted({0.0, MAX_DROP, min(2 * MAX_DROP, discordance)}):
                found = rates(n, discordance, drop, max_drop=MAX_DROP, alpha=0.05, draws=draws, seed=seed)
                shares = [f"{share:.1%}" for share in (found.passed, found.failed, found.undecided)]
                cells = [str(n), f"{discordance:.0%}", f"{drop:.0%}", *shares, _error(found, drop)]
                lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _error(found: Rates, drop: float) -> str:
    """At exactly the allowed drop either verdict is wrong."""
    blocked, missed = f"false block {found.failed:.1%}", f"missed drop {found.passed:.1%}"
    return blocked if drop < MAX_DROP else missed if drop > MAX_DROP else f"{missed}, {blocked}"


if __name__ == "__main__":
    print(table())
