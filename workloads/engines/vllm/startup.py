"""A start of vLLM: its memory, its arguments, and its cache of compiled code."""

import logging
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from workloads.api.model import canonical_json, sha256_of
from workloads.compiled import sealed_folder
from workloads.engines.base import BadFlag
from workloads.engines.memory import BYTES, GIB, MemoryPlan, available_host_bytes, gpu_work, plan_memory
from workloads.engines.merged_weights import least_room_bytes
from workloads.engines.vllm.config import VllmSettings, as_flags, capture_sizes, graph_rows, slot_layers
from workloads.engines.vllm.fork_server import forked_core
from workloads.models.shapes import ModelShapes

STREAM_TOKENS = 8
"""Tokens between two signs of progress of a request. A stop text is found that much later and cut exactly."""
NOT_COMPILED = frozenset(
    {"VLLM_API_KEY", "VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_HOST_IP", "VLLM_PORT", "VLLM_RPC_BASE_PATH"}
)
"""Variables that do not affect what vLLM compiles."""
FEW_ROWS = 16
"""If fewer requests of full length fit at a time, the plan suggests changes."""
HOST_SHARE = 0.25
"""The share of the host's free memory for adapters that are not in a slot."""


@contextmanager
def kept_graphs(settings: VllmSettings, directory: Path, dtype: str, versions: Mapping[str, str]) -> Iterator[None]:
    """Sets VLLM_CACHE_ROOT for a start, because vLLM overwrites its files in place and trusts them.

    A user's own value stays.
    """
    if "VLLM_CACHE_ROOT" in os.environ:
        yield
        return
    chosen = {
        name: value for name, value in os.environ.items() if name.startswith("VLLM_") and name not in NOT_COMPILED
    }
    stated = {"flags": as_flags(settings), "base": str(directory), "dtype": dtype, "environment": chosen}
    key = sha256_of(canonical_json(stated | {"versions": dict(versions)}))[:16]
    with sealed_folder("vllm", key) as folder:
        os.environ["VLLM_CACHE_ROOT"] = str(folder)
        try:
            yield
        finally:
            del os.environ["VLLM_CACHE_ROOT"]


def plan(
    settings: VllmSettings,
    shapes: ModelShapes,
    weights: int,
    dtype: str,
    longest_tokens: int,
    on_gpu: bool,
    merging: int = 0,
) -> MemoryPlan:
    """`merging`: bytes for merging; on a GPU, those that `with_room` left for it."""

    def reckon(changed: VllmSettings) -> MemoryPlan:
        room = merging if settings.merge_adapters else least_room_bytes(shapes, BYTES[dtype])
        rows = changed.max_num_seqs
        return plan_memory(
            shapes,
            weights,
            dtype,
            int(gpu_bytes() * changed.gpu_memory_utilization) + merging if on_gpu else available_host_bytes(),
            slots=0 if changed.merge_adapters else changed.max_loras,
            max_rank=changed.max_lora_rank,
            longest_tokens=longest_tokens,
            batch_tokens=changed.max_num_batched_tokens,
            rows=rows,
            targets=slot_layers(changed.lora_target, shapes),
            kv_bytes=int(changed.kv_cache_gib * GIB) or None,
            kv_dtype=changed.kv_cache_dtype or dtype,
            devices=changed.tensor_parallel_size,
            extra_work=gpu_work(shapes, dtype, rows, graph_rows(changed)) if on_gpu else 0,
            merging=room if changed.merge_adapters else 0,
        )

    memory = reckon(settings)
    if memory.full_length_rows >= FEW_ROWS:
        return memory
    remedies = []
    for told, change in _changes(settings, shapes, memory, on_gpu):
        found = reckon(replace(settings, **change))
        if found.full_length_rows > 2 * memory.full_length_rows:
            least = f", {found.merging / GIB:.1f} or more of it for merging" if "merge_adapters" in change else ""
            takes = f"takes {found.fixed / GIB:.1f} GiB{least}; such requests at a time: {found.full_length_rows}"
            remedies.append(f"{told} ({takes})")
            if "tensor_parallel_size" in change:
                break
    return replace(memory, remedies=tuple(remedies))


