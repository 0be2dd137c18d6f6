import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.evaluate.models import write_adapter, write_moe
from workloads.engines.base import BadFlag, Demands
from workloads.engines.memory import GIB, DoesNotFit, MemoryPlan, available_host_bytes, plan_memory, weight_bytes
from workloads.engines.merged_weights import MergedWeights, least_room_bytes, module_of
from workloads.engines.vllm.config import VllmSettings, capture_sizes, complete, parse_flags, rank_bucket, with_room
from workloads.engines.vllm.fork_server import set_environment
from workloads.engines.vllm.startup import kept_graphs, plan, with_loader
from workloads.models.adapters import WEIGHTS
from workloads.models.shapes import read_shapes, shapes_of

QWEN3_30B_A3B = {
    "hidden_size": 2048,
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "vocab_size": 151936,
    "max_position_embeddings": 32768,
}
"""Source: the model's config.json on the Hugging Face hub."""


def test_the_layers_of_a_model_are_those_of_its_weights(dense: Path, moe: Path) -> None:
    for base in (dense, moe):
        weights = load_file(base / "model.safetensors")
        expected = {
            name.removesuffix(".weight"): tuple(tensor.shape)
            for name, tensor in weights.items()
            if "proj.weight" in name
        }
        assert read_shapes(base).linear() == expected


def test_weights_and_slots_are_what_the_files_hold(dense: Path, tmp_path: Path) -> None:
    tensors = load_file(dense / "model.safetensors").values()
    assert weight_bytes(dense, "float32") == sum(tensor.numel() for tensor in tensors) * 4
    assert weight_bytes(dense, "bfloat16") == sum(tensor.numel() for tensor in tensors) * 2
    assert read_shapes(dense).parameters == sum(tensor.numel() for tensor in tensors if tensor.ndim == 2)
    directory = write_adapter(tmp_path / "adapter", dense, seed=1, rank=4)
    plan = plan_memory(read_shapes(dense), 0, "float32", GIB, 1, 4, 100, 100, rows=16)
    assert plan.adapter_slot == sum(tensor.numel() * 4 for tensor in load_file(directory / WEIGHTS).values())


def test_the_slots_of_an_expert_adapter_take_what_was_measured_on_a_gpu() -> None:
    """The design's figure: 3.3 GB a slot at rank 32 in bfloat16, of Qwen3-30B-A3B's experts."""
    plan = plan_memory(shapes_of(QWEN3_30B_A3B), 61 * 10**9, "bfloat16", 139 * GIB, 5, 32, 4608, 8192, rows=512)
    assert 3.2e9 < plan.adapter_slot < 3.6e9
    assert plan.kv_token == 98304
    plan.check()
    with pytest.raises(DoesNotFit, match="20 adapter slots"):
        plan_memory(shapes_of(QWEN3_30B_A3B), 61 * 10**9, "bfloat16", 79 * GIB, 20, 32, 4608, 8192, rows=512).check()


def test_keys_and_values_in_8_bits_take_half_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = qwen3_30b_a3b(monkeypatch, H200_BYTES, VllmSettings())
    halved = qwen3_30b_a3b(monkeypatch, H200_BYTES, VllmSettings(kv_cache_dtype="fp8"))
    assert (plain.kv_token, halved.kv_token) == (98304, 49152)
    assert plain.fixed == halved.fixed
    assert halved.kv_tokens // 2 == plain.kv_tokens


def test_a_refusal_says_what_is_needed_and_what_to_lower(dense: Path) -> None:
    plan = plan_memory(read_shapes(dense), 10**6, "float32", 2 * 10**6, 1, 4, 100_000, 16, rows=1)
    expected = rf"request of 100000 tokens fits\. .*than {plan.kv_tokens} tokens; a larger device, 0\.1 GiB of it in"
    with pytest.raises(DoesNotFit, match=expected):
        plan.check()
    replace(plan, longest_tokens=plan.kv_tokens).check()


H100_BYTES = 81_559 * 2**20
H200_BYTES = 143_771 * 2**20
"""By NVML."""
QWEN3_30B_A3B_BYTES = 61_064_217_600


