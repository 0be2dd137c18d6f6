"""The output and the refusals of full fine-tuning, without a training."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from workloads.models.memory import gpu_bytes, parameters_of, training_bytes
from workloads.models.weight_files import INDEX, check_weight_files
from workloads.train.general import full
from workloads.train.general.memory import check_memory
from workloads.train.model import BadModel


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"torch_dtype": "float32", "vocab_size": 8}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "README.md").write_text("words")
    save_file({"a": torch.zeros(4, 4), "b": torch.zeros(8)}, folder / "model.safetensors")
    return folder


def test_a_model_larger_than_one_file_is_written_to_several_with_an_index(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(full, "LARGEST_FILE_BYTES", 40)
    tensors = {name: torch.rand(size) for name, size in (("a", (4, 4)), ("b", (8,)), ("c", (8,)), ("d", (2,)))}
    folder = tmp_path / "out"
    folder.mkdir()
    paths = full.write_model(tensors, base, folder, "bfloat16")
    check_weight_files(folder)
    assert sorted(paths) == [
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        INDEX,
        "tokenizer.json",
    ]
    written = {
        name: value
        for path in paths.values()
        if path.suffix == ".safetensors"
        for name, value in load_file(path).items()
    }
    assert all(torch.equal(written[name], value.bfloat16()) for name, value in tensors.items())
    assert json.loads(paths["config.json"].read_text()) == {"torch_dtype": "bfloat16", "vocab_size": 8}
    where = json.loads(paths[INDEX].read_text())["weight_map"]
    assert where["a"] == "model-00001-of-00002.safetensors"
    assert where["d"] == "model-00002-of-00002.safetensors"


def test_the_base_s_index_is_not_taken_over(base: Path, tmp_path: Path) -> None:
    (base / INDEX).write_text("{}")
    folder = tmp_path / "out"
    folder.mkdir()
    paths = full.write_model({"a": torch.ones(4, 4)}, base, folder, "float32")
    assert sorted(paths) == ["config.json", "model.safetensors", "tokenizer.json"]


def test_a_training_that_does_not_fit_a_device_is_refused_with_both_sizes(base: Path) -> None:
    assert parameters_of(base) == 24
    assert training_bytes(24, "full", "float32") == 16 * 24
    assert training_bytes(24, "full", "bfloat16") == 18 * 24
    assert training_bytes(24, "lora", "bfloat16") == 2 * 24
    check_memory(2**30, 2**30)
    check_memory(2**40, None)
    with pytest.raises(BadModel, match=r"need 16\.0 GiB of each device, which has 10\.0 GiB usable"):
        check_memory(16 * 2**30, 10 * 2**30)


@pytest.mark.parametrize(
    ("name", "known"), [("NVIDIA H200", True), ("nvidia-h200-sxm", True), ("NVIDIA H100", False), ("cpu", False)]
)
def test_only_gpus_with_one_size_of_memory_are_known_by_name(name: str, known: bool) -> None:
    assert (gpu_bytes(name) is not None) == known
