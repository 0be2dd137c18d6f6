"""Extra requests right after vLLM's start on a GPU, so that the first real requests compile nothing.

vLLM warms its kernels up with batches of its CUDA graphs' sizes, which are multiples of 16. Triton compiles a kernel
again for other sizes, so kernels of LoRA and experts were compiled while the first requests waited.
"""

import logging
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from workloads.api.model import canonical_json
from workloads.engines.vllm.config import VllmSettings
from workloads.models.adapters import CONFIG, PREFIX, WEIGHTS
from workloads.models.shapes import ModelShapes

logger = logging.getLogger("potstill")
NAME, NUMBER = "warm-up", 1 << 20
"""The adapter's name and number in vLLM: no adapter of a task has this number."""
SHORT_TOKENS = 37
NEW_TOKENS = 2


def warm_up(inner: Any, settings: VllmSettings, shapes: ModelShapes, dtype: str) -> None:
    """Runs a short and a long prompt through `inner` (vLLM's LLMEngine), without and with an adapter of zeros.

    Leaves the engine without requests, adapters and cached prefixes.
    """
    began = time.monotonic()
    longest = min(settings.max_num_batched_tokens, settings.max_model_len) - NEW_TOKENS
    lengths = sorted({min(SHORT_TOKENS, longest), longest - 1 + longest % 2})
    _run(inner, lengths, None)
    if not settings.merge_adapters:
        with tempfile.TemporaryDirectory(prefix="potstill-warm-up-") as folder:
            _write_zeros(Path(folder), shapes, getattr(torch, dtype))
            from vllm.lora.request import LoRARequest

            _run(inner, lengths, LoRARequest(NAME, NUMBER, folder))
            inner.remove_lora(NUMBER)
    inner.reset_prefix_cache()
    logger.info("kernels of the first requests are warm after %.1f s", time.monotonic() - began)


def _run(inner: Any, lengths: list[int], lora: Any) -> None:
    """Runs prompts of these lengths together to their end."""
    from vllm import SamplingParams

    for number, length in enumerate(lengths):
        params = SamplingParams(max_tokens=NEW_TOKENS, temperature=0.0, ignore_eos=True, detokenize=False)
        name = f"{NAME}/{'base' if lora is None else 'adapter'}/{number}"
        inner.add_request(name, {"prompt_token_ids": [0] * length}, params, lora_request=lora)
    while inner.has_unfinished_requests():
        inner.step()


def _write_zeros(folder: Path, shapes: ModelShapes, dtype: torch.dtype) -> None:
    """Writes an adapter of rank 1 on every attention layer that changes nothing."""
    tensors = {}
    for layer, (out_size, in_size) in shapes.linear().items():
        if layer.rpartition(".")[2] in shapes.attention_names:
            tensors[f"{PREFIX}{layer}.lora_A.weight"] = torch.zeros(1, in_size, dtype=dtype)
            tensors[f"{PREFIX}{layer}.lora_B.weight"] = torch.zeros(out_size, 1, dtype=dtype)
    save_file(tensors, folder / WEIGHTS)
    settings = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": list(shapes.attention_names)}
    (folder / CONFIG).write_bytes(canonical_json(settings))
