from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from tests.evaluate.models import edit_adapter, write_adapter
from workloads.engines.base import Adapter, BadAdapter, BadBase
from workloads.engines.merged_weights import CHUNK_BYTES, MergedWeights, check_finite
from workloads.engines.transformers.adapter_merge import MergedAdapter
from workloads.models.adapters import WEIGHTS, check_adapter
from workloads.models.shapes import read_shapes

CPU = torch.device("cpu")


def merged(base: Path) -> MergedWeights:
    return MergedWeights.open(base, read_shapes(base), torch.float32, CPU)


def adapter_at(base: Path, directory: Path, seed: int, only: str = "") -> Adapter:
    return check_adapter(f"{seed}{only}", write_adapter(directory, base, seed=seed, only=only), read_shapes(base))


def by_transformers(base: Path, adapter: Adapter, folder: Path) -> dict[str, Tensor]:
    """The same merge, done in a transformers model and saved by it."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    MergedAdapter(model, read_shapes(base)).merge(adapter)
    model.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("kind", ["dense", "moe"])
@pytest.mark.parametrize("only", ["", "self_attn", "mlp"])
def test_the_merged_weights_are_those_of_a_transformers_model(
    kind: str, only: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    base: Path = request.getfixturevalue(kind)
    adapter = adapter_at(base, tmp_path / "adapter", 1, only)
    found, expected = dict(merged(base).with_adapter(adapter)), by_transformers(base, adapter, tmp_path / "model")
    pristine = load_file(base / "model.safetensors")
    assert set(found) == {name for name in expected if "_proj.weight" in name and only in name}
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name])
        assert not torch.equal(tensor, pristine[name])


def test_weights_that_the_previous_adapter_changed_are_restored_bit_by_bit(moe: Path, tmp_path: Path) -> None:
    pristine, weights = load_file(moe / "model.safetensors"), merged(moe)
    everywhere = adapter_at(moe, tmp_path / "all", 1)
    attention = adapter_at(moe, tmp_path / "attention", 2, "self_attn")
    before = dict(weights.with_adapter(everywhere))
    after = dict(weights.with_adapter(attention))
    assert set(after) == set(before)
    assert all(torch.equal(tensor, pristine[name]) == ("self_attn" not in name) for name, tensor in after.items())
    back = dict(weights.with_adapter(None))
    assert set(back) == {name for name in before if "self_attn" in name}
    assert all(torch.equal(tensor, pristine[name]) for name, tensor in back.items())
    assert not dict(weights.with_adapter(None))


def test_a_merge_that_was_cut_off_is_given_back_too(moe: Path, tmp_path: Path) -> None:
    weights = merged(moe)
    next(weights.with_adapter(adapter_at(moe, tmp_path / "all", 1)))
    assert len(dict(weights.with_adapter(None))) == len(read_shapes(moe).linear())


def test_layers_that_an_engine_fuses_come_together_and_with_their_bias(dense: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    tensors = load_file(dense / "model.safetensors")
    for name in [name for name in tensors if name.endswith(("q_proj.weight", "k_proj.weight"))]:
        tensors[name.replace(".weight", ".bias")] = torch.randn(tensors[name].shape[0])
    save_file(tensors, base / "model.safetensors")
    (base / "config.json").write_bytes((dense / "config.json").read_bytes())
    names = list(dict(merged(base).with_adapter(adapter_at(base, tmp_path / "adapter", 1, "q_proj"))))
    first = {name.removeprefix("model.layers.0.self_attn.") for name in names if ".layers.0." in name}
    assert first == {"q_proj.bias", "q_proj.weight", "k_proj.bias", "k_proj.weight", "v_proj.weight"}
    assert len(names) == 3 * len(first)


def test_a_base_without_a_layer_of_its_own_is_refused(moe: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((moe / "config.json").read_bytes())
    tensors = load_file(moe / "model.safetensors")
    del tensors["model.layers.1.mlp.experts.2.up_proj.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(BadBase, match=r"no tensor `model\.layers\.1\.mlp\.experts\.2\.up_proj\.weight`"):
        merged(tmp_path)


def base_of(directory: Path, plain: Path, *files: dict[str, Tensor]) -> Path:
    directory.mkdir()
    (directory / "config.json").write_bytes((plain / "config.json").read_bytes())
    for number, tensors in enumerate(files):
        save_file(tensors, directory / (f"model-{number}.safetensors" if len(files) > 1 else "model.safetensors"))
    return directory


def test_a_bias_may_stand_in_another_file_than_its_weight(dense: Path, tmp_path: Path) -> None:
    tensors = load_file(dense / "model.safetensors")
    biases = {
        name.replace(".weight", ".bias"): torch.randn(tensor.shape[0])
        for name, tensor in tensors.items()
        if name.endswith("q_proj.weight")
    }
    base = base_of(tmp_path / "base", dense, biases, tensors)
    found = dict(merged(base).with_adapter(adapter_at(base, tmp_path / "adapter", 1, "q_proj")))
    assert all(torch.equal(found[name], bias) for name, bias in biases.items())
    assert len(found) == 3 * 4


def test_sums_have_the_dtype_of_the_engine_and_not_of_the_files(dense: Path, tmp_path: Path) -> None:
    tensors = {name: tensor.bfloat16() for name, tensor in load_file(dense / "model.safetensors").items()}
    base = base_of(tmp_path / "base", dense, tensors)
    adapter = adapter_at(base, tmp_path / "adapter", 1, "o_proj")
    expected = by_transformers(base, adapter, tmp_path / "model")
    for name, tensor in merged(base).with_adapter(adapter):
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, expected[name])


def test_a_quantised_base_is_refused(dense: Path, tmp_path: Path) -> None:
    tensors = load_file(dense / "model.safetensors")
    scaled = tensors | {"model.layers.0.self_attn.q_proj.weight_scale": torch.ones(1)}
    packed = {name.replace("q_proj.weight", "q_proj.qweight"): tensor for name, tensor in tensors.items()}
    coded = {name: t.to(torch.float8_e4m3fn) if "q_proj" in name else t for name, t in tensors.items()}
    for number, wrong in enumerate((scaled, packed, coded)):
        with pytest.raises(BadBase, match=r"q_proj.* is not the plain weight or bias"):
            merged(base_of(tmp_path / str(number), dense, wrong))


def test_it_takes_room_for_chunks_for_modules_under_way_and_for_the_largest_twice_more(
    moe: Path, tmp_path: Path
) -> None:
    experts, tensors = 4 * 3 * 64 * 32 * 4, load_file(moe / "model.safetensors")
    assert merged(moe).room_bytes() == 3 * experts + 3 * CHUNK_BYTES
    in_half = MergedWeights.open(moe, read_shapes(moe), torch.bfloat16, CPU)
    assert in_half.room_bytes() == 3 * experts + 3 * CHUNK_BYTES, "what is given back comes as it is in the files"
    down, rest = ({n: x for n, x in tensors.items() if ("down_proj" in n) == wanted} for wanted in (True, False))
    torn = merged(base_of(tmp_path / "torn", moe, down, rest)).room_bytes()
    assert torn == experts * 5 // 3 + 2 * experts + 3 * CHUNK_BYTES


def test_files_are_read_in_chunks_of_which_each_holds_a_tensor_at_least(
    moe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = adapter_at(moe, tmp_path / "adapter", 1)
    expected = dict(merged(moe).with_adapter(adapter))
    monkeypatch.setattr("workloads.engines.merged_weights.CHUNK_BYTES", 1)
    assert merged(moe).room_bytes() < CHUNK_BYTES
    found = dict(merged(moe).with_adapter(adapter))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_an_adapter_with_infinity_or_cut_short_is_bad(dense: Path, tmp_path: Path) -> None:
    adapter = adapter_at(dense, tmp_path, 1)
    check_finite(adapter)
    edit_adapter(
        tmp_path, lambda t: t["base_model.model.model.layers.1.mlp.up_proj.lora_A.weight"][2, 3].fill_(torch.inf)
    )
    with pytest.raises(BadAdapter, match=r"layers\.1\.mlp\.up_proj\.lora_A\.weight` holds NaN or infinity"):
        check_finite(adapter)
    (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:-50])
    with pytest.raises(BadAdapter, match="cannot be read"):
        check_finite(adapter)
