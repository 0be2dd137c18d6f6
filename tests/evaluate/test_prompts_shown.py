"""`potstill bench show` prints the prompt that the evaluation sends."""

import json
import tempfile
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from controller.cli import app
from controller.cli.common import frozen_from
from tests.experiment.test_validate import BASE, SPEC, write_rows
from workloads.api.evaluation_matrix import evaluation_matrix, generate_inputs
from workloads.api.tasks import GenerateMember
from workloads.api.units import unit_of
from workloads.evaluate.adapter_cache import AdapterCache
from workloads.evaluate.prepare import Bench, prepare
from workloads.models.shapes import read_shapes
from workloads.storage.base import open_store
from workloads.text.tokenizer import load_tokenizer

BENCH = (
    "  - {name: mine, uri: bench.jsonl, grader: choice, prompt: {prefill: '<think>', stop: ['###']}, "
    "basePrompt: {instruction: 'Q: {problem} A:'}}"
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    row = {"prompt": "Which is larger?", "choices": ["one", "two"], "answer": "B", "source": "a book"}
    write_rows(tmp_path / "bench.jsonl", [{"id": "q1", **row}, {"id": "q2", **row, "prompt": "And now?"}])
    write_rows(tmp_path / "sft.jsonl", [{"question": "1 + 1", "solution": "2"}] * 20)
    path = tmp_path / "e.yaml"
    path.write_text(SPEC.replace("  - {name: mine, uri: bench.jsonl, grader: math}", BENCH))
    return path


def show(file: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["bench", "show", "mine", "--experiment", str(file), *options])


def sent(file: Path, model: str) -> dict[str, tuple[int, ...]]:
    """The token ids of the whole benchmark from the evaluation's own preparation, by problem."""
    frozen = frozen_from(file, None)
    want = next(want for want in evaluation_matrix(frozen, {}) if want.model.id.partition("@")[0] == model)
    inputs = generate_inputs(frozen, want, None)
    member = GenerateMember(
        unit=unit_of(inputs), number=1, inputs=inputs, benchmark_name="mine", benchmark=want.benchmark.source
    )
    with tempfile.TemporaryDirectory() as folder:
        store = open_store((file.parent / "store").as_uri())
        with AdapterCache(store, Path(folder) / "adapters") as adapters:
            bench = Bench(read_shapes(BASE), load_tokenizer(BASE), Path(folder), adapters, lambda: None)
            prepared = prepare(bench, member)
    return {prompt.problem: prompt.token_ids for prompt in prepared.evaluation.prompts}


@pytest.mark.parametrize("model", ["base", "a"])
@pytest.mark.parametrize("problem", ["q1", "q2"])
def test_the_prompt_is_that_of_the_evaluation(file: Path, model: str, problem: str) -> None:
    shown = json.loads(show(file, "--model", model, "--problem", problem, "--json").stdout)
    assert tuple(shown["token_ids"]) == sent(file, model)[problem]
    assert shown["prompt"] == load_tokenizer(BASE).decode(tuple(shown["token_ids"]))


def test_choices_template_and_prefill_are_in_it(file: Path) -> None:
    text = show(file, "--model", "a").stdout
    assert "Which is larger?\nA. one\nB. two" in text
    assert text.startswith("<|im_start|>user\n")
    assert text.endswith("<think>\n")
    assert show(file).stdout == "Q: Which is larger?\nA. one\nB. two A:\n"


def test_about_it_is_on_standard_error(file: Path) -> None:
    assert "mine q1 for a: " in show(file, "--model", "a").stderr
    assert "stops at '###'" in show(file, "--model", "a").stderr


def test_unknown_models_benchmarks_and_problems_are_named(file: Path) -> None:
    assert "there is no model b; there are: base, a" in show(file, "--model", "b").output
    assert "has no problem 'q9'" in str(show(file, "--problem", "q9").exception)
    unknown = CliRunner().invoke(app, ["bench", "show", "mien", "--experiment", str(file)])
    assert "there is no benchmark mien; did you mean mine?; there are: mine" in str(unknown.exception)
