"""The differences between two experiments, and their effects."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from controller.cli import app
from tests.results.made_manifest import evaluation, manifest
from workloads.api.manifest import Manifest
from workloads.api.model import sha256_of
from workloads.api.units import Sampling
from workloads.results.asked import asked_by_manifest
from workloads.results.changes import unit_changes
from workloads.results.effects import effects

SOURCE = Path(__file__).parents[2] / "examples" / "distill-16-02.yaml"

Edit = Callable[..., Path]
"""The path of the source with each (old, new) replaced."""


def diff(*words: object) -> Result:
    return CliRunner().invoke(app, ["diff", *map(str, words)], env={"COLUMNS": "400"})


@pytest.fixture
def edited(tmp_path: Path) -> Edit:
    def edit(*changes: tuple[str, str]) -> Path:
        text = SOURCE.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "edited.yaml"
        path.write_text(text)
        return path

    return edit


def units(path: Path, other: Path, tmp_path: Path) -> dict[tuple[str, str], set[str]]:
    """Returns the places by kind and change, with the fields that cause them."""
    out = tmp_path / "diff.json"
    diff(path, other, "--json", out)
    found: dict[tuple[str, str], set[str]] = {}
    for unit in json.loads(out.read_text())["units"]:
        places = found.setdefault((unit["kind"], unit["standing"]), set())
        places |= {change["path"] for change in unit["because"]}
    return found


def test_a_file_does_not_differ_from_itself() -> None:
    result = diff(SOURCE, SOURCE)
    assert (result.exit_code, "nothing differs" in result.output) == (0, True)


@pytest.mark.slow
def test_a_default_of_training_changes_every_run_and_is_named_where_it_is_stated(edited: Edit, tmp_path: Path) -> None:
    other = edited(("learningRate: 2.0e-4", "learningRate: 1.0e-4"))
    result = diff(SOURCE, other)
    assert result.exit_code == 1
    assert "spec.training.learningRate: 0.0002 -> 0.0001" in result.output
    found = units(SOURCE, other, tmp_path)
    assert found["train", "changed"] == {"spec.training.learningRate"}
    assert found["generate", "changed"] == {"its checkpoint"}, "checkpoints differ, and what they are asked does not"
    assert found["generate", "same"] == set(), "the base was measured already"


def test_a_setting_of_one_run_is_named_at_the_run(edited: Edit, tmp_path: Path) -> None:
    other = edited(("name: math_2k,", "name: math_2k, learningRate: 1.0e-4,"))
    found = units(SOURCE, other, tmp_path)
    assert found["train", "changed"] == {"spec.runs[math_2k].learningRate"}
    assert ("train", "same") in found


@pytest.mark.slow
def test_a_label_changes_the_file_and_no_unit(edited: Edit, tmp_path: Path) -> None:
    other = edited(("label: Math 2K", "label: Maths 2K"))
    assert "spec.runs[math_2k].label" in diff(SOURCE, other).output
    assert {standing for _, standing in units(SOURCE, other, tmp_path)} == {"same"}


def test_budgets_below_the_largest_are_graded_again_and_not_generated(edited: Edit, tmp_path: Path) -> None:
    found = units(SOURCE, edited(("budgets: [2048, 4096]", "budgets: [1024, 2048, 4096]")), tmp_path)
    assert ("generate", "changed") not in found
    assert found["grade", "changed"] == {"spec.evaluation.budgets"}


def test_a_run_that_is_only_in_one_file_is_added_with_its_evaluations(edited: Edit, tmp_path: Path) -> None:
    added = "  runs:\n    - {name: third, data: math, samples: 5000, sequenceTokens: 2048, overlong: drop, checkpointEverySamples: 5000}\n"
    other = edited(("  runs:\n", added))
    assert units(SOURCE, other, tmp_path).keys() == {
        (kind, standing) for kind in ("train", "generate", "grade") for standing in ("same", "added")
    }


def both(base: str, mine: str, **changes: Any) -> Manifest:
    return manifest(evaluation("base", base), evaluation("mine@100", mine, **changes))


def test_effects_are_paired_and_the_same_units_are_not_compared_again() -> None:
    old, new = both("R" * 100, "R" * 60 + "W" * 40), both("R" * 100, "R" * 90 + "W" * 10)
    found = effects(old, new)
    assert found.unchanged == (("base", "math-500"),)
    accuracy = next(effect for effect in found.compared if effect.metric == "accuracy")
    assert accuracy.difference.estimate == pytest.approx(0.3)
    assert accuracy.difference.n == 100
    assert accuracy.adjusted_p < 0.001
    assert next(effect for effect in found.compared if effect.metric == "completed").adjusted_p == 1.0


def test_holm_is_over_all_effects() -> None:
    names = ("math-500", "other")
    sides = [
        manifest(*(evaluation("mine@100", codes, benchmark=name) for name in names))
        for codes in ("R" * 100, "R" * 90 + "W" * 10)
    ]
    found = [effect for effect in effects(*sides).compared if effect.metric == "accuracy"]
    assert [effect.adjusted_p / effect.difference.p for effect in found] == pytest.approx([6, 6])


def test_unlike_protocols_are_not_compared_and_what_differs_is_named() -> None:
    old = both("R" * 100, "R" * 100)
    warm = both("R" * 100, "R" * 99 + "W").model_copy(update={"sampling": Sampling(temperature=0.7)})
    found = effects(old, warm)
    assert not found.compared
    assert found.not_compared[0].reasons == ("sampling.temperature differs: 0.0 -> 0.7",)


def test_an_evaluation_without_grades_is_not_compared() -> None:
    waiting = evaluation("mine@100", "").model_copy(
        update={"state": "failed", "reason": "out of memory", "grade": None}
    )
    found = effects(both("R" * 100, "R" * 100), manifest(evaluation("base", "R" * 100), waiting))
    assert found.not_compared[0].reasons[0] == "made/mine@100 on math-500/all is failed: out of memory"


def test_the_same_question_generated_twice_is_called_so() -> None:
    digest = sha256_of(b"one question")
    found = effects(*(both("R" * 100, codes, generate=digest) for codes in ("R" * 100, "R" * 96 + "W" * 4)))
    assert {effect.again for effect in found.compared} == {True}
    assert found.compared[0].discordance == pytest.approx(0.04)


def test_two_manifests_are_compared_by_the_command(tmp_path: Path) -> None:
    for name, codes in (("old", "R" * 60 + "W" * 40), ("new", "R" * 90 + "W" * 10)):
        (tmp_path / f"{name}.json").write_bytes(both("R" * 100, codes).to_json())
    result = diff(tmp_path / "old.json", tmp_path / "new.json", "--json", tmp_path / "diff.json")
    assert result.exit_code == 1
    assert "60.0% -> 90.0%, +30.0 (+21.9 to +39.6) *" in result.output
    assert json.loads((tmp_path / "diff.json").read_text())["differs"] is True
    assert diff(tmp_path / "old.json", tmp_path / "old.json").exit_code == 0


def test_a_file_and_a_manifest_are_not_compared(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_bytes(both("R", "R").to_json())
    assert diff(SOURCE, tmp_path / "old.json").exit_code == 2
    assert diff(tmp_path / "none.json", tmp_path / "old.json").exit_code == 4


def test_other_verdicts_from_the_same_units_are_a_difference(tmp_path: Path) -> None:
    """Equal digests do not prove equal contents: an edited file and a damaged store have them too."""
    same = {"grade": sha256_of(b"one grade"), "generate": sha256_of(b"one question")}
    manifests = [both("R" * 100, codes, **same) for codes in ("R" * 80 + "W" * 20, "R" * 40 + "W" * 60)]
    assert effects(*manifests).contradictory == (("mine@100", "math-500"),)
    for name, found in zip(("old", "new"), manifests, strict=True):
        (tmp_path / f"{name}.json").write_bytes(found.to_json())
    result = diff(tmp_path / "old.json", tmp_path / "new.json")
    assert result.exit_code == 1
    assert "other verdicts from the same units: mine@100 on math-500" in result.output
    assert "80.0% -> 40.0%" in result.output


def test_units_that_failed_since_are_reported_as_failed() -> None:
    old = both("R" * 100, "R" * 100)
    failed = evaluation("mine@100", "", state="failed", reason="out of memory", grade=None, grader_version=None)
    new = manifest(evaluation("base", "R" * 100), failed)
    (changed,) = [
        unit
        for unit in unit_changes(asked_by_manifest(old), asked_by_manifest(new))
        if (unit.kind, unit.name) == ("grade", "mine@100 math-500/all")
    ]
    assert [(change.path, change.old, change.new) for change in changed.because] == [("its state", "done", "failed")]
    assert effects(old, new).not_compared[0].reasons == ("made/mine@100 on math-500/all is failed: out of memory",)


def test_a_benchmark_that_only_one_side_has_is_named(tmp_path: Path) -> None:
    for name in ("old", "new"):
        codes = evaluation("base", "R" * 100, benchmark=f"{name}-math")
        (tmp_path / f"{name}.json").write_bytes(manifest(codes).to_json())
    result = diff(tmp_path / "old.json", tmp_path / "new.json")
    assert "only in the old, a benchmark: old-math" in result.output
    assert "no results were compared" in result.output
