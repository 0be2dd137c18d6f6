"""Full fine-tuning gives the losses of a plain script of transformers, and all engines load its checkpoints."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.evaluate.world import World
from tests.models import plain_training
from tests.models.test_families import BY_NAME, STEPS, Trained, train_tiny
from tests.models.tiny import write_tiny_base
from tests.train.world import files, inputs, open_directory, order, sums, train_here, write_rows
from workloads.api import store_keys
from workloads.api.records import CheckpointRecord, ExitCode
from workloads.api.tasks import CheckpointSource
from workloads.api.units import GENERAL_NUMERICS, ModelContent
from workloads.models.weight_files import check_weight_files
from workloads.storage.content_digest import directory_content
from workloads.storage.markers import list_markers

LEARNING_RATE = 1e-3
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
BASES: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": True},
    "gemma2": {},
    "phi3": {},
    "qwen3_moe": {},
    "mixtral": {},
}
"""Families with tied embeddings, capped logits, fused projections, and experts that transformers fuses."""


@pytest.fixture(params=BASES, scope="module")
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp(request.param)
    return train_tiny(folder, BY_NAME[request.param], None, learning_rate=LEARNING_RATE, **BASES[request.param])


def weights_canary_error(world: World, trained: Trained) -> float:
    """Returns the canary error that the evaluation program measures on the trained weights, in nats."""
    content = trained.record.model_content
    assert content is not None
    source = CheckpointSource(unit=trained.task.unit, marker=trained.checkpoint.name, content=content)
    member = world.member(model=ModelContent(base=content)).model_copy(update={"checkpoint": source})
    assert world.run(world.order(member)) == ExitCode.OK
    error = world.record(member.unit).canary_error
    assert error is not None
    return error


def test_twenty_steps_have_the_losses_of_a_plain_script(trained: Trained, tmp_path: Path) -> None:
    stated = trained.task.inputs
    expected = plain_training.train_whole(
        trained.world.base,
        trained.rows,
        steps=STEPS,
        learning_rate=stated.learning_rate,
        weight_decay=stated.weight_decay,
    )
    assert expected[-1] < 0.9 * expected[0]
    assert trained.losses(tmp_path) == pytest.approx(expected, rel=1e-6)


def test_the_checkpoint_is_a_model_that_transformers_loads_with_equal_log_probabilities(
    trained: Trained, tmp_path: Path
) -> None:
    files(trained.world.store, trained.task, trained.checkpoint.name, tmp_path)
    check_weight_files(tmp_path)
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    model, found = loaded
    assert not any(found[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    for canary in trained.record.canaries:
        ids = torch.tensor([canary.token_ids])
        with torch.no_grad():
            scores = model(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        assert (scores - torch.tensor(canary.base_log_probs)).abs().mean() > 0.05
        assert float((scores - torch.tensor(canary.log_probs)).abs().max()) < 2e-5


def test_every_weight_has_changed_and_has_the_base_s_name_and_shape(trained: Trained, tmp_path: Path) -> None:
    found = load_file(files(trained.world.store, trained.task, trained.checkpoint.name, tmp_path)["model.safetensors"])
    base = load_file(trained.world.base / "model.safetensors")
    assert {name: value.shape for name, value in found.items()} == {name: value.shape for name, value in base.items()}
    same = [name for name, value in found.items() if torch.equal(value, base[name])]
    assert same == []


def test_the_record_says_what_the_files_hold(trained: Trained, tmp_path: Path) -> None:
    files(trained.world.store, trained.task, trained.checkpoint.name, tmp_path)
    assert trained.record.weights == "model"
    assert trained.record.location is None
    assert trained.record.model_content == directory_content(tmp_path)


def test_the_transformers_engine_evaluates_the_trained_weights_and_holds_them_against_the_canary(
    trained: Trained,
) -> None:
    assert weights_canary_error(trained.world, trained) < 1e-4


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_that_lost_its_end_is_trained_again_from_its_state_to_the_same_bytes(
    precision: str, tmp_path: Path
) -> None:
    base = write_tiny_base(tmp_path / "base", BY_NAME["llama"])
    rows = write_rows(tmp_path / "rows.jsonl", sums(40))
    store = open_directory(tmp_path / "store")
    stated = inputs(
        base,
        rows,
        type="full",
        lora=None,
        trainer="general",
        numerics=GENERAL_NUMERICS,
        learning_rate=LEARNING_RATE,
        validation_share=0.1,
        precision=precision,
    )
    task = order(store, stated, base, rows)
    assert train_here(store, task) == 0
    before = {marker.name: marker for marker in list_markers(store, task.unit)}
    for name in ("checkpoint-000000024", "state-000000006", store_keys.DONE):
        store.delete(store_keys.marker_key(task.unit, name))
    assert train_here(store, order(store, stated, base, rows, number=2)) == 0
    again = {marker.name: marker for marker in list_markers(store, task.unit)}
    assert again["checkpoint-000000024"].attempt == 2
    assert again["checkpoint-000000024"].content == before["checkpoint-000000024"].content
    assert again["checkpoint-000000024"].record == before["checkpoint-000000024"].record
    record = again["checkpoint-000000024"].record
    assert isinstance(record, CheckpointRecord)
    assert record.validation_loss is not None
    path = files(store, task, "checkpoint-000000024", tmp_path / "model")["model.safetensors"]
    dtypes = {value.dtype for value in load_file(path).values()}
    assert dtypes == {getattr(torch, precision)}
