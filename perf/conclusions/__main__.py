"""How often a report says something false when all models are equal.

`python -m perf.conclusions run 0 100 > lines.jsonl`, then `python -m perf.conclusions table lines.jsonl`.

Every model of a made-up experiment, the base too, answers each problem with the same probabilities: whatever the report
says of a difference is false. Problems differ in how hard they are. The table has a row for each shape of experiment.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from tests.results.made_experiment import MadeRun, experiment
from workloads.api.manifest import Manifest
from workloads.results.conclusions import Conclusions, conclusions


@dataclass(frozen=True)
class Shape:
    """`problems`: by benchmark, what the base and what checkpoints are asked."""

    name: str
    runs: tuple[MadeRun, ...]
    problems: dict[str, tuple[int, int]]
    budgets: tuple[int, ...]
    outputs: int = 1


SHAPES = (
    Shape(
        "16/02: 4 runs, 18 checkpoints, 2 benchmarks",
        (
            MadeRun("math_default", tuple(range(5000, 25001, 5000)), 4096, "math"),
            MadeRun("math_2k", tuple(range(2500, 10001, 2500)), 2048, "math"),
            MadeRun("code_default", tuple(range(5000, 25001, 5000)), 4096, "code"),
            MadeRun("code_2k", tuple(range(2500, 10001, 2500)), 2048, "code"),
        ),
        {"math-500": (500, 100), "mbpp-plus": (378, 100)},
        (2048, 4096),
    ),
    Shape(
        "2 runs, 4 checkpoints each, 40 problems, 4 outputs",
        (MadeRun("low", (50, 100, 150, 200)), MadeRun("high", (50, 100, 150, 200))),
        {"sums": (40, 40)},
        (4096,),
        outputs=4,
    ),
    Shape(
        "2 runs, 2 checkpoints each, 20 problems",
        (MadeRun("low", (50, 100)), MadeRun("high", (50, 100))),
        {"sums": (20, 20)},
        (4096,),
    ),
)


def null_experiment(shape: Shape, seed: int) -> Manifest:
    """Completion and accuracy of every output depend on its problem alone."""
    rng = np.random.default_rng(seed)
    codes: dict[tuple[str, str, int], str] = {}
    models = ["base", *(f"{run.name}@{samples}" for run in shape.runs for samples in run.samples)]
    for name, (whole, asked) in shape.problems.items():
        complete, right, early = rng.beta(4, 1, whole), rng.beta(1.5, 0.7, whole), rng.beta(3, 1.5, whole)
        for model in models:
            size = whole if model == "base" else asked
            draws = rng.random((3, size, shape.outputs))
            done, good = draws[0] < complete[:size, None], draws[1] < right[:size, None]
            for budget in shape.budgets:
                completed = done & ((draws[2] < early[:size, None]) | (budget == shape.budgets[-1]))
                letters = np.where(completed, np.where(good, "R", "W"), np.where(good & (draws[2] < 0.3), "r", "n"))
                codes[model, name, budget] = "".join(letters.ravel())
    return experiment(
        shape.runs,
        codes,
        budgets=shape.budgets,
        problems={name: whole for name, (whole, _) in shape.problems.items()},
        outputs=shape.outputs,
    )


def false_statements(found: Conclusions) -> dict[str, int]:
    """By part of the report. What supports that there is no difference is true here, and is not counted."""
    contrasts = [c for finding in found.findings for c in finding.contrasts]
    no_loss = ("no two checkpoints differ", "no loss")
    return {
        "best run": sum(run is not None for run in found.best.by_budget.values()),
        "run against run": sum(c.significant for pair in found.runs.pairs for c in pair.contrasts),
        "against the base": sum(
            c.significant for end in found.ends for x in end.cells for c in (x.accuracy, x.completed)
        )
        + sum(c.significant for row in found.rows.values() for c in (row.accuracy, row.completed)),
        "findings": sum(
            c.verdict == "contradicted"
            or (c.verdict == "supported" and not any(text in c.question for text in no_loss))
            for c in contrasts
        ),
        "without adjustment": sum(
            p < 0.05
            for end in found.ends
            for cell in end.cells
            if cell.shown
            for p in (cell.accuracy.p, cell.completed.p)
            if p is not None
        ),
    }


def counted(shape: Shape, seed: int) -> dict[str, int]:
    """Of one experiment."""
    return false_statements(conclusions(null_experiment(shape, seed)))


def lines(first: int, count: int) -> Iterator[str]:
    """One line of JSON for each shape and seed, so that a long measurement can be made in parts."""
    for shape in SHAPES:
        for seed in range(first, first + count):
            yield json.dumps({"shape": shape.name, "seed": seed, "false": counted(shape, seed)})


def table(found: list[dict[str, Any]]) -> Iterator[str]:
    """Lines of Markdown: experiments with a false statement, by part; the share's interval is Clopper-Pearson's."""
    yield "| Experiment | Experiments | Any false | best run | run against run | against the base | findings |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    unadjusted = []
    for shape in SHAPES:
        own = {item["seed"]: item["false"] for item in found if item["shape"] == shape.name}
        if not own:
            continue
        parts = [name for name in next(iter(own.values())) if name != "without adjustment"]
        wrong = sum(any(one[name] for name in parts) for one in own.values())
        interval = binomtest(wrong, len(own)).proportion_ci()
        cells = [f"{sum(one[name] > 0 for one in own.values())}" for name in parts]
        share = f"{wrong} ({wrong / len(own):.1%}, {interval.low:.1%} to {interval.high:.1%})"
        yield f"| {shape.name} | {len(own)} | {share} | {' | '.join(cells)} |"
        raw = sum(one["without adjustment"] > 0 for one in own.values())
        unadjusted.append(f"{raw} of {len(own)} ({shape.name})")
    yield ""
    yield f"Ends against the base at 5% each, without adjustment, are false in {'; '.join(unadjusted)}."


def main(arguments: list[str]) -> None:
    """`run FIRST COUNT` prints lines, `table FILE` the table of such lines."""
    match arguments:
        case ["run", first, count]:
            made = lines(int(first), int(count))
        case ["table", path]:
            made = table([json.loads(line) for line in Path(path).read_text().splitlines()])
        case _:
            sys.exit(__doc__)
    for line in made:
        print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
