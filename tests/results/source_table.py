"""The printed table of experiment distill-16-02, and the counts that its printed shares allow."""

from dataclasses import replace

from workloads.results.scores import Score, Series
from workloads.results.stats.share import Share

MATH, CODE = "math-500", "mbpp-plus"
FULL = {MATH: 500, CODE: 378}
FAST = 100

# label, samples, acc (all), completed, acc (completed), in percent as printed
PRINTED = {
    MATH: """
Base, 0, 80.6, 97, 83.3
Math 4K, 5000, 73.0, 74, 96.8
Math 4K, 10000, 72.6, 73, 96.5
Math 4K, 15000, 73.0, 74, 97.3
Math 4K, 20000, 71.0, 66, 97.0
Math 4K, 25000, 67.0, 62, 95.2
Math 2K, 2500, 64.0, 55, 92.7
Math 2K, 5000, 61.0, 53, 92.5
Math 2K, 7500, 58.0, 49, 95.9
Math 2K, 10000, 63.0, 57, 94.7
Code 4K, 5000, 77.2, 40, 89.1
Code 4K, 10000, 76.6, 62, 87.1
Code 4K, 15000, 66.0, 64, 87.5
Code 4K, 20000, 74.0, 73, 87.7
Code 4K, 25000, 72.0, 78, 80.8
Code 2K, 2500, 66.0, 64, 87.5
Code 2K, 5000, 67.0, 67, 94.0
Code 2K, 7500, 75.0, 74, 91.9
Code 2K, 10000, 70.0, 70, 88.6
""",
    CODE: """
Base, 0, 75.7, 100, 75.7
Math 4K, 5000, 35.2, 60, 57.8
Math 4K, 10000, 26.5, 25, 58.1
Math 4K, 15000, 31.0, 24, 79.2
Math 4K, 20000, 44.0, 32, 87.5
Math 4K, 25000, 42.0, 32, 75.0
Math 2K, 2500, 4.0, 1, 100.0
Math 2K, 5000, 42.0, 36, 72.2
Math 2K, 7500, 48.0, 49, 71.4
Math 2K, 10000, 41.0, 38, 71.1
Code 4K, 5000, 59.3, 71, 83.9
Code 4K, 10000, 56.6, 68, 82.9
Code 4K, 15000, 53.0, 67, 79.1
Code 4K, 20000, 55.0, 72, 76.4
Code 4K, 25000, 56.0, 70, 80.0
Code 2K, 2500, 70.0, 83, 84.3
Code 2K, 5000, 50.0, 63, 79.4
Code 2K, 7500, 56.0, 74, 75.7
Code 2K, 10000, 57.0, 71, 80.3
""",
}


def fits(n: int, accuracy: float, completed: float, accuracy_completed: float) -> list[tuple[int, int, int]]:
    """Returns every (right, completed, right and completed) of n problems that prints as these percentages."""
    return [
        (right, done, both)
        for right in range(n + 1)
        if round(100 * right / n, 1) == accuracy
        for done in range(1, n + 1)
        if abs(100 * done / n - completed) <= 0.5
        for both in range(min(right, done) + 1)
        if round(100 * both / done, 1) == accuracy_completed
    ]


def rows(benchmark: str) -> list[tuple[str, int, float, float, float]]:
    split = [line.split(", ") for line in PRINTED[benchmark].strip().splitlines()]
    return [(label, int(samples), float(a), float(c), float(ac)) for label, samples, a, c, ac in split]


def only_full(benchmark: str) -> list[tuple[str, int]]:
    """Returns the rows of trained models that cannot come from 100 problems, although the document states 100."""
    trained = [row for row in rows(benchmark) if row[0] != "Base"]
    return [(label, samples) for label, samples, *shares in trained if not fits(FAST, *shares)]


def figure(benchmark: str, row: tuple[str, int, float, float, float]) -> Score:
    """Returns the fast set's counts where they fit, else the full set's; the middle one if several do."""
    label, samples, *shares = row
    n = FULL[benchmark] if label == "Base" or not fits(FAST, *shares) else FAST
    allowed = fits(n, *shares)
    right, done, both = allowed[len(allowed) // 2]
    budget = 2048 if "2K" in label else 4096
    return Score(label, samples, benchmark, budget, Share(right, n), Share(done, n), Share(both, n))


def series() -> dict[str, Series]:
    """Returns the four runs by label.

    The domains are stated here: the document calls the runs Math SFT and Code SFT.
    """
    figures = {name: [figure(name, row) for row in rows(name)] for name in PRINTED}
    budgets = {"Math 4K": 4096, "Math 2K": 2048, "Code 4K": 4096, "Code 2K": 2048}
    return {
        label: Series(
            name=label.lower().replace(" ", "_"),
            label=label,
            data_name=label[:4].lower(),
            sequence_tokens=budget,
            overlong="drop" if budget == 2048 else "truncate",
            data=None,
            budget_tokens=budget,
            figures={name: tuple(f for f in figures[name] if f.label == label) for name in PRINTED},
            base={name: replace(figures[name][0], budget_tokens=budget) for name in PRINTED},
            domain=label[:4].lower(),
            domains={MATH: "math", CODE: "code"},
        )
        for label, budget in budgets.items()
    }