def qwen3_30b_a3b(monkeypatch: pytest.MonkeyPatch, gpu: int, settings: VllmSettings, merging: int = 0) -> MemoryPlan:
    """The plan for requests of 2,208 tokens."""
    monkeypatch.setattr("workloads.engines.vllm.startup.gpu_bytes", lambda: gpu)
    settings = complete(settings, Demands(2208, 32, "all"), 32768)
    return plan(settings, shapes_of(QWEN3_30B_A3B), QWEN3_30B_A3B_BYTES, "bfloat16", 2208, True, merging)


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        (VllmSettings(max_loras=8), 480_624),
        (VllmSettings(lora_target="attention"), 749_904),
        (VllmSettings(lora_target="attention", max_loras=10, max_num_seqs=256), int(69.59 * GIB / 98304)),
    ],
    ids=["experts-2048", "rows-512-cold", "attention-warm"],
)
def test_a_plan_is_little_less_than_what_vllm_found_on_an_h200(
    settings: VllmSettings, found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens of keys and values, by the logs in perf/results/evaluate-h200."""
    assert 0.99 * found < qwen3_30b_a3b(monkeypatch, H200_BYTES, settings).kv_tokens <= found


def test_a_refusal_names_the_flags_that_help_with_what_they_take(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = qwen3_30b_a3b(monkeypatch, H100_BYTES, VllmSettings(max_loras=8))
    with pytest.raises(DoesNotFit) as error:
        refused.check()
    told = str(error.value)
    assert "8 adapter slots of 3.14" in told
    assert "merge_adapters: true (takes 65.1 GiB, 4.9 or more of it for merging; such requests at a time: 40)" in told
    assert "max_loras: 4 (takes 72.8 GiB" in told
    assert "tensor_parallel_size: 2, on 2 such GPUs (takes " in told
    assert "a larger device, 85.6 GiB of it in place of 73.3" in told
    assert "tensor_parallel_size: 4" not in told
    assert "budget" not in told, "no budget is small enough"
    for helps in (VllmSettings(merge_adapters=True), VllmSettings(max_loras=4), VllmSettings(tensor_parallel_size=2)):
        qwen3_30b_a3b(monkeypatch, H100_BYTES, helps).check()
    with pytest.raises(DoesNotFit):
        qwen3_30b_a3b(monkeypatch, H100_BYTES, VllmSettings(max_loras=5)).check()


def test_a_plan_for_few_requests_names_what_makes_them_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots of experts leave an H100 memory for two requests of full length; it runs, and states which changes would be
    faster.
    """
    few = qwen3_30b_a3b(monkeypatch, H100_BYTES, VllmSettings())
    few.check()
    assert (few.slots, few.full_length_rows) == (4, 2)
    assert [remedy.partition(" (")[0] for remedy in few.remedies] == [
        "merge_adapters: true",
        "tensor_parallel_size: 2, on 2 such GPUs",
    ]
    assert not qwen3_30b_a3b(monkeypatch, H200_BYTES, VllmSettings()).remedies


def test_a_plan_that_merges_says_what_merging_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = with_room(VllmSettings(merge_adapters=True, max_num_seqs=256), 30 * GIB, H100_BYTES)
    with pytest.raises(DoesNotFit, match=r"GiB: weights 56\.9, merging 30\.0, working") as error:
        qwen3_30b_a3b(monkeypatch, H100_BYTES, settings, merging=30 * GIB).check()
    assert "slots" not in str(error.value)
    assert "max_loras" not in str(error.value)
    assert "tensor_parallel_size: 2, on 2 such GPUs (takes" in str(error.value)


def test_the_least_that_merging_takes_is_what_it_takes_with_one_module_after_the_other(tmp_path: Path) -> None:
    base = write_moe(tmp_path)
    least = least_room_bytes(read_shapes(base), 4)
    tensors = load_file(base / "model.safetensors")
    assert least <= MergedWeights.open(base, read_shapes(base), torch.float32, torch.device("cpu")).room_bytes()
    (base / "model.safetensors").unlink()
    for name, tensor in tensors.items():
        module = module_of(name.removesuffix(".weight"))
        save_file({name: tensor}, base / f"{module}-{name}.safetensors")
    assert MergedWeights.open(base, read_shapes(base), torch.float32, torch.device("cpu")).room_bytes() == least


def test_keys_and_values_that_are_stated_too_small_are_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = qwen3_30b_a3b(monkeypatch, H200_BYTES, VllmSettings(kv_cache_gib=0.1))
    with pytest.raises(DoesNotFit, match=r"helps: kv_cache_gib: 0\.21 \([^)]*\); a largest .* than 1092 tokens$"):
        refused.check()
    qwen3_30b_a3b(monkeypatch, H200_BYTES, VllmSettings(kv_cache_gib=0.21)).check()


def test_a_small_share_of_a_gpu_is_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = qwen3_30b_a3b(monkeypatch, H200_BYTES, VllmSettings(gpu_memory_utilization=0.4, max_loras=2))
    with pytest.raises(DoesNotFit, match=r"gpu_memory_utilization: 0\.92 \(takes"):
        refused.check()


def test_a_small_base_has_room_on_a_small_share_of_a_gpu(dense: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workloads.engines.vllm.startup.gpu_bytes", lambda: 8 * GIB)
    shapes, settings = read_shapes(dense), complete(VllmSettings(), Demands(256, 4, "all"), 512)
    plan(replace(settings, gpu_memory_utilization=0.2), shapes, 10**6, "float32", 256, on_gpu=True).check()


def test_on_a_cpu_nothing_is_reckoned_for_a_gpu(dense: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workloads.engines.vllm.startup.available_host_bytes", lambda: 64 * 2**20)
    shapes, settings = read_shapes(dense), complete(VllmSettings(max_loras=1), Demands(256, 4, "all"), 512)
    plan(settings, shapes, 10**6, "float32", 256, on_gpu=False).check()


def test_devices_share_weights_heads_and_one_side_of_a_slot(dense: Path) -> None:
    shapes = read_shapes(dense)
    one, two = (plan_memory(shapes, 10**6, "float32", GIB, 1, 4, 100, 16, rows=1, devices=count) for count in (1, 2))
    assert (two.weights, two.kv_token) == (one.weights // 2, one.kv_token // 2)
    assert one.adapter_slot / 2 < two.adapter_slot < one.adapter_slot


def test_files_that_the_kernel_keeps_in_memory_are_free_for_an_engine(tmp_path: Path) -> None:
    for name, text in {
        "memory.max": "1000000\n",
        "memory.current": "900000\n",
        "memory.stat": "anon 200000\nfile 700000\ninactive_file 500000\nactive_file 150000\n",
    }.items():
        (tmp_path / name).write_text(text)
    assert available_host_bytes(tmp_path) == 750_000
    (tmp_path / "memory.stat").unlink()
    assert available_host_bytes(tmp_path) == 100_000
    (tmp_path / "memory.max").write_text("max\n")
    assert available_host_bytes(tmp_path) > 1_000_000


def test_a_length_that_the_longest_prompt_does_not_fit_is_refused() -> None:
    asked = Demands(4700, 8)
    with pytest.raises(BadFlag, match=r"max_model_len is 4096, .* 4700 tokens: set max_model_len to 4700 or more"):
        complete(VllmSettings(max_model_len=4096), asked, 32768)
    assert complete(VllmSettings(max_model_len=4700), asked, 32768).max_model_len == 4700


def test_a_stated_size_bounds_the_memory_of_keys_and_values(dense: Path) -> None:
    plan = plan_memory(read_shapes(dense), 10**6, "float32", GIB, 1, 4, 100, 16, rows=1)
    stated = replace(plan, kv_bytes=200 * plan.kv_token)
    assert (stated.kv_tokens, stated.full_length_rows) == (200, 2)
    assert replace(plan, kv_bytes=2 * GIB).kv_tokens == plan.kv_tokens, "no more than there is"
    with pytest.raises(DoesNotFit):
        replace(plan, kv_bytes=99 * plan.kv_token).check()


def test_the_logits_of_every_row_are_reckoned(dense: Path) -> None:
    shapes = read_shapes(dense)
    few, many = (plan_memory(shapes, 0, "float32", GIB, 1, 4, 100, 16, rows=rows).work for rows in (16, 512))
    assert many - few == 496 * shapes.vocabulary * 4


def test_a_step_holds_a_token_of_every_request() -> None:
    demands = Demands(100, 4, "all")
    assert complete(VllmSettings(max_num_batched_tokens=64), demands, 4096).max_num_batched_tokens == 512
    assert complete(VllmSettings(), demands, 4096).max_num_batched_tokens == 8192


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ({"max_lora": 3}, "did you mean 'max_loras'"),
        ({"max_loras": "3"}, "must be of type int"),
        ({"enforce_eager": 1}, "must be of type bool"),
        ({"seed": True}, "must be of type int"),
        ({"lora_target": "head"}, "must be all or attention"),
        ({"cudagraph_mode": "full"}, "must be FULL_AND_PIECEWISE or"),
        ({"kv_cache_dtype": "fp4"}, "kv_cache_dtype is 'fp4', and must be fp8"),
    ],
)
def test_a_wrong_flag_is_named(flags: dict[str, str | int | float | bool], complaint: str) -> None:
    with pytest.raises(BadFlag, match=complaint):
        parse_flags(flags)


def test_a_base_is_read_fast_where_two_of_its_files_fit_beside_the_weights(
    tmp_path: Path, dense: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chosen(available: int = 3000, asked: str = "auto") -> str:
        memory = plan_memory(read_shapes(dense), 1000, "float32", available, 0, 4, 10, 16, rows=1)
        return with_loader(VllmSettings(load_format=asked), tmp_path, memory).load_format

    assert chosen() == "auto", "no files"
    (tmp_path / "small.safetensors").write_bytes(bytes(10))
    (tmp_path / "large.safetensors").write_bytes(bytes(1000))
    assert chosen() == "fastsafetensors"
    assert chosen(available=2999) == "auto"
    assert chosen(asked="safetensors") == "safetensors"
    monkeypatch.setattr("workloads.engines.vllm.startup.find_spec", lambda _: None)
    assert chosen() == "auto"


def test_graphs_are_kept_by_what_they_depend_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path))
    monkeypatch.setenv("VLLM_HOST_IP", "")
    monkeypatch.delenv("VLLM_CACHE_ROOT", raising=False)

    def place(base: str = "/base", vllm: str = "0.32.0", max_loras: int = 0) -> str:
        with kept_graphs(VllmSettings(max_loras=max_loras), Path(base), "bfloat16", {"vllm": vllm}):
            return os.environ["VLLM_CACHE_ROOT"]

    first = place()
    assert Path(first).parent == tmp_path / "compiled" / "vllm"
    monkeypatch.setenv("VLLM_HOST_IP", "10.0.0.7")
    assert place() == first
    others = [place(max_loras=9), place(base="/other"), place(vllm="0.33.0")]
    monkeypatch.setenv("VLLM_USE_FLASHINFER_SAMPLER", "0")
    assert len({first, *others, place()}) == 5
    assert "VLLM_CACHE_ROOT" not in os.environ
    monkeypatch.setenv("VLLM_CACHE_ROOT", "/elsewhere")
    assert place() == "/elsewhere"


def test_the_base_is_read_through_the_nodes_memory_and_the_core_has_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FASTSAFETENSORS_ODIRECT", "VLLM_BATCH_INVARIANT", "VLLM_ENABLE_V1_MULTIPROCESSING"):
        monkeypatch.setenv(name, "")  # so that monkeypatch restores it after the test
        monkeypatch.delenv(name)
    set_environment(VllmSettings(batch_invariant=True))
    assert os.environ["FASTSAFETENSORS_ODIRECT"] == "0"
    assert os.environ["VLLM_BATCH_INVARIANT"] == "1"
    assert os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "1"


def test_keys_and_values_leave_room_for_merging() -> None:
    left = with_room(VllmSettings(), 3 * GIB, 100 * GIB)
    assert left.gpu_memory_utilization == 0.89
    assert with_room(VllmSettings(), 200 * GIB, 100 * GIB).gpu_memory_utilization == 0


def test_open_flags_are_the_same_for_a_base_and_for_its_adapters() -> None:
    base = complete(VllmSettings(), Demands(4200), 32768)
    adapters = complete(VllmSettings(), Demands(4700, 32), 32768)
    assert base == adapters
    assert base.max_model_len == 8192
    assert complete(VllmSettings(), Demands(4700, 48), 6000).max_model_len == 6000
    merging = complete(VllmSettings(merge_adapters=True), Demands(4700, 1024, "all"), 32768)
    assert merging == complete(VllmSettings(merge_adapters=True), Demands(4200), 32768)
    assert complete(VllmSettings(), Demands(4700, 8, "attention"), 32768).lora_target == "attention"
    assert complete(VllmSettings(lora_target="all"), Demands(4700, 8, "attention"), 32768).lora_target == "all"
    assert rank_bucket(48) == 64
    with pytest.raises(BadFlag, match="rank 513"):
        rank_bucket(513)


@pytest.mark.parametrize("rows", [1, 3, 16, 200, 256, 512, 1024])
def test_graph_sizes_are_few_and_waste_little(rows: int) -> None:
    sizes = capture_sizes(rows)
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == min(rows, 512)
    assert len(sizes) <= 30
    for batch in range(17, sizes[-1] + 1):
        padded = next(size for size in sizes if size >= batch)
        assert padded < 1.5 * batch


def test_settings_are_json_for_the_record() -> None:
    from workloads.engines.vllm.config import as_flags

    assert parse_flags(json.loads(json.dumps(as_flags(VllmSettings())))) == VllmSettings()
