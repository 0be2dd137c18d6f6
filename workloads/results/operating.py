"""How often the gate is wrong, or cannot tell: `python -m workloads.results.operating` prints docs/results.md's table.

Pairs are drawn with a true drop and a true discordance: only the baseline right with (discordance + drop) / 2, only the
candidate with (discordance - drop) / 2. One requirement, all problems of the benchmark asked; a benchmark of more than
100 problems has a fast part, which takes its share of the error for failing.
"""

from dataclasses import dataclass

import numpy as np

from workloads.benchmarks.load import FAST_PROBLEMS
from workloads.results.gate import drop_p, fail_share, passes
from workloads.results.paired import Pairs

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
    """`drop` of the candidate in truth, at most `discordance`."""
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


def table(draws: int = DRAWS, seed: int = 16) -> str:
    """Markdown: by problems, discordance and true drop (none, the allowed one, twice that)."""
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
