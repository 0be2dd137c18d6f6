"""Every mistake in an experiment file is named with its field, its line, and what to do."""

import re
from pathlib import Path

import pytest

from controller.experiment import models
from controller.experiment.errors import PATTERNS, SpecError
from controller.experiment.load import load_experiment, parse_experiment
from tests.experiment.wrong_specs import MINIMAL, WRONG

EXAMPLES = Path(__file__).parents[2] / "examples"
DISTILL = (EXAMPLES / "distill-16-02.yaml").read_text()


def problems_in(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        parse_experiment(text, "experiment.yaml")
    return str(caught.value)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_experiment_is_well_formed(path: Path) -> None:
    assert load_experiment(path).metadata.name


def test_the_experiment_of_16_02_says_what_was_done() -> None:
    spec = parse_experiment(DISTILL, "distill").spec
    assert [run.samples for run in spec.runs] == [25000, 10000, 25000, 10000]
    assert spec.training.batch_size == 50


@pytest.mark.parametrize("row", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_file_is_refused_with_its_field_and_what_to_do(row: tuple[str, str, str]) -> None:
    right, wrong, message = row
    assert right in MINIMAL
    assert message in problems_in(MINIMAL.replace(right, wrong, 1))


def test_the_minimal_file_is_right() -> None:
    assert parse_experiment(MINIMAL, "experiment.yaml").spec.runs[0].samples == 100


def test_all_problems_are_reported_together() -> None:
    text = MINIMAL.replace("samples: 100", "samples: -1").replace("drop", "dropp")
    assert "2 problems" in problems_in(text)


def test_an_empty_file_and_a_list_are_refused() -> None:
    assert "is empty" in problems_in("")
    assert "line 1: the file: holds a list, not fields" in problems_in("- a\n- b\n")
    assert "line 1: the file: holds text, not fields" in problems_in("just a sentence\n")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="nothing.yaml"):
        load_experiment(tmp_path / "nothing.yaml")


FORTY_RUNS = "  runs:\n" + "".join(f"    - {{name: r{n}, data: sums, samples: 100}}\n" for n in range(40))
LONG = "x" * 5000


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("  runs:\n", FORTY_RUNS, "experiment.yaml: 1 problem\n  line 8: spec.runs: has 41 entries; at most 32 are allowed"),
        ("overlong: drop", f"overlong: {LONG}", "line 13: spec.runs[0].overlong: 'xxx"),
        ("name: first", f"name: {LONG}", "line 9: spec.runs[0].name: "),
        ("samples: 100", f"samples: [{', '.join(['1'] * 900)}]", "line 11: spec.runs[0].samples: "),
        ("samples: 100", f"samples: {'9' * 3000}", "line 11: spec.runs[0].samples: "),
        ("samples: 100", f"{LONG[:900]}: 100", "line 11: spec.runs[0].xxx"),
        ("samples: 100", f"samples: {'9' * 9000}", "is not YAML: "),
        ("samples: 100", "samples: 2026-13-45", "is not YAML: month must be in 1..12"),
        ("budgets: [128]", "budgets: {a: {b: [" + "1, " * 900 + "1]}}", "line 17: spec.evaluation.budgets: "),
    ],
)  # fmt: skip
def test_a_long_value_makes_a_short_message_with_file_and_line(old: str, new: str, expected: str) -> None:
    said = problems_in(MINIMAL.replace(old, new, 1))
    assert expected in said
    assert max(map(len, said.splitlines())) < 600


def test_a_message_lists_the_first_of_many_checkpoints() -> None:
    text = (
        MINIMAL.replace("samples: 100", "samples: 100000")
        + "  gate: {candidate: first@7, require: [{benchmark: math-500, maxDrop: 0}]}\n"
    )
    assert (
        "first has no checkpoint at 7; it has 50, 100, 150, 200, 250, 300, 350, 400, 450, 500 and 1990 more"
        in problems_in(text)
    )


def test_every_pattern_of_the_models_has_its_words() -> None:
    found = set(re.findall(r'pattern=r"([^"]+)"', Path(models.__file__).read_text()))
    assert found == set(PATTERNS) & found
    assert found
