"""Runs that differ only in their seed are one recipe: its mean, the spread between seeds, and correct intervals."""

from collections.abc import Mapping

import numpy as np
import pytest

from tests.controller.experiments import run
from tests.results.made_manifest import BUDGET, evaluation, manifest
from workloads.api.manifest import Manifest, ManifestModel, ManifestRun
from workloads.api.model import sha256_of
from workloads.api.units import TrainInputs
from workloads.results.seeds import COLUMNS, cells, recipe_figures, recipes, seed_mean


def runs(*changes: Mapping[str, object]) -> list[ManifestRun]:
    inputs = run("a", (50, 100)).inputs
    assert isinstance(inputs, TrainInputs)
    return [
        ManifestRun(
            name=f"r{index}",
            label=f"R{index}",
            role="run",
            digest=sha256_of(str(index).encode()),
            state="done",
            attempts=1,
            inputs=inputs.model_copy(update=change),
            data_name="math",
        )
        for index, change in enumerate(changes)
    ]


def seeded(*codes: str, base: str) -> Manifest:
    """One run per seed, each with one checkpoint and its verdicts."""
    found = runs(*({"seed": seed} for seed in range(len(codes))))
    models = [
        ManifestModel(
            id=f"{one.name}@100", kind="checkpoint", run=one.name, label=one.label, samples=100, step=10, state="done",
            thinking=True, budget_tokens=BUDGET,
        )
        for one in found
    ]  # fmt: skip
    first = manifest(evaluation("base", base))
    evaluations = [evaluation("base", base), *(evaluation(m.id, c) for m, c in zip(models, codes, strict=True))]
    return manifest(*evaluations, runs=tuple(found), models=(first.models[0], *models))


def test_runs_that_differ_in_the_seed_alone_are_a_recipe_and_equal_seeds_count_once() -> None:
    made = manifest(evaluation("base", "R")).model_copy(
        update={"runs": tuple(runs({"seed": 1}, {"seed": 2}, {"seed": 3, "learning_rate": 0.5}, {"seed": 1}))}
    )
    assert [(found.runs, found.seeds) for found in recipes(made)] == [(("r0", "r1"), (1, 2))]


def test_one_seed_is_not_a_recipe() -> None:
    made = manifest(evaluation("base", "R")).model_copy(update={"runs": tuple(runs({"seed": 1}, {"seed": 1}))})
    assert recipes(made) == ()


def test_a_recipe_has_the_mean_of_its_seeds_their_spread_and_the_difference_to_the_base() -> None:
    made = seeded("R" * 60 + "W" * 40, "R" * 70 + "W" * 30, "R" * 80 + "W" * 20, base="R" * 90 + "W" * 10)
    found = next(figure for figure in recipe_figures(made) if figure.metric == "accuracy")
    assert found.values == (0.6, 0.7, 0.8)
    assert found.mean.value == pytest.approx(0.7)
    assert found.spread == pytest.approx(0.1)
    assert found.seeds_differ_p < 0.01
    assert found.to_base is not None
    assert found.to_base.value == pytest.approx(-0.2)
    assert found.mean.low < 0.6, "three seeds say little about a fourth"
    assert len(cells(found)) == len(COLUMNS)


def test_equal_verdicts_of_all_seeds_still_leave_an_interval() -> None:
    found = seed_mean(np.zeros((3, 50)), -1.0, 1.0)
    assert found.low < -0.02 < 0.02 < found.high


@pytest.mark.slow
def test_the_interval_holds_the_recipes_mean_as_often_as_it_says() -> None:
    """300 experiments of 4 seeds and 100 problems, seeds with a standard deviation of 5 points: nominal 95%."""
    rng = np.random.default_rng(19)
    inside = []
    for _ in range(300):
        chances = np.clip(rng.beta(2, 1, (1, 100)) + rng.normal(0, 0.05, (4, 1)), 0, 1)
        found = seed_mean((rng.random((4, 100)) < chances) * 1.0, 0.0, 1.0)
        inside.append(found.low <= 2 / 3 <= found.high)
    assert 0.92 < np.mean(inside) < 0.995