def _changes(
    settings: VllmSettings, shapes: ModelShapes, memory: MemoryPlan, on_gpu: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields flags that may make room for one request of full length: their text, and their values."""
    request = memory.longest_tokens * memory.kv_token
    if memory.slots:
        yield "merge_adapters: true", {"merge_adapters": True}
        spare = memory.available - memory.fixed - request
        fewer = memory.slots + spare // memory.adapter_slot if memory.adapter_slot else 0
        if 1 <= fewer < memory.slots:
            yield f"max_loras: {fewer}", {"max_loras": fewer}
    if memory.kv_bytes is not None and memory.kv_bytes < request:
        gib = math.ceil(request / GIB * 100) / 100
        yield f"kv_cache_gib: {gib}", {"kv_cache_gib": gib}
        return
    usual = VllmSettings().gpu_memory_utilization
    if on_gpu and not settings.merge_adapters and settings.gpu_memory_utilization < usual:
        yield f"gpu_memory_utilization: {usual}", {"gpu_memory_utilization": usual}
    if on_gpu:
        for count in (2, 4, 8):
            if count > settings.tensor_parallel_size and shapes.heads % count == 0:
                yield f"tensor_parallel_size: {count}, on {count} such GPUs", {"tensor_parallel_size": count}


def with_loader(settings: VllmSettings, directory: Path, memory: MemoryPlan) -> VllmSettings:
    """If the loader is not set, chooses fastsafetensors if the GPU has memory for two files at a time beside the
    weights.
    """
    sizes = [path.stat().st_size for path in directory.glob("*.safetensors")]
    room = memory.available - memory.weights
    fits = find_spec("fastsafetensors") is not None and 0 < 2 * max(sizes, default=0) <= room
    return replace(settings, load_format="fastsafetensors") if settings.load_format == "auto" and fits else settings


def gpu_bytes() -> int:
    """Asks NVML, so that no CUDA context is made in this process."""
    from vllm.platforms import current_platform

    return int(current_platform.get_device_total_memory())


def make_engine(
    settings: VllmSettings, directory: Path, shapes: ModelShapes, dtype: str, memory: MemoryPlan, on_gpu: bool
) -> Any:
    """Raises BadFlag if vLLM refuses its arguments before it starts anything. A later error is a crash."""
    from vllm.engine.arg_utils import EngineArgs
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.llm_engine import LLMEngine

    pass_vllm_log_on()
    arguments: dict[str, Any] = {
        "model": str(directory),
        "skip_tokenizer_init": True,
        "generation_config": "vllm",
        "dtype": dtype,
        "seed": settings.seed,
        "load_format": settings.load_format,
        "max_model_len": settings.max_model_len,
        "max_num_seqs": settings.max_num_seqs,
        "max_num_batched_tokens": settings.max_num_batched_tokens,
        "gpu_memory_utilization": settings.gpu_memory_utilization,
        "tensor_parallel_size": settings.tensor_parallel_size,
        "enable_prefix_caching": settings.enable_prefix_caching,
        "enforce_eager": settings.enforce_eager,
        "stream_interval": STREAM_TOKENS,
        "disable_log_stats": True,
        "worker_extension_cls": "workloads.engines.vllm.worker_extension.WorkerExtension",
    }
    if not settings.merge_adapters:
        arguments |= {
            "enable_lora": True,
            "max_loras": settings.max_loras,
            "max_lora_rank": settings.max_lora_rank,
            "max_cpu_loras": settings.max_loras + int(HOST_SHARE * available_host_bytes()) // memory.adapter_on_host,
        }
        if "lora_target_modules" in EngineArgs.__dataclass_fields__:
            arguments["lora_target_modules"] = list(slot_layers(settings.lora_target, shapes))
    if on_gpu and not settings.enforce_eager:
        arguments["cudagraph_capture_sizes"] = capture_sizes(settings.max_num_seqs)
        if settings.cudagraph_mode:
            arguments["compilation_config"] = {"cudagraph_mode": settings.cudagraph_mode}
    if settings.kv_cache_dtype:
        arguments["kv_cache_dtype"] = settings.kv_cache_dtype
    if settings.kv_cache_gib:
        arguments["kv_cache_memory_bytes"] = int(settings.kv_cache_gib * GIB)
    if settings.attention_backend:
        arguments["attention_backend"] = settings.attention_backend
    if settings.moe_backend:
        arguments["moe_backend"] = settings.moe_backend
    try:
        config = EngineArgs(**arguments).create_engine_config(UsageContext.ENGINE_CONTEXT)
    except ValueError as error:
        raise BadFlag(f"vLLM does not take these flags with this base: {error}") from error
    with forked_core():
        return LLMEngine.from_vllm_config(config, disable_log_stats=True)


def pass_vllm_log_on() -> None:
    """Sends vLLM's log lines of this process to the attempt's log; those of vLLM's other processes go to stderr."""
    inner = logging.getLogger("vllm")
    inner.handlers.clear()
    inner.propagate = True


def find_versions(on_gpu: bool) -> dict[str, str]:
    import torch
    import transformers
    import vllm

    found = {"vllm": vllm.__version__, "torch": torch.__version__, "transformers": transformers.__version__}
    if on_gpu:
        from vllm.platforms import current_platform

        found |= {"gpu": str(current_platform.get_device_name()), "cuda": str(torch.version.cuda)}
    return found
