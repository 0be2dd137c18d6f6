import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.evaluate.models import edit_adapter, edit_config, write_adapter
from workloads.engines.base import BadAdapter
from workloads.models.adapters import CONFIG, PREFIX, WEIGHTS, check_adapter
from workloads.models.shapes import read_shapes

QUERY = f"{PREFIX}model.layers.1.self_attn.q_proj"


def refusal(base: Path, directory: Path) -> str:
    with pytest.raises(BadAdapter) as caught:
        check_adapter("a", directory, read_shapes(base))
    return str(caught.value)


@pytest.fixture
def directory(dense: Path, tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "adapter", dense, seed=1)


def test_a_whole_adapter_is_accepted_for_dense_and_expert_layers(dense: Path, moe: Path, tmp_path: Path) -> None:
    for base in (dense, moe):
        for only in ("self_attn", "mlp", ""):
            directory = write_adapter(tmp_path / f"{base.name}{only}", base, seed=1, rank=3, only=only)
            assert check_adapter("name", directory, read_shapes(base)).rank == 3


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t: t.pop(f"{QUERY}.lora_A.weight"), "has only lora_B"),
        (lambda t: t.update({f"{QUERY}.lora_A.weight": t[f"{QUERY}.lora_A.weight"].T}), r"needs \[4, 64\]"),
        (lambda t: t.update({"lm_head.lora_A.weight": torch.zeros(4, 4)}), "is not a LoRA factor"),
        (lambda t: t.update({f"{PREFIX}model.layers.9.mlp.up_proj.lora_A.weight": torch.zeros(4, 64)}), "no linear"),
        (
            lambda t: [t.pop(key) for key in list(t) if "layers.1.self_attn.q_proj" in key],
            "q_proj is changed in 2 of 3",
        ),
        (lambda t: t.clear(), "holds no tensor"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    dense: Path, directory: Path, change: Callable[[dict[str, Any]], Any], complaint: str
) -> None:
    edit_adapter(directory, change)
    with pytest.raises(BadAdapter, match=complaint):
        check_adapter("a", directory, read_shapes(dense))


def test_an_expert_that_is_missing_is_named(moe: Path, tmp_path: Path) -> None:
    directory = write_adapter(tmp_path / "experts", moe, seed=1, only="experts")
    edit_adapter(directory, lambda t: [t.pop(key) for key in list(t) if "layers.2.mlp.experts.3.up_proj" in key])
    assert "model.layers.2.mlp.experts.3.up_proj" in refusal(moe, directory)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "bias"),
        ({"r": None}, "r (null)"),
        ({"lora_alpha": "8"}, 'lora_alpha ("8")'),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern"),
    ],
)
def test_an_adapter_that_is_not_plain_lora_is_refused(
    dense: Path, directory: Path, changes: dict[str, Any], complaint: str
) -> None:
    edit_config(directory, **changes)
    assert complaint in refusal(dense, directory)


def test_factors_in_eight_bits_are_refused(dense: Path, directory: Path) -> None:
    edit_adapter(directory, lambda t: [t.update({key: t[key].to(torch.float8_e4m3fn)}) for key in list(t)[:1]])
    assert "is F8_E4M3, not one of F32, F16, BF16" in refusal(dense, directory)


def test_unreadable_files_are_named(dense: Path, directory: Path) -> None:
    weights, config = directory / WEIGHTS, directory / CONFIG
    whole = weights.read_bytes()
    for spoiled, complaint in [
        (whole[:-7], "bytes where its header says"),
        (whole[:30], "is cut short"),
        (whole[:4], "is not a safetensors file"),
        (b"\x10\0\0\0\0\0\0\0" + b"{" * 16, "is not a safetensors file"),
    ]:
        weights.write_bytes(spoiled)
        assert complaint in refusal(dense, directory)
    weights.unlink()
    assert f"{WEIGHTS} cannot be read" in refusal(dense, directory)
    config.write_text(json.dumps([]))
    assert "is not a JSON object" in refusal(dense, directory)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_adapter_of_plain_peft_computes_what_peft_does_or_is_refused(tmp_path: Path) -> None:
    """Logits here are about 5 in size; without conversion, PiSSA, OLoRA and CorDA would differ by about 2."""
    from tests.evaluate.peft_adapters import outcomes

    for case, found in outcomes(tmp_path):
        if case.words is None:
            assert isinstance(found, float), f"{case.name}: {found}"
            assert found < 1e-4, f"{case.name}: {found}"
        else:
            assert isinstance(found, str), f"{case.name} is accepted, {found} from peft"
            assert case.words in found, f"{case.name}: {found}"


PLAIN_CONFIGS: dict[str, dict[str, Any]] = {
    "0.3.0": {"base_model_name_or_path": "b", "fan_in_fan_out": False, "inference_mode": True, "init_lora_weights": True, "lora_dropout": 0.05, "modules_to_save": None, "enable_lora": None, "merge_weights": False},
    "0.5.0": {"auto_mapping": None, "layers_pattern": None, "layers_to_transform": None, "revision": None},
    "0.7.1": {"rank_pattern": {}, "alpha_pattern": {}, "loftq_config": {}, "megatron_config": None, "megatron_core": "megatron.core"},
    "0.10.0": {"use_rslora": False, "use_dora": False, "layer_replication": None},
    "0.15.2": {"exclude_modules": None, "trainable_token_indices": None, "eva_config": None, "corda_config": None, "lora_bias": False},
    "0.18.0": {"peft_version": "0.18.0", "alora_invocation_tokens": None, "use_qalora": False, "qalora_group_size": 16, "target_parameters": None, "arrow_config": None, "ensure_weight_tying": False},
    "0.21.2": {"use_bdlora": None, "kasa_config": None, "velora_config": None, "monteclora_config": None, "lora_ga_config": None},
    "with a class in place of a task": {"task_type": None, "auto_mapping": {"base_model_class": "Qwen3ForCausalLM", "parent_library": "transformers.models.qwen3"}},
    "of a later version, all new keys empty": {"new_flag": False, "new_config": None, "new_list": [], "new_map": {}, "new_text": ""},
}  # fmt: skip


def test_plain_adapters_of_all_versions_of_peft_are_accepted(dense: Path, directory: Path) -> None:
    config: dict[str, Any] = {}
    for changes in PLAIN_CONFIGS.values():
        config |= changes
        edit_config(directory, **config)
        assert check_adapter("a", directory, read_shapes(dense)).rank == 4


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"new_flag": True}, "new_flag is true"),
        ({"new_size": 0}, "new_size is 0"),
        ({"use_rslora": "yes"}, 'use_rslora ("yes")'),
        ({"init_lora_weights": "loftq"}, "LoftQ's factors belong to a quantised base"),
        ({"init_lora_weights": True, "loftq_config": {"loftq_bits": 4}}, "loftq_config"),
        ({"init_lora_weights": "PISSA"}, "path_initial_model_for_weight_conversion"),
        ({"init_lora_weights": "of_next_year"}, "init_lora_weights is \"of_next_year\""),
        ({"task_type": "SEQ_CLS"}, "only adapters of a causal language model"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out is true"),
        ({"bias": [[[["all"]]]]}, "bias is"),
    ],
)  # fmt: skip
def test_a_setting_that_may_change_the_adapter_is_refused_by_name(
    dense: Path, directory: Path, changes: dict[str, Any], complaint: str
) -> None:
    edit_config(directory, **changes)
    assert complaint in refusal(dense, directory)
