"""`potstill validate` reads all files of the experiment, and prints every mistake with its file, line and remedy."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from controller.cli import app
from controller.cli.expected import WRONG_INPUT

BASE = Path(__file__).parents[2] / "examples" / "quickstart" / "base"
SPEC = """\
apiVersion: potstill.dev/v1alpha1
kind: Experiment
metadata: {name: tiny}
spec:
  base: {model: BASE}
  data:
    sums:
      uri: sft.jsonl
      columns: {prompt: question, response: solution}
  training:
    lora: {rank: 8, alpha: 16}
    batchSize: 10
    samples: 20
    sequenceTokens: 128
    overlong: drop
    checkpointEverySamples: 20
    learningRate: 5.0e-3
  runs:
    - {name: a, data: sums, thinking: false}
  evaluation:
    benchmarks:
      - {name: mine, uri: bench.jsonl, grader: math}
    budgets: [48]
""".replace("BASE", str(BASE))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [{"question": f"{n} + {n}", "solution": f"\\boxed{{{2 * n}}}"} for n in range(20)]
    write_rows(tmp_path / "sft.jsonl", rows)
    write_rows(tmp_path / "bench.jsonl", [{"id": f"p{n}", "prompt": f"{n} + 1", "answer": n + 1} for n in range(6)])
    (tmp_path / "e.yaml").write_text(SPEC)
    return tmp_path


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def change(folder: Path, old: str, new: str) -> None:
    text = (folder / "e.yaml").read_text()
    assert old in text
    (folder / "e.yaml").write_text(text.replace(old, new))


def validate(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["validate", str(folder / "e.yaml"), *options])


def problems(folder: Path) -> str:
    result = validate(folder)
    assert isinstance(result.exception, WRONG_INPUT), result.output
    return str(result.exception)


def said(folder: Path) -> str:
    result = validate(folder)
    assert result.exit_code == 0, result.exception
    return result.output


def test_a_run_that_must_think_and_is_not_taught_to_is_warned_of(folder: Path) -> None:
    change(folder, ", thinking: false", "")
    assert "warning: a: ThinkNotTaught: no sample teaches </think>" in said(folder)


def test_a_warning_for_several_runs_is_printed_once(folder: Path) -> None:
    change(
        folder, "{name: a, data: sums, thinking: false}", "{name: a, data: sums}\n    - {name: b, data: sums, seed: 2}"
    )
    (warning,) = [line for line in said(folder).splitlines() if line.startswith("warning: ")]
    assert warning.startswith("warning: a, b: ThinkNotTaught: ")


def test_a_right_experiment_is_valid_without_a_warning(folder: Path) -> None:
    assert said(folder).splitlines() == [
        f"{folder}/e.yaml: tiny is valid: 1 run, 1 checkpoint, 0 candidates, 1 benchmark"
    ]


def test_problems_outside_of_the_file_are_reported_together_with_file_and_line(folder: Path) -> None:
    change(folder, "sft.jsonl", "missing.jsonl")
    change(folder, "bench.jsonl", "gone.jsonl")
    change(folder, f"model: {BASE}", "model: ./nothing")
    text = problems(folder)
    assert text.startswith(f"{folder}/e.yaml: 3 problems")
    assert "  line 5: spec.base.model: ./nothing is not a directory here" in text
    assert f"  line 8: spec.data.sums.uri: {folder}/missing.jsonl is not a file" in text
    assert f"  line 22: spec.evaluation.benchmarks[0].uri: {folder}/gone.jsonl is not a file" in text


def test_data_is_read_as_the_trainer_reads_it(folder: Path) -> None:
    change(folder, "prompt: question", "prompt: frage")
    assert "line 8: spec.data.sums.uri: sft.jsonl: line 1: no column 'frage'" in problems(folder)


def test_fewer_rows_than_samples_are_refused(folder: Path) -> None:
    change(folder, "samples: 20\n    seq", "samples: 40\n    seq")
    assert "line 8: spec.data.sums.uri: sft.jsonl: samples is 40 but 20 rows are left" in problems(folder)


def test_a_template_that_does_not_render_names_field_and_variables(folder: Path) -> None:
    (folder / "t.jinja").write_text("{{ promt }}")  # codespell:ignore
    change(folder, "uri: sft.jsonl", "uri: sft.jsonl\n      template: t.jinja")
    text = problems(folder)
    assert "line 9: spec.data.sums.template: line 1: the Jinja template does not render: 'promt' is undefined" in text
    assert "a template has the variables prompt" in text


def test_an_answer_that_no_choice_has_is_refused(folder: Path) -> None:
    row = {"id": "q1", "prompt": "Which?", "choices": ["a", "b", "c", "d"], "answer": "F"}
    write_rows(folder / "bench.jsonl", [row, {**row, "id": "q2", "answer": "B"}])
    change(folder, "grader: math", "grader: choice")
    assert "names none of the choices, so no output can be right: problem q1 (answer 'F', 4 choices)" in problems(
        folder
    )


def test_a_budget_that_the_context_does_not_hold_is_refused(folder: Path) -> None:
    context = json.loads((BASE / "config.json").read_text())["max_position_embeddings"]
    change(folder, "budgets: [48]", f"budgets: [{context - 2}]")
    text = problems(folder)
    assert "line 23: spec.evaluation.budgets: mine: problem p" in text
    assert f"the base's context holds {context}. Lower the budgets" in text


@pytest.mark.parametrize(
    ("old", "new", "warning"),
    [
        ("learningRate: 5.0e-3", "learningRate: 3", "a: learningRate is 3: adapters rarely learn above 0.01"),
        (
            "batchSize: 10",
            "batchSize: 10\n    warmupSteps: 500",
            "a: WarmupTooLong: warmupSteps is 500 and the run has 2 steps",
        ),
        ("rank: 8", "rank: 500", "a: rank 500 is more than the narrowest layer's width"),
        ("grader: math}", "grader: math, limit: 1000}", "mine: limit is 1000, and the benchmark has 6 problems"),
    ],
)
def test_settings_that_run_and_give_no_useful_result_cause_a_warning(
    folder: Path, old: str, new: str, warning: str
) -> None:
    change(folder, old, new)
    assert f"warning: {warning}" in said(folder)


def test_a_layer_that_the_base_does_not_have_is_refused(folder: Path) -> None:
    change(folder, "alpha: 16", "alpha: 16, target: [experts]")
    assert "has no experts" in problems(folder)


def test_a_row_may_have_more_fields_and_they_are_named(folder: Path) -> None:
    row = {"id": "p", "prompt": "1 + 1", "answer": "2", "source": "a book", "url": "https://example.org"}
    write_rows(folder / "bench.jsonl", [row])
    assert "warning: mine: fields that are not used: source, url" in said(folder)


def test_inputs_that_are_not_on_this_machine_are_listed_as_not_checked(folder: Path) -> None:
    change(folder, f"{{model: {BASE}}}", "{model: some/base, revision: " + "a" * 40 + "}")
    change(folder, "uri: bench.jsonl", f"uri: s3://lab/bench.jsonl, sha256: {'a' * 64}")
    text = said(folder)
    assert "not checked: the base hub://some/base@" in text
    assert "not checked: mine: s3://lab/bench.jsonl is read by pods only: its rows and prompts" in text


def test_the_data_of_a_base_elsewhere_is_read_all_the_same(folder: Path) -> None:
    change(folder, f"{{model: {BASE}}}", "{model: some/base, revision: " + "a" * 40 + "}")
    change(folder, "prompt: question", "prompt: frage")
    assert "line 8: spec.data.sums.uri: sft.jsonl: line 1: no column 'frage'" in problems(folder)


def test_json_has_problems_with_fields_and_lines(folder: Path) -> None:
    change(folder, "sft.jsonl", "missing.jsonl")
    result = validate(folder, "--json")
    found = json.loads(result.stdout)
    assert (found["schema_version"], found["command"], found["valid"]) == (1, "validate", False)
    assert [(item["field"], item["line"]) for item in found["problems"]] == [("spec.data.sums.uri", 8)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("learningRate: 5.0e-3", "lr: 1e-4", "spec.training.lr: unknown field; did you mean learningRate?"),
        ("learningRate: 5.0e-3", "epochs: 3", "line 17: spec.training.epochs: goes without samples: state one of them"),
        ("rank: 8, alpha: 16", "r: 8, lora_alpha: 16", "spec.training.lora.r: unknown field; did you mean rank?"),
        ("budgets: [48]", "budgets: [48]\n    sampling: {n: 4}", "sampling.n: must be 1 at temperature 0 (it is 4)"),
        ("budgets: [48]", "budgets: [0]", "line 23: spec.evaluation.budgets: must ascend, each at least 1 and there once"),
        ("grader: math}", "grader: math, completion: pattern}", "completionPattern: is required with completion: pattern"),
        ("{name: mine, uri: bench.jsonl, grader: math}", "{name: aime}", "not built in (built in: math-500, mbpp-plus, gsm8k, humaneval-plus)"),
        ("{name: a,", "{name: My Run,", "'My Run' may have small letters, digits, and between them _ . -"),
        ("batchSize: 10", "batchSize: 1000", "line 16: spec.training.checkpointEverySamples: 20 is not a whole number of batches of 1000"),
    ],
)  # fmt: skip
def test_mistakes_of_other_kinds_have_their_message(folder: Path, old: str, new: str, message: str) -> None:
    change(folder, old, new)
    assert message in problems(folder)


def test_a_mistake_under_training_is_reported_once_for_all_runs(folder: Path) -> None:
    change(
        folder,
        "- {name: a, data: sums, thinking: false}",
        "- {name: a, data: sums}\n    - {name: b, data: sums, seed: 2}",
    )
    change(folder, "batchSize: 10", "batchSize: 7")
    text = problems(folder)
    assert text.count("spec.training.checkpointEverySamples: 20 is not a whole number of batches of 7") == 1
    assert "spec.runs" not in text
