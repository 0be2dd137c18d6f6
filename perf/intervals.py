"""How honest the intervals and the gate are, simulated: `python -m perf.intervals --csv perf/results/intervals.csv`.

Three tables by number of problems and of outputs per problem: coverage of the 95% interval of a share, coverage of that
of a paired difference, and how often the gate passes a candidate whose true drop is exactly what is allowed. A cell is
the worst over all scenarios; the CSV has every scenario. Then gates on unequal problem sets and with two looks.
"""

import argparse
import csv
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean

import numpy as np

from workloads.results.gate import MIN_PROBLEMS, fail_share
from workloads.results.stats.bounded_mean import critical, score_statistic

PROBLEMS = (5, 10, 20, 50, 100, 500)
OUTPUTS = (1, 2, 4, 8, 16)
ALLOWED = (0.02, 0.05, 0.10)
ALPHA = 0.05
DRAWS = 2000
CHECKED = 5

Strengths = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
"""The chance of a right output, by draw and problem."""

SHARES: dict[str, tuple[Strengths, float]] = {
    "Beta(0.5, 0.15)": (lambda rng, shape: rng.beta(0.5, 0.15, shape), 0.5 / 0.65),
    "Beta(5, 1)": (lambda rng, shape: rng.beta(5, 1, shape), 5 / 6),
    "every problem 70%": (lambda _, shape: np.full(shape, 0.7), 0.7),
    "70% of the problems sure, the others never": (lambda rng, shape: (rng.random(shape) < 0.7) * 1.0, 0.7),
}
"""By name: strengths, and the true share."""


@dataclass(frozen=True)
class Cell:
    """`covered`: share of draws whose 95% interval has the truth. `passed`, `failed`: of the gate, at the margin."""

    what: str
    scenario: str
    problems: int
    outputs: int
    true: float
    covered: float
    passed: float | None = None
    failed: float | None = None


def lost_whole(rng: np.random.Generator, shape: tuple[int, int], drop: float) -> tuple[np.ndarray, np.ndarray]:
    """The baseline is sure of every problem; the candidate loses a share of them completely."""
    return np.ones(shape), (rng.random(shape) >= drop) * 1.0


def mixed_lost_whole(rng: np.random.Generator, shape: tuple[int, int], drop: float) -> tuple[np.ndarray, np.ndarray]:
    """Problems of very different strength; some are lost completely."""
    first = rng.beta(0.5, 0.15, shape)
    return first, np.where(rng.random(shape) < drop * 0.65 / 0.5, 0.0, first)


def redrawn(rng: np.random.Generator, shape: tuple[int, int], drop: float) -> tuple[np.ndarray, np.ndarray]:
    """As before, and 15% of the problems have a new strength, better or worse."""
    first = rng.beta(0.5, 0.15, shape)
    second = np.where(rng.random(shape) < 0.15, rng.beta(0.5, 0.15, shape), first)
    return first, np.where(rng.random(shape) < drop * 0.65 / 0.5, 0.0, second)


def all_a_little(rng: np.random.Generator, shape: tuple[int, int], drop: float) -> tuple[np.ndarray, np.ndarray]:
    """Every problem is lost a little more often."""
    first = rng.uniform(0.5, 1.0, shape)
    return first, first - drop


def some_in_part(rng: np.random.Generator, shape: tuple[int, int], drop: float) -> tuple[np.ndarray, np.ndarray]:
    """The baseline is sure; a fifth of the problems is lost in part."""
    return np.ones(shape), 1 - np.where(rng.random(shape) < 0.2, 5 * drop, 0.0)


DROPS = (lost_whole, mixed_lost_whole, redrawn, all_a_little, some_in_part)


def score_statistics(values: np.ndarray, lowest: float, highest: float) -> np.ndarray:
    """`score_statistic` of every row of `values`: [draws, problems], by bisection of all rows at one time.

    Raises AssertionError if it is not what `score_statistic` gives, tried on some rows.
    """
    totals = values.sum(axis=1)
    signs = np.where(totals > 0, 1.0, -1.0)
    signed = values * signs[:, None]
    limits = 1 / np.where(totals > 0, -lowest, highest)
    low, high = np.zeros(len(values)), limits * (1 - 1e-12)

    def slopes(tilts: np.ndarray) -> np.ndarray:
        return np.asarray((signed / (1 + tilts[:, None] * signed)).sum(axis=1))

    at_limit = slopes(high) >= 0
    for _ in range(40):
        middle = (low + high) / 2
        up = slopes(middle) > 0
        low, high = np.where(up, middle, low), np.where(up, high, middle)
    found: np.ndarray = signs * np.sqrt(np.where(at_limit, limits, (low + high) / 2) * np.abs(totals))
    for row, statistic in zip(values[:CHECKED], found, strict=False):
        assert np.isclose(score_statistic(row, lowest, highest), statistic, atol=1e-4), (row, statistic)
    return found


