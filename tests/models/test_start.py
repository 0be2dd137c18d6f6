"""A training that starts from an adapter continues like plain peft with the same adapter."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from tests.evaluate.world import NOW
from tests.models import plain_training
from tests.models.test_families import BY_NAME
from tests.models.tiny import write_tiny_base
from tests.train.world import failure, files, inputs, open_directory, sums, train_here, write_rows
from workloads.api import store_keys
from workloads.api.records import ExitCode
from workloads.api.tasks import FileSource, ModelSource, Owner, TrainTask
from workloads.api.units import GENERAL_NUMERICS, Lora, Template, unit_of
from workloads.storage.base import Store
from workloads.storage.content_digest import directory_content

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROWS, STEPS, LEARNING_RATE = 6, 10, 1e-2
MODULES = ("q_proj", "v_proj", "down_proj")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("base"), BY_NAME["llama"])


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of peft with both factors different from 0."""
    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(3)
    config = LoraConfig(
        r=4, lora_alpha=6, target_modules=list(MODULES), task_type="CAUSAL_LM", init_lora_weights="gaussian"
    )
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            parameter.data.normal_(std=0.05)
    model.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", sums(ROWS))


def order(store: Store, base: Path, rows: Path, adapter: Path, number: int = 1, **changes: Any) -> TrainTask:
    fields: dict[str, Any] = {
        "template": Template(name="plain"),
        "samples": ROWS * STEPS,
        "batch_size": ROWS,
        "on_short": "repeat",
        "checkpoints": (ROWS * STEPS // 2, ROWS * STEPS),
        "schedule": "constant",
        "warmup_steps": 0,
        "learning_rate": LEARNING_RATE,
        "lora": Lora(rank=4, alpha=6.0, target=tuple(sorted(MODULES))),
        "trainer": "general",
        "numerics": GENERAL_NUMERICS,
        "start": directory_content(adapter),
    }
    stated = inputs(base, rows, **(fields | changes))
    task = TrainTask(
        unit=unit_of(stated),
        number=number,
        owner=Owner(experiment="test", uid8="00000000"),
        created=NOW,
        inputs=stated,
        base=ModelSource(location=str(base), content=stated.base_content),
        data=FileSource(location=str(rows), sha256=stated.data_content),
        start=ModelSource(location=str(adapter), content=directory_content(adapter)),
    )
    store.put_new(task.key, task.to_json())
    return task


def test_it_has_the_losses_of_plain_peft_that_continues_from_the_same_adapter(
    base: Path, rows: Path, adapter: Path, tmp_path: Path
) -> None:
    store = open_directory(tmp_path / "store")
    task = order(store, base, rows, adapter)
    assert train_here(store, task) == ExitCode.OK
    path = files(store, task, store_keys.DONE, tmp_path / "done")["metrics.jsonl"]
    found = [json.loads(line)["loss"] for line in path.read_text().splitlines()]
    expected = plain_training.train_further(
        base, rows, adapter, steps=STEPS, learning_rate=LEARNING_RATE, weight_decay=task.inputs.weight_decay
    )
    assert found == pytest.approx(expected, rel=1e-6)
    last = files(store, task, f"checkpoint-{ROWS * STEPS:09d}", tmp_path / "last")["adapter_model.safetensors"]
    for name in ("checkpoint-000000060", "state-000000010", store_keys.DONE):
        store.delete(store_keys.marker_key(task.unit, name))
    assert train_here(store, order(store, base, rows, adapter, number=2)) == ExitCode.OK
    again = files(store, task, f"checkpoint-{ROWS * STEPS:09d}", tmp_path / "again")["adapter_model.safetensors"]
    assert again.read_bytes() == last.read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora": Lora(rank=8, alpha=6.0, target=MODULES)}, "rank, alpha and rslora (4, 6.0, False)"),
        (
            {"lora": Lora(rank=4, alpha=6.0, target=(*MODULES, "k_proj"))},
            "names layers that the adapter does not change",
        ),
        ({"lora": Lora(rank=4, alpha=6.0, target=("q_proj",))}, "changes layers that lora.target does not name"),
    ],
    ids=["rank", "more layers", "fewer layers"],
)
def test_another_rank_or_other_layers_are_refused(
    changes: dict[str, Any], message: str, base: Path, rows: Path, adapter: Path, tmp_path: Path
) -> None:
    store = open_directory(tmp_path / "store")
    task = order(store, base, rows, adapter, **changes)
    assert train_here(store, task) == ExitCode.BAD_CONFIGURATION
    assert message in failure(store, task).message
