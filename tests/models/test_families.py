"""Every family in workloads/models is trained like plain peft trains it, and peft and the engines load the same
model.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.evaluate.world import World
from tests.models import plain_training
from tests.models.tiny import write_tiny_base
from tests.train.world import files, inputs, order, sums, train_here, write_rows
from workloads.api import store_keys
from workloads.api.records import CheckpointRecord, ExitCode, Marker, TrainRecord
from workloads.api.tasks import AdapterSource, TrainTask
from workloads.api.units import GENERAL_NUMERICS, Lora, Template
from workloads.models import FAMILIES
from workloads.models.base import ModelFamily
from workloads.storage.markers import read_marker
from workloads.text.tokenizer import load_tokenizer

ROWS, STEPS, SEED = 6, 20, 16
QUICK = ("llama", "gemma2")
"""Families that `make check` tests, because together they have a BOS token, and soft-capped scores and logits."""
BY_NAME = {family.name: family for family in FAMILIES.values()}
NAMES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in BY_NAME]


@dataclass(frozen=True)
class Trained:
    """A tiny base of a family after STEPS training steps with adapters on all its kinds of layers."""

    family: ModelFamily
    world: World
    rows: Path
    task: TrainTask

    @property
    def checkpoint(self) -> Marker:
        marker = read_marker(self.world.store, self.task.unit, store_keys.checkpoint_marker(ROWS * STEPS))
        assert marker is not None
        return marker

    @property
    def record(self) -> CheckpointRecord:
        record = self.checkpoint.record
        assert isinstance(record, CheckpointRecord)
        return record

    def losses(self, folder: Path) -> list[float]:
        path = files(self.world.store, self.task, store_keys.DONE, folder)["metrics.jsonl"]
        return [json.loads(line)["loss"] for line in path.read_text().splitlines()]


def train_tiny(
    folder: Path, family: ModelFamily, lora: Lora | None, learning_rate: float = 1e-2, **sizes: Any
) -> Trained:
    """Trains a tiny base; without `lora` all its weights. `sizes`: sizes of the base, which override TINY_SIZES."""
    world = World(folder, write_tiny_base(folder / "base", family, **sizes))
    rows = write_rows(folder / "rows.jsonl", sums(ROWS))
    stated = inputs(
        world.base,
        rows,
        type="full" if lora is None else "lora",
        learning_rate=learning_rate,
        template=Template(name="plain"),
        samples=ROWS * STEPS,
        batch_size=ROWS,
        on_short="repeat",
        checkpoints=(ROWS * STEPS,),
        schedule="constant",
        warmup_steps=0,
        seed=SEED,
        lora=lora,
        trainer="general",
        numerics=GENERAL_NUMERICS,
    )
    task = order(world.store, stated, world.base, rows)
    assert train_here(world.store, task) == ExitCode.OK
    return Trained(family, world, rows, task)


def lora_of(family: ModelFamily) -> Lora:
    return Lora(rank=4, alpha=8.0, target=tuple(sorted(family.kinds)))


@pytest.fixture(params=NAMES, scope="module")
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    family = BY_NAME[request.param]
    return train_tiny(tmp_path_factory.mktemp(family.name), family, lora_of(family))


def plain_losses(trained: Trained) -> list[float]:
    """Returns the losses of plain peft on the same base and rows."""
    family, stated = trained.family, trained.task.inputs
    return plain_training.train_adapter(
        trained.world.base,
        trained.rows,
        family.attention if family.experts else (*family.attention, *family.feed_forward),
        ("mlp.experts.gate_up_proj", "mlp.experts.down_proj") if family.experts else (),
        steps=STEPS,
        rank=stated.adapter.rank,
        alpha=stated.adapter.alpha,
        learning_rate=stated.learning_rate,
        weight_decay=stated.weight_decay,
        seed=SEED,
    )


def peft_error(trained: Trained, folder: Path) -> float:
    """Returns the largest difference in log-probability between the trainer and peft with the published adapter, in
    nats.
    """
    files(trained.world.store, trained.task, trained.checkpoint.name, folder)
    base = AutoModelForCausalLM.from_pretrained(trained.world.base, dtype=torch.float32, attn_implementation="eager")
    model = PeftModel.from_pretrained(base, folder).eval()
    errors = []
    for canary in trained.record.canaries:
        ids = torch.tensor([canary.token_ids])
        with torch.no_grad():
            scores = model(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        assert (scores - torch.tensor(canary.base_log_probs)).abs().mean() > 0.05, "the adapter changes too little"
        errors.append(float((scores - torch.tensor(canary.log_probs)).abs().max()))
    return max(errors)


def canary_error(world: World, trained: Trained) -> float:
    """Returns the canary error that the evaluation program measures with the world's engine, in nats."""
    marker = trained.checkpoint
    member = world.member(AdapterSource(unit=trained.task.unit, marker=marker.name, content=marker.content))
    assert world.run(world.order(member)) == ExitCode.OK
    error = world.record(member.unit).canary_error
    assert error is not None
    return error


@pytest.mark.slow
def test_twenty_steps_have_the_losses_of_plain_peft(trained: Trained, tmp_path: Path) -> None:
    expected = plain_losses(trained)
    assert expected[-1] < 0.9 * expected[0]
    assert trained.losses(tmp_path) == pytest.approx(expected, rel=1e-6)


def test_the_adapter_has_equal_log_probabilities_in_peft(trained: Trained, tmp_path: Path) -> None:
    assert peft_error(trained, tmp_path) < 2e-5


def test_the_adapter_passes_its_canary_in_the_transformers_engine(trained: Trained) -> None:
    assert canary_error(trained.world, trained) < 1e-4


def test_the_record_says_that_the_general_trainer_ran(trained: Trained) -> None:
    done = read_marker(trained.world.store, trained.task.unit, store_keys.DONE)
    assert done is not None
    assert isinstance(done.record, TrainRecord)
    assert done.record.trainer == "general"
    assert {"peft", "accelerate", "transformers"} <= set(done.record.versions)
    assert {text.partition(":")[0] for text in done.record.warnings} <= {"DataRepeated", "UnlikelyToken"}


def test_a_prompt_opens_with_what_the_base_s_own_tokenizer_puts_before_a_text(trained: Trained) -> None:
    base = trained.world.base
    whole = AutoTokenizer.from_pretrained(base)("What is 1 + 1?").input_ids
    ours = load_tokenizer(base)
    assert ours.with_opening(ours.encode("What is 1 + 1?")) == whole
    assert ours.with_opening(whole) == whole
    canary = trained.record.canaries[0]
    assert canary.token_ids[: len(ours.opening)] == ours.opening