def share_cells(draws: int, rng: np.random.Generator) -> Iterator[Cell]:
    for name, (strengths, true) in SHARES.items():
        for problems in PROBLEMS:
            for outputs in OUTPUTS:
                shares = rng.binomial(outputs, strengths(rng, (draws, problems))) / outputs
                statistics = score_statistics(shares - true, -true, 1 - true)
                threshold = critical(ALPHA / 2, problems, single=outputs == 1)
                yield Cell("share", name, problems, outputs, true, float(np.mean(np.abs(statistics) < threshold)))


def drop_cells(draws: int, rng: np.random.Generator) -> Iterator[Cell]:
    for scenario in DROPS:
        for drop in ALLOWED:
            for problems in PROBLEMS:
                for outputs in OUTPUTS:
                    single = outputs == 1
                    first, second = scenario(rng, (draws, problems), drop)
                    differences = (rng.binomial(outputs, first) - rng.binomial(outputs, second)) / outputs
                    statistics = score_statistics(differences - drop, -1 - drop, 1 - drop)
                    threshold = critical(ALPHA, problems, single=single)
                    passed = np.less_equal(statistics, -threshold) & (problems >= MIN_PROBLEMS)
                    yield Cell(
                        what="difference",
                        scenario=scenario.__name__,
                        problems=problems,
                        outputs=outputs,
                        true=drop,
                        covered=float(np.mean(np.abs(statistics) < critical(ALPHA / 2, problems, single=single))),
                        passed=float(np.mean(passed)),
                        failed=float(np.mean(np.greater_equal(statistics, threshold))),
                    )


def two_looks(draws: int, rng: np.random.Generator) -> Iterator[str]:
    """A fast part of 100 problems, then all 500, one output each, baseline sure: failures at the margin in all."""
    for allowed in ALLOWED:
        lost = rng.random((draws, 500)) < allowed
        failed = np.zeros(draws, dtype=bool)
        passed = np.zeros(draws, dtype=bool)
        for problems, partial in ((100, True), (500, False)):
            rows = lost[:, :problems] * 1.0
            statistics = score_statistics(rows - allowed, -1 - allowed, 1 - allowed)
            level = ALPHA * fail_share(partial=partial, parts=2)
            failed |= np.greater_equal(statistics, critical(level, problems, single=True))
            if not partial:
                passed = np.less_equal(statistics, -critical(ALPHA, problems, single=True))
        yield f"| {allowed:.0%} | {np.mean(failed):.1%} | {np.mean(passed & ~failed):.1%} |"


def table(cells: list[Cell], value: Callable[[Cell], float], pick: Callable[[list[float]], float]) -> str:
    """Markdown: problems down, outputs across."""
    lines = ["| Problems | " + " | ".join(f"{n} outputs" for n in OUTPUTS) + " |", "| --- " * (len(OUTPUTS) + 1) + "|"]
    for problems in PROBLEMS:
        found = [pick([value(c) for c in cells if (c.problems, c.outputs) == (problems, n)]) for n in OUTPUTS]
        lines.append(f"| {problems} | " + " | ".join(f"{share:.1%}" for share in found) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=DRAWS, help="simulated experiments per cell")
    parser.add_argument("--csv", type=Path, help="write every scenario here")
    asked = parser.parse_args()
    rng = np.random.default_rng(19)
    shares = list(share_cells(asked.draws, rng))
    drops = list(drop_cells(asked.draws, rng))
    if asked.csv is not None:
        with asked.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Cell)], lineterminator="\n")
            writer.writeheader()
            writer.writerows(asdict(cell) for cell in shares + drops)
    error = (0.05 * 0.95 / asked.draws) ** 0.5
    print(f"{asked.draws} simulated experiments per cell and scenario; standard error of 5%: {error:.1%}.\n")
    for title, cells, value, pick in (
        ("Share: lowest coverage of the 95% interval", shares, covered, min),
        ("Paired difference: lowest coverage of the 95% interval", drops, covered, min),
        ("Gate: most passes at a true drop of maxDrop", drops, passed, max),
        ("Gate: mean passes at a true drop of maxDrop", drops, passed, fmean),
        ("Gate: most failures at a true drop of maxDrop", drops, failed, max),
    ):
        print(f"{title}\n\n{table(cells, value, pick)}\n")
    print("Gate, a fast part (100 of 500), then all: at a true drop of maxDrop\n")
    print("| maxDrop | Fail | Pass |\n| --- | --- | --- |", *two_looks(asked.draws, rng), sep="\n")


def covered(cell: Cell) -> float:
    return cell.covered


def passed(cell: Cell) -> float:
    return cell.passed or 0.0


def failed(cell: Cell) -> float:
    return cell.failed or 0.0


if __name__ == "__main__":
    main()
