"""`potstill show` and `logs` of an experiment that ran on this machine."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from controller.cli import app
from controller.experiment.errors import SpecError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

BASE = Path(__file__).parents[2] / "examples" / "quickstart" / "base"


def potstill(*words: str) -> Result:
    return CliRunner().invoke(app, list(words), env={"COLUMNS": "400"})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Its data lack the column that the responses are read from."""
    (tmp_path / "data.jsonl").write_text(
        "".join(json.dumps({"prompt": "1 + 1", "answer": "2"}) + "\n" for _ in range(9))
    )
    (tmp_path / "bench.jsonl").write_text(json.dumps({"id": "a", "prompt": "1 + 1", "answer": "2"}) + "\n")
    run = {"name": "one", "data": "sums", "samples": 4, "sequenceTokens": 64, "overlong": "drop"}
    asked = {"name": "mine", "uri": "bench.jsonl", "grader": "exact", "base": "none"}
    spec = {
        "base": {"model": str(BASE)},
        "data": {"sums": {"uri": "data.jsonl"}},
        "training": {"batchSize": 2, "checkpointEverySamples": 4},
        "runs": [run],
        "evaluation": {"benchmarks": [asked], "budgets": [32]},
    }
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump({
        "apiVersion": "potstill.dev/v1alpha1", "kind": "Experiment", "metadata": {"name": "lacking"}, "spec": spec,
    }))  # fmt: skip
    return path


def test_an_experiment_without_a_run_in_the_store_is_reported(file: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    result = potstill("show", str(file), "--store", str(tmp_path / "store"))
    assert (result.exit_code, "has not run there" in result.output) == (4, True)


def test_data_that_the_trainer_would_refuse_is_refused_before_anything_is_written(file: Path, tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    ran = potstill("run", str(file), "--store", store)
    assert isinstance(ran.exception, SpecError)
    assert "line 1: no column 'response'" in str(ran.exception)
    assert potstill("show", str(file), "--store", store).exit_code == 4


def test_a_crash_is_shown_with_its_traceback(file: Path, tmp_path: Path) -> None:
    shutil.copytree(BASE, tmp_path / "base")
    config = tmp_path / "base" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"hidden_act": "no such function"}))
    text = file.read_text().replace(str(BASE), "base")
    file.write_text(text + "  limits: {attempts: 1}\n")
    (tmp_path / "data.jsonl").write_text((json.dumps({"prompt": "1 + 1", "response": "2"}) + "\n") * 9)
    store = str(tmp_path / "store")
    assert potstill("run", str(file), "--store", store).exit_code == 1
    shown = potstill("show", str(file), "--store", store, "--tail", "1")
    assert shown.exit_code == 1
    assert "Traceback (most recent call last)" in shown.output.split("--- log")[0], shown.output
    assert "failed; the first: train/" in shown.output
    assert "==> train/" in potstill("logs", str(file), "--store", store).output
