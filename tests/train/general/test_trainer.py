"""The refusals of the general trainer, and that an interrupted run continues to the same bytes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models.tiny import write_tiny_base
from tests.train.world import failure, files, inputs, open_directory, order, sums, train_here, write_rows
from workloads.api import store_keys
from workloads.api.records import CheckpointRecord, ExitCode, TrainRecord
from workloads.api.units import GENERAL_NUMERICS, Lora
from workloads.models import FAMILIES
from workloads.storage.markers import list_markers

LLAMA, PHI3, MIXTRAL = (FAMILIES[f"{name}ForCausalLM"] for name in ("Llama", "Phi3", "Mixtral"))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("llama"), LLAMA)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data") / "rows.jsonl", sums(40))


def stated_for(base: Path, rows: Path, **changes: Any) -> Any:
    return inputs(base, rows, **({"trainer": "general", "numerics": GENERAL_NUMERICS} | changes))


def refusal(base: Path, rows: Path, folder: Path, **changes: Any) -> str:
    """Returns the message with which a training is refused as badly configured."""
    store = open_directory(folder / "store")
    task = order(store, stated_for(base, rows, **changes), base, rows)
    assert train_here(store, task) == ExitCode.BAD_CONFIGURATION
    return failure(store, task).message


def lora(*target: str, **changes: Any) -> Lora:
    return Lora(rank=4, alpha=8.0, target=target, **changes)


@pytest.mark.slow
def test_a_run_that_lost_its_end_is_trained_again_from_its_state_to_the_same_bytes(
    llama: Path, rows: Path, tmp_path: Path
) -> None:
    """With dropout: random numbers depend on the step, not on earlier random numbers."""
    store = open_directory(tmp_path / "store")
    stated = stated_for(llama, rows, lora=lora("q_proj", "down_proj", dropout=0.2, rslora=True), validation_share=0.1)
    task = order(store, stated, llama, rows)
    assert train_here(store, task) == 0
    markers = {marker.name: marker for marker in list_markers(store, task.unit)}
    for name in ("checkpoint-000000024", "state-000000006", store_keys.DONE):
        store.delete(store_keys.marker_key(task.unit, name))
    assert train_here(store, order(store, stated, llama, rows, number=2)) == 0
    again = {marker.name: marker for marker in list_markers(store, task.unit)}
    assert again["checkpoint-000000024"].attempt == 2
    assert again["checkpoint-000000024"].content == markers["checkpoint-000000024"].content
    assert again["checkpoint-000000024"].record == markers["checkpoint-000000024"].record
    record = again["checkpoint-000000024"].record
    assert isinstance(record, CheckpointRecord)
    assert record.validation_loss is not None
    config = json.loads(files(store, task, "checkpoint-000000024", tmp_path / "a")["adapter_config.json"].read_text())
    assert (config["lora_dropout"], config["use_rslora"]) == (0.2, True)
    assert config["target_modules"] == ["down_proj", "q_proj"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (("q_proj", "w_proj"), "has no linear layer w_proj; it has down_proj, gate_proj, k_proj, o_proj"),
        (("experts",), "a LlamaForCausalLM has none; it has attention, mlp"),
        (("lm_head",), "has no linear layer lm_head"),
    ],
)
def test_a_target_of_which_a_name_is_missing_is_refused(
    target: tuple[str, ...], message: str, llama: Path, rows: Path, tmp_path: Path
) -> None:
    assert message in refusal(llama, rows, tmp_path, lora=lora(*target))


def test_names_of_another_architecture_are_refused_where_projections_are_fused(rows: Path, tmp_path: Path) -> None:
    base = write_tiny_base(tmp_path / "phi3", PHI3)
    message = refusal(base, rows, tmp_path, lora=lora("q_proj", "o_proj"))
    assert "has no linear layer q_proj; it has down_proj, gate_up_proj, o_proj, qkv_proj" in message


def test_dropout_on_fused_experts_is_refused(rows: Path, tmp_path: Path) -> None:
    base = write_tiny_base(tmp_path / "mixtral", MIXTRAL)
    assert "lora dropout" in refusal(base, rows, tmp_path, lora=lora("experts", dropout=0.1))


def test_weights_that_the_files_lack_are_refused(rows: Path, tmp_path: Path) -> None:
    base = write_tiny_base(tmp_path / "base", LLAMA)
    weights = load_file(base / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    message = refusal(base, rows, tmp_path)
    assert "missing_keys 1, first: model.layers.1.mlp.up_proj.weight" in message


def edit_config(base: Path, **changes: Any) -> None:
    path = base / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_code_of_a_model_s_directory_never_runs(rows: Path, tmp_path: Path) -> None:
    base = write_tiny_base(tmp_path / "base", LLAMA)
    trace = tmp_path / "ran"
    (base / "own.py").write_text(f"open({str(trace)!r}, 'w')\nclass Config: pass\nclass Model: pass\n")
    auto_map = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    edit_config(base, model_type="own", architectures=["OwnForCausalLM"], auto_map=auto_map)
    assert "transformers does not know this model" in refusal(base, rows, tmp_path)
    assert not trace.exists()


def test_a_base_that_transformers_loads_as_another_class_is_refused(rows: Path, tmp_path: Path) -> None:
    base = write_tiny_base(tmp_path / "base", LLAMA)
    edit_config(base, architectures=["LlamaForSequenceClassification"])
    assert "but transformers loads it as LlamaForCausalLM" in refusal(base, rows, tmp_path)


def test_a_quantised_base_is_refused(rows: Path, tmp_path: Path) -> None:
    base = write_tiny_base(tmp_path / "base", LLAMA)
    edit_config(base, quantization_config={"quant_method": "fp8"})
    assert "the base is quantised" in refusal(base, rows, tmp_path)


def test_the_base_s_own_dropout_does_not_make_a_training_random(rows: Path, tmp_path: Path) -> None:
    base = write_tiny_base(tmp_path / "base", LLAMA)
    results = []
    for rate in (0.0, 0.5):
        edit_config(base, attention_dropout=rate)
        store = open_directory(tmp_path / f"store-{rate}")
        task = order(store, stated_for(base, rows, samples=8, checkpoints=(8,)), base, rows)
        assert train_here(store, task) == 0
        path = files(store, task, "checkpoint-000000008", tmp_path / f"files-{rate}")["adapter_model.safetensors"]
        results.append(load_file(path))
    for name, tensor in results[0].items():
        assert torch.equal(tensor, results[1][name])


def test_an_architecture_that_is_in_no_table_is_trained_on_all_its_linear_layers_and_says_so(
    rows: Path, tmp_path: Path
) -> None:
    from transformers import SeedOssConfig, SeedOssForCausalLM

    from tests.models.tiny import TINY_SIZES
    from tests.train.world import write_tokenizer

    torch.manual_seed(0)
    base = tmp_path / "base"
    SeedOssForCausalLM(SeedOssConfig(**(TINY_SIZES | {"head_dim": 16}))).save_pretrained(base)
    write_tokenizer(base)
    message = refusal(base, rows, tmp_path / "kinds", lora=lora("attention"))
    assert "which layers these are in a SeedOssForCausalLM is not known here; state all-linear" in message
    store = open_directory(tmp_path / "store")
    stated = stated_for(base, rows, samples=8, checkpoints=(8,), lora=lora("all-linear"))
    task = order(store, stated, base, rows)
    assert train_here(store, task) == 0
    done = {marker.name: marker for marker in list_markers(store, task.unit)}[store_keys.DONE].record
    assert isinstance(done, TrainRecord)
    assert any("NotInTheTable: SeedOssForCausalLM" in text for text in done.warnings)
    names = load_file(files(store, task, "checkpoint-000000008", tmp_path / "files")["adapter_model.safetensors"])
    assert len(names) == 2 * 2 * 7
