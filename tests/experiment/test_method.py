"""`method: full`: fields that have no meaning with it are refused at their line, and plan counts all weights."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from controller.cli import app
from controller.experiment.errors import SpecError
from workloads.models.memory import parameters_of

BASE = Path(__file__).parents[2] / "examples" / "quickstart" / "base"
SPEC = """\
apiVersion: potstill.dev/v1alpha1
kind: Experiment
metadata: {name: whole}
spec:
  base: {model: BASE}
  data:
    sums: {uri: rows.jsonl}
  training:
    method: full
    batchSize: 10
    samples: 20
    sequenceTokens: 128
    overlong: drop
    learningRate: 1.0e-5
  runs:
    - {name: a, data: sums}
  evaluation:
    benchmarks:
      - {name: math-500, limit: 2}
    budgets: [48]
""".replace("BASE", str(BASE))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [{"prompt": f"{n} + {n}", "response": str(2 * n)} for n in range(20)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def run(folder: Path, command: str, old: str = "", new: str = "", *options: str) -> Result:
    assert old in SPEC
    (folder / "e.yaml").write_text(SPEC.replace(old, new))
    return CliRunner().invoke(app, [command, str(folder / "e.yaml"), *options])


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("{name: a, data: sums}", "{name: a, data: sums, lora: {rank: 4}}", 16, "lora: goes with method: lora"),
        ("    batchSize: 10", "    lora: {rank: 4}\n    batchSize: 10", 10, "lora: goes with method: lora"),
        ("{name: a, data: sums}", "{name: a, data: sums, trainer: fast}", 16, "the method is full"),
        ("method: full", "method: dora", 9, "is not one of lora, full"),
    ],
)
def test_settings_that_conflict_with_the_method_are_refused_with_their_line(
    old: str, new: str, line: int, message: str, folder: Path
) -> None:
    result = run(folder, "validate", old, new)
    assert isinstance(result.exception, SpecError)
    assert f"line {line}: " in str(result.exception)
    assert message in str(result.exception)


def test_lora_under_training_is_for_the_runs_that_train_an_adapter(folder: Path) -> None:
    old = "    - {name: a, data: sums}\n"
    new = f"{old}    - {{name: b, data: sums, method: lora, lora: {{rank: 4}}, learningRate: 2.0e-4}}\n"
    assert run(folder, "validate", old, new).exit_code == 0


def test_a_learning_rate_of_adapters_is_warned_of(folder: Path) -> None:
    result = run(folder, "validate", "1.0e-5", "2.0e-4")
    assert "full fine-tuning rarely learns above 0.0001" in result.stdout + result.stderr


def test_plan_counts_all_weights_of_checkpoints_and_resume_states(folder: Path) -> None:
    result = run(folder, "plan", "", "", "--store", str(folder / "store"), "--json")
    assert result.exit_code == 0, result.output
    disk = json.loads(result.stdout)["cost"]["disk"]
    parameters = parameters_of(BASE)
    assert disk["checkpoints"] == 4 * parameters
    assert disk["resume_states"] == 2 * 3 * 4 * parameters


def profile_of(folder: Path, gpu: str, gpus: int) -> str:
    path = folder / "profile.yaml"
    path.write_text(
        f"name: own\ngpu: {gpu}\nengine: {{name: transformers, version: '5'}}\ntrain: {{gpus: {gpus}, nodes: 1}}\n"
    )
    return str(path)


@pytest.mark.parametrize(
    ("gpu", "gpus", "stated", "expected"),
    [
        ("NVIDIA-H200", 1, "auto", (False, "one GPU trains")),
        ("NVIDIA-H200", 2, "auto", (False, "sharding: auto, not more than 80% of")),
        ("NVIDIA-X", 2, "auto", (None, "the trainer decides")),
        ("NVIDIA-X", 2, "always", (True, "sharding: always")),
        ("NVIDIA-H200", 2, "never", (False, "sharding: never")),
    ],
)
def test_plan_says_whether_gpus_divide_the_weights_and_why(
    gpu: str, gpus: int, stated: str, expected: tuple[bool | None, str], folder: Path
) -> None:
    options = ("--store", str(folder / "store"), "--profile", profile_of(folder, gpu, gpus), "--json")
    result = run(folder, "plan", "method: full", f"method: full\n    sharding: {stated}", *options)
    assert result.exit_code == 0, result.exception
    memory = json.loads(result.stdout)["runs"][0]["memory"]
    assert memory["needed"] == 16 * parameters_of(BASE)
    assert memory["gpus"] == gpus
    assert memory["sharded"] is expected[0]
    assert expected[1] in memory["reason"]


@pytest.mark.parametrize("stated", ["auto", "fast"])
def test_the_fast_trainer_divides_no_weights_and_says_so(folder: Path, stated: str) -> None:
    new = f"trainer: {stated}\n    sharding: always"
    result = run(folder, "validate", "method: full", new, "--profile", profile_of(folder, "NVIDIA-H200", 2))
    assert isinstance(result.exception, SpecError)
    assert "runs[0].sharding: is always, and the fast trainer does not divide weights" in str(result.exception)


def test_one_gpu_divides_nothing_and_the_experiment_is_refused_before_it_runs(folder: Path) -> None:
    result = run(folder, "validate", "method: full", "method: full\n    sharding: always")
    assert isinstance(result.exception, SpecError)
    assert "runs[0].sharding: is always, and one GPU trains" in str(result.exception)
