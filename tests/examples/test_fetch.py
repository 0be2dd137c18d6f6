"""One command copies a trained adapter: peft can load it, and merged weights are the same model."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM

from controller.cli.local_profile import profile_of_this_machine
from controller.experiment.load import load_experiment
from controller.experiment.resolve import resolve
from tests.train.world import open_directory, order, sums, train_here, write_base, write_rows
from workloads.api.records import ExitCode
from workloads.api.units import TrainInputs

pytestmark = pytest.mark.slow

EXPERIMENT = """\
apiVersion: potstill.dev/v1alpha1
kind: Experiment
metadata: {name: home}
spec:
  base: {model: base}
  data: {sums: {uri: sums.jsonl}}
  training:
    lora: {rank: 4, alpha: 8, target: [attention, mlp]}
    learningRate: 1.0e-2
    batchSize: 4
    samples: 10
    sequenceTokens: 128
    overlong: truncate
  runs: [{name: mine, data: sums}]
  evaluation:
    benchmarks: [{name: math-500, limit: 1}]
    budgets: [8]
"""


def fetched(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "controller.cli", "fetch", "experiment.yaml", *arguments, "--store", "store"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, env=os.environ)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    base = write_base(folder / "base")
    rows = write_rows(folder / "sums.jsonl", sums(12))
    (folder / "experiment.yaml").write_text(EXPERIMENT)
    (run,) = resolve(
        load_experiment(folder / "experiment.yaml"), folder, profile_of_this_machine()[0], datetime.now(UTC)
    ).runs
    assert isinstance(run.inputs, TrainInputs)
    assert run.checkpoints == (10,), "without checkpointEverySamples there is one, at the end"
    store = open_directory(folder / "store")
    task = order(store, run.inputs, base, rows)
    assert train_here(store, task) == ExitCode.OK
    return folder


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(torch.arange(10, 60)[None]).logits
        return found


def test_the_adapter_and_the_merged_weights_are_one_model(folder: Path) -> None:
    done = fetched(folder, "mine@10", "adapter")
    assert done.returncode == 0, done.stderr
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(folder / "base")
    done = fetched(folder, "mine@last", "merged", "--merge")
    assert done.returncode == 0, done.stderr
    assert not list((folder / "merged").glob("adapter*"))
    adapted = logits(AutoPeftModelForCausalLM.from_pretrained(folder / "adapter"))
    merged = logits(AutoModelForCausalLM.from_pretrained(folder / "merged"))
    assert (adapted - logits(AutoModelForCausalLM.from_pretrained(folder / "base"))).abs().max() > 1e-2
    torch.testing.assert_close(merged, adapted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mine@5", "x"), "there is no mine@5; there are mine@10"),
        (("other@10", "x"), "there is no other@10"),
        (("mine@10", "base"), "exists already and is not empty"),
    ],
)
def test_a_checkpoint_that_cannot_be_fetched_is_refused_and_nothing_is_written(
    folder: Path, arguments: tuple[str, str], message: str
) -> None:
    done = fetched(folder, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert not list(folder.glob("*.arriving"))


def test_a_damaged_checkpoint_is_not_handed_out(folder: Path) -> None:
    (weights,) = (folder / "store").rglob("adapter_model.safetensors")
    before = weights.read_bytes()
    weights.write_bytes(before[:-4] + b"\0\0\0\1")
    try:
        done = fetched(folder, "mine@10", "damaged")
    finally:
        weights.write_bytes(before)
    assert done.returncode != 0
    assert not (folder / "damaged").exists()
