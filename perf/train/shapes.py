"""Qwen3-30B-A3B's shapes, batches of documents, the arithmetic of a step, and what the machine reaches."""

from __future__ import annotations

import platform
import random
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch
import transformers
from transformers import Qwen3MoeConfig

from workloads.train.packed import PackedBatch, pack

SHAPES: dict[str, Any] = dict(  # noqa: C408
    vocab_size=151_936, hidden_size=2048, intermediate_size=6144, moe_intermediate_size=768, num_hidden_layers=48,
    num_attention_heads=32, num_key_value_heads=4, head_dim=128, num_experts=128, num_experts_per_tok=8,
    norm_topk_prob=True, max_position_embeddings=40_960, rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    tie_word_embeddings=False, router_aux_loss_coef=0.0, use_cache=False, attn_implementation="sdpa",
)  # fmt: skip
CONFIG = Qwen3MoeConfig(**SHAPES)


def equal_lengths(tokens: int, length: int) -> tuple[int, ...]:
    return (length,) * (tokens // length)


def mixed_lengths(tokens: int, seed: int, mean: int = 1500, lowest: int = 200, highest: int = 4096) -> tuple[int, ...]:
    """Document lengths with a mean near `mean`, drawn log-normally, as many as fit in `tokens`; the last one is cut."""
    generator, lengths, left = random.Random(seed), [], tokens
    while left > lowest:
        length = min(highest, max(lowest, round(generator.lognormvariate(7.2, 0.65) * mean / 1500)), left)
        lengths.append(length)
        left -= length
    return tuple(lengths)


def batch_of(lengths: tuple[int, ...], vocabulary: int, seed: int) -> PackedBatch:
    """Random tokens; every token but the first of a document is supervised (the dearest case for the head)."""
    generator = torch.Generator().manual_seed(seed)
    documents = []
    for length in lengths:
        ids = torch.randint(0, vocabulary, (length,), generator=generator).tolist()
        documents.append((ids, [position > 0 for position in range(length)]))
    return pack(documents)


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of one micro-batch, forward and backward, nothing recomputed; a product counts 2."""

    frozen: float
    lora: float
    attention: float
    head: float

    @property
    def total(self) -> float:
        return self.frozen + self.lora + self.attention + self.head


def flops_of(config: Qwen3MoeConfig, batch: PackedBatch, rank: int, experts: bool) -> Flops:
    """Frozen weights: forward, input gradient; LoRA: its gradient too; attention: the causal half, 2 + 5 products."""
    hidden, inner, top_k = config.hidden_size, config.moe_intermediate_size, config.num_experts_per_tok
    heads, kv = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    attention_weights = hidden * heads * 2 + hidden * kv * 2
    expert_weights = 3 * hidden * inner * top_k + hidden * config.num_experts
    lora = rank * (2 * (hidden + heads) + 2 * (hidden + kv))
    if experts:
        lora += rank * top_k * 3 * (hidden + inner)
    pairs = sum(length * (length + 1) / 2 for length in batch.document_lengths)
    layers, tokens = config.num_hidden_layers, batch.tokens
    return Flops(
        frozen=layers * tokens * 4.0 * (attention_weights + expert_weights),
        lora=layers * tokens * 6.0 * lora,
        attention=layers * pairs * heads * 2.0 * 7,
        head=batch.supervised_tokens * 4.0 * hidden * config.vocab_size,
    )


def seconds_of(function: Callable[[], object], repeats: int = 10, warmup: int = 3) -> float:
    """The median time of one call, by CUDA events."""
    for _ in range(warmup):
        function()
    times = list[float]()
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        function()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return median(times)


def matmul_flops_per_second(size: int = 8192) -> float:
    """Of a square bfloat16 product on random data."""
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2.0 * size**3 / seconds_of(lambda: a @ b, repeats=20)


def copy_bytes_per_second() -> float:
    """Device to device, bytes read plus bytes written."""
    a = torch.randn(1 << 30, device="cuda", dtype=torch.bfloat16)
    b = torch.empty_like(a)
    return 2.0 * a.numel() * a.element_size() / seconds_of(lambda: b.copy_(a))


def machine() -> dict[str, object]:
    properties = torch.cuda.get_device_properties(0)
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return {
        "gpu": properties.name,
        "memory_bytes": properties.total_memory,
        "driver": subprocess.run(query, capture_output=True, text=True).stdout.strip(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "transformers": transformers.__version__,
        "triton": __import__("triton").__version__,
    }


def as_dict(flops: Flops) -> dict[str, float]:
    return {**asdict(flops), "total": flops.total}
