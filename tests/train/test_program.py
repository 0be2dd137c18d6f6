"""Whole attempts in this process, on a dense base and a mixture of experts."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.train.world import (
    END_OF_TEXT,
    THINK_CLOSE,
    environment,
    failure,
    files,
    inputs,
    open_directory,
    order,
    sums,
    train_here,
    write_base,
    write_rows,
)
from workloads.api import store_keys
from workloads.api.records import CheckpointRecord, ExitCode, Marker, StateRecord, TrainRecord, content_of
from workloads.api.tasks import TrainTask
from workloads.api.units import NUMERICS, Lora
from workloads.program import Context, run_program
from workloads.storage.base import Store
from workloads.storage.markers import list_markers, read_marker
from workloads.train.__main__ import lead
from workloads.train.adapter_files import CONFIG, WEIGHTS, misfits
from workloads.train.metrics import from_lines

pytestmark = pytest.mark.slow
MOE_LORA = Lora(rank=4, alpha=8.0, target=("attention", "experts"))


class Trained:
    def __init__(self, store: Store, task: TrainTask, base: Path, folder: Path) -> None:
        self.store, self.task, self.base, self.folder = store, task, base, folder
        self.markers: dict[str, Marker] = {marker.name: marker for marker in list_markers(store, task.unit)}

    def files(self, marker: str) -> dict[str, Path]:
        return files(self.store, self.task, marker, self.folder / marker)

    def checkpoint(self, samples: int) -> CheckpointRecord:
        record = self.markers[f"checkpoint-{samples:09d}"].record
        assert isinstance(record, CheckpointRecord)
        return record

    def done(self) -> TrainRecord:
        record = self.markers["done"].record
        assert isinstance(record, TrainRecord)
        return record


def attempt(folder: Path, base: Path, data: Path, **changes: Any) -> Trained:
    store = open_directory(folder / "store")
    task = order(store, inputs(base, data, **changes), base, data)
    assert train_here(store, task) == 0
    return Trained(store, task, base, folder)


@pytest.fixture(scope="module")
def trained(dense: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return attempt(tmp_path_factory.mktemp("trained"), dense, rows, validation_share=0.1)


@pytest.fixture(scope="module")
def trained_moe(moe: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return attempt(tmp_path_factory.mktemp("trained"), moe, rows, lora=MOE_LORA)


def test_checkpoints_stand_at_the_stated_samples_with_the_state_they_came_from(trained: Trained) -> None:
    assert sorted(trained.markers) == [
        "checkpoint-000000008",
        "checkpoint-000000024",
        "done",
        "state-000000002",
        "state-000000006",
    ]
    assert trained.markers["checkpoint-000000008"].parent == "state-000000002"
    assert trained.markers["state-000000006"].parent == "state-000000002"
    assert trained.markers["state-000000002"].parent is None
    assert trained.markers["state-000000006"].record == StateRecord(step=6, samples=24)


def test_a_checkpoint_says_what_it_is(trained: Trained) -> None:
    first, last = trained.checkpoint(8), trained.checkpoint(24)
    assert (first.samples, first.step, last.samples, last.step) == (8, 2, 24, 6)
    assert first.learning_rate is not None
    assert last.learning_rate is not None
    assert 0 < last.learning_rate < first.learning_rate
    assert first.loss is not None
    assert last.loss is not None
    assert last.loss < first.loss
    assert first.validation_loss is not None
    assert last.validation_loss is not None
    assert last.validation_loss < first.validation_loss


def test_the_metrics_tell_every_step(trained: Trained) -> None:
    metrics = from_lines(trained.files("done")["metrics.jsonl"].read_bytes())
    assert [metric.step for metric in metrics] == [1, 2, 3, 4, 5, 6]
    assert [metric.samples for metric in metrics] == [4, 8, 12, 16, 20, 24]
    data = trained.done().data
    assert data is not None
    assert sum(metric.tokens for metric in metrics) == data.total_tokens == trained.checkpoint(24).tokens
    assert sum(metric.supervised_tokens for metric in metrics) == data.supervised_tokens
    of_first = metrics[:2]
    mean = sum(metric.loss * metric.supervised_tokens for metric in of_first) / sum(
        metric.supervised_tokens for metric in of_first
    )
    assert trained.checkpoint(8).loss == pytest.approx(mean)
    assert all(metric.gradient_norm > 0 and metric.tokens_per_second > 0 for metric in metrics)


def test_the_record_names_the_end_token_and_what_it_ran_on(trained: Trained) -> None:
    record = trained.done()
    assert (record.end_token, record.end_token_id) == ("<|endoftext|>", END_OF_TEXT)
    assert (record.samples, record.steps, record.devices) == (24, 6, 1)
    assert record.device.startswith("cpu")
    assert torch.__version__.startswith(record.versions["torch"])
    assert record.final_loss == pytest.approx(from_lines(trained.files("done")["metrics.jsonl"].read_bytes())[-1].loss)


def test_equal_adapters_have_equal_files(trained: Trained, dense: Path, rows: Path, tmp_path: Path) -> None:
    again = attempt(tmp_path, dense, rows, validation_share=0.1)
    for samples in (8, 24):
        name = f"checkpoint-{samples:09d}"
        assert again.markers[name].content == trained.markers[name].content
        assert again.markers[name].record == trained.markers[name].record


def test_a_unit_that_is_done_is_not_trained_again(dense: Path, rows: Path, tmp_path: Path) -> None:
    first = attempt(tmp_path, dense, rows)
    again = order(first.store, first.task.inputs, dense, rows, number=2)
    assert train_here(first.store, again) == 0
    assert {marker.name: marker for marker in list_markers(first.store, again.unit)} == first.markers


def with_peft(trained: Trained, samples: int) -> Any:
    from peft import PeftModel

    folder = trained.files(f"checkpoint-{samples:09d}")[WEIGHTS].parent
    base = AutoModelForCausalLM.from_pretrained(trained.base, dtype=torch.float32)
    return PeftModel.from_pretrained(base, folder)


def of_canaries(model: Any, record: CheckpointRecord) -> list[tuple[float, ...]]:
    found = []
    for canary in record.canaries:
        ids = torch.tensor(canary.token_ids)
        with torch.no_grad():
            logits = model(ids[None]).logits[0].log_softmax(-1)
        found.append(tuple(float(value) for value in logits[:-1].gather(1, ids[1:, None])[:, 0]))
    return found


def test_peft_loads_the_published_adapter_and_gives_the_trainers_log_probabilities(trained: Trained) -> None:
    model = with_peft(trained, 24)
    record = trained.checkpoint(24)
    assert len(record.canaries) == 4
    for canary, theirs in zip(record.canaries, of_canaries(model, record), strict=True):
        assert theirs == pytest.approx(canary.log_probs, abs=1e-4)
        assert max(abs(a - b) for a, b in zip(canary.log_probs, canary.base_log_probs, strict=True)) > 0.1
    with model.disable_adapter():
        for canary, theirs in zip(record.canaries, of_canaries(model, record), strict=True):
            assert theirs == pytest.approx(canary.base_log_probs, abs=1e-4)


def test_the_adapter_merged_into_the_weights_gives_the_trainers_log_probabilities(trained: Trained) -> None:
    record = trained.checkpoint(24)
    merged = with_peft(trained, 24).merge_and_unload()
    for canary, theirs in zip(record.canaries, of_canaries(merged, record), strict=True):
        assert theirs == pytest.approx(canary.log_probs, abs=1e-4)


def test_an_adapter_of_experts_merged_expert_by_expert_gives_the_trainers_log_probabilities(
    trained_moe: Trained,
) -> None:
    record = trained_moe.checkpoint(24)
    tensors = load_file(trained_moe.files("checkpoint-000000024")[WEIGHTS])
    model = AutoModelForCausalLM.from_pretrained(trained_moe.base, dtype=torch.float32)
    scale = MOE_LORA.alpha / MOE_LORA.rank
    for key in [key for key in tensors if ".lora_A." in key]:
        delta = scale * tensors[key.replace("lora_A", "lora_B")] @ tensors[key]
        path = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        head, _, projection = path.rpartition(".")
        with torch.no_grad():
            if ".experts." not in path:
                model.get_parameter(f"{path}.weight").add_(delta)
                continue
            owner, _, expert = head.rpartition(".")
            if projection == "down_proj":
                model.get_parameter(f"{owner}.down_proj")[int(expert)] += delta
            else:
                size = delta.shape[0]
                start = 0 if projection == "gate_proj" else size
                model.get_parameter(f"{owner}.gate_up_proj")[int(expert), start : start + size] += delta
    for canary, theirs in zip(record.canaries, of_canaries(model, record), strict=True):
        assert theirs == pytest.approx(canary.log_probs, abs=1e-4)
        assert max(abs(a - b) for a, b in zip(canary.log_probs, canary.base_log_probs, strict=True)) > 0.1


def test_every_expert_has_its_own_keys(trained_moe: Trained) -> None:
    keys = set(load_file(trained_moe.files("checkpoint-000000024")[WEIGHTS]))
    expected = {
        f"base_model.model.model.layers.{layer}.mlp.experts.{expert}.{projection}.lora_{factor}.weight"
        for layer in range(2)
        for expert in range(4)
        for projection in ("gate_proj", "up_proj", "down_proj")
        for factor in "AB"
    }
    assert expected <= keys
    assert not any(".mlp.gate.lora" in key for key in keys)
    config = json.loads(trained_moe.files("checkpoint-000000024")[CONFIG].read_text())
    assert config["r"] == 4
    assert config["lora_alpha"] == 8
    assert {"q_proj", "gate_proj", "down_proj"} <= set(config["target_modules"])


def test_an_adapter_that_the_base_has_no_place_for_is_found_before_training(dense: Path, moe: Path) -> None:
    prefix = "base_model.model.model.layers.0"
    good = {f"{prefix}.self_attn.q_proj.lora_A.weight": torch.zeros(4, 32)}
    assert misfits(good, dense) == []
    assert "shape" in misfits({f"{prefix}.self_attn.q_proj.lora_B.weight": torch.zeros(32, 4)}, dense)[0]
    assert (
        "no model.layers.0.mlp.experts"
        in misfits({f"{prefix}.mlp.experts.0.up_proj.lora_A.weight": torch.zeros(4, 32)}, dense)[0]
    )
    assert misfits({f"{prefix}.mlp.experts.3.up_proj.lora_B.weight": torch.zeros(16, 4)}, moe) == []
    assert misfits({f"{prefix}.mlp.experts.4.up_proj.lora_B.weight": torch.zeros(16, 4)}, moe) != []


def test_a_special_token_that_the_base_cannot_produce_is_warned_of_by_name(rows: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    base = write_base(tmp_path / "base")
    weights = load_file(base / "model.safetensors")
    weights["lm_head.weight"][THINK_CLOSE] *= 1e-3
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    warnings = attempt(tmp_path, base, rows).done().warnings
    assert any(warning.startswith("UntrainedToken: </think> (token 260)") for warning in warnings)
    assert not any(warning.startswith("UntrainedToken: <|endoftext|>") for warning in warnings)


@pytest.mark.parametrize(
    ("changes", "exit_code", "reason", "message"),
    [
        ({"samples": 60, "checkpoints": ()}, ExitCode.BAD_DATA, "BadData", "40 rows are left of 40"),
        ({"checkpoints": (6,)}, ExitCode.BAD_CONFIGURATION, "BadSchedule", "a checkpoint at 6 samples"),
        ({"numerics": "train-0"}, ExitCode.BAD_CONFIGURATION, "OtherVersion", "the task asks for train-0"),
        ({"sequence_tokens": 1024}, ExitCode.BAD_CONFIGURATION, "BadModel", "max_position_embeddings 512"),
        ({"lora": MOE_LORA}, ExitCode.BAD_CONFIGURATION, "BadModel", "'experts': Qwen3ForCausalLM has no such layers"),
    ],
)
def test_a_task_that_cannot_be_trained_ends_with_its_exit_code_and_the_reason(
    changes: dict[str, Any],
    exit_code: int,
    reason: str,
    message: str,
    dense: Path,
    rows: Path,
    tmp_path: Path,
) -> None:
    store = open_directory(tmp_path / "store")
    task = order(store, inputs(dense, rows, **changes), dense, rows)
    assert train_here(store, task) == exit_code
    left = failure(store, task)
    assert (left.exit_code, left.reason) == (exit_code, reason)
    assert message in left.message


def test_a_tokenizer_of_another_model_is_refused(rows: Path, tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"vocab_size": 200}))
    store = open_directory(tmp_path / "store")
    task = order(store, inputs(base, rows), base, rows)
    assert train_here(store, task) == ExitCode.BAD_CONFIGURATION
    assert "the base's embedding has 200 rows" in failure(store, task).message


def test_a_base_whose_weights_cannot_be_found_is_refused_once(rows: Path, tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    (base / "model.safetensors").rename(base / "model-00001-of-00001.safetensors")
    store = open_directory(tmp_path / "store")
    task = order(store, inputs(base, rows), base, rows)
    assert train_here(store, task) == ExitCode.BAD_CONFIGURATION
    assert "has neither model.safetensors nor model.safetensors.index.json" in failure(store, task).message


@pytest.mark.parametrize("trainer", ["fast", "general"])
def test_a_base_whose_weights_are_cut_is_refused_once(trainer: str, rows: Path, tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    whole = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(whole[:-1])
    store = open_directory(tmp_path / "store")
    task = order(store, inputs(base, rows, trainer=trainer, numerics=NUMERICS[trainer]), base, rows)
    assert train_here(store, task) == ExitCode.BAD_CONFIGURATION
    assert "it is cut short or damaged; copy the file again" in failure(store, task).message


def test_a_training_that_diverges_ends_at_the_step_and_commits_nothing_after_it(
    dense: Path, rows: Path, tmp_path: Path
) -> None:
    store = open_directory(tmp_path / "store")
    stated = inputs(dense, rows, learning_rate=1e30, gradient_clip=0.0, schedule="constant", checkpoints=(24,))
    task = order(store, stated, dense, rows)
    assert train_here(store, task) == ExitCode.DIVERGED
    left = failure(store, task)
    assert left.reason == "Diverged"
    assert left.message.startswith("step 2: loss nan")
    assert list_markers(store, task.unit) == []


def test_a_changed_data_file_is_refused(dense: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "d.jsonl", sums(40))
    store = open_directory(tmp_path / "store")
    task = order(store, inputs(dense, data), dense, data)
    write_rows(data, sums(40, first=1))
    assert train_here(store, task) == ExitCode.BAD_DATA
    assert failure(store, task).reason == "InputChanged"


def of_another_attempt(marker: Marker, **changed: Any) -> Marker:
    """The marker of an attempt that committed other bytes."""
    first, *rest = marker.files
    files = (first.model_copy(update={"sha256": "0" * 64}), *rest)
    other = {"files": files, "content": content_of(files), "attempt": 7}
    return marker.model_copy(update={**other, **changed}).with_checksum()


def test_a_standing_checkpoint_that_does_not_come_out_again_ends_the_unit(
    trained: Trained, dense: Path, rows: Path, tmp_path: Path
) -> None:
    store = open_directory(tmp_path / "store")
    task = order(store, trained.task.inputs, dense, rows)
    standing = of_another_attempt(trained.markers["checkpoint-000000008"])
    store.put_new(store_keys.marker_key(task.unit, standing.name), standing.to_json())
    assert train_here(store, task) == ExitCode.BAD_DATA
    assert failure(store, task).reason == "StatesLost"
    assert read_marker(store, task.unit, "done") is None
    assert read_marker(store, task.unit, "checkpoint-000000024") is None


class ContestedStore:
    """A store in which another attempt commits `rivals` at the moment when this one has written the key `after`."""

    def __init__(self, store: Store, after: str, rivals: Marker) -> None:
        self._store, self._after, self._rivals = store, after, rivals
        self.written: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put_new(self, key: str, data: bytes) -> str:
        etag = self._store.put_new(key, data)
        self.written.append(key)
        if key == self._after:
            self._store.put_new(store_keys.marker_key(self._rivals.unit, self._rivals.name), self._rivals.to_json())
        return etag

    def upload(self, key: str, path: Path, sha256: str) -> None:
        self._store.upload(key, path, sha256)
        self.written.append(key)


def test_an_attempt_whose_rival_commits_a_checkpoint_meanwhile_ends_superseded_and_writes_nothing_after(
    trained: Trained, dense: Path, rows: Path, tmp_path: Path
) -> None:
    store = open_directory(tmp_path / "store")
    task = order(store, inputs(dense, rows, checkpoints=(8, 16, 24)), dense, rows)
    rivals = of_another_attempt(trained.markers["checkpoint-000000008"], unit=task.unit, name="checkpoint-000000016")
    contested = ContestedStore(store, store_keys.marker_key(task.unit, "checkpoint-000000008"), rivals)

    def body(context: Context[TrainTask]) -> None:
        lead(replace(context, store=contested))

    assert run_program(TrainTask, body, [task.key], environment(store)) == ExitCode.SUPERSEDED
    assert failure(store, task).reason == "Superseded"
    assert contested.written[-1] == store_keys.marker_key(task.unit, "state-000000004")
    markers = {marker.name: marker for marker in list_markers(store, task.unit)}
    assert sorted(markers) == ["checkpoint-000000008", "checkpoint-000000016", "state-000000002", "state-000000004"]
    assert markers["checkpoint-000000016"] == rivals
    assert not [key for key in contested.written if "checkpoint-000000016" in key]


def test_bfloat16_adapters_are_saved_in_bfloat16(moe: Path, rows: Path, tmp_path: Path) -> None:
    trained = attempt(tmp_path, moe, rows, lora=MOE_LORA, precision="bfloat16", samples=8, checkpoints=(8,))
    tensors = load_file(trained.files("checkpoint-000000008")[WEIGHTS])
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    loss = trained.checkpoint(8).loss
    assert loss is not None
    assert math.isfinite(loss)
