"""vLLM's settings: defaults, and the flags that a task may change. The model's own generation settings are not read.

Pure: no vLLM.
"""

import difflib
import math
from dataclasses import asdict, dataclass, fields, replace
from typing import get_type_hints

from workloads.engines.base import BadFlag, Demands
from workloads.models.shapes import ModelShapes

Flag = str | int | float | bool
ADAPTER_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The LoRA ranks for which vLLM has kernels."""

LORA_TARGETS = ("all", "attention")
"""Values of the flag lora_target: which layers get adapter slots."""

SLOTS = {"attention": 8, "all": 4}
"""Adapters in a batch.

One adapter of experts needs as much memory as the keys and values of eight requests of 4,096 tokens.
"""

CUDAGRAPH_MODES = ("FULL_AND_PIECEWISE", "FULL_DECODE_ONLY", "FULL", "PIECEWISE", "NONE")
"""vLLM's names.

FULL_DECODE_ONLY makes graphs only for decoding steps: half as many, and as fast for short prompts and long answers.
"""
FP8 = "fp8"
"""8 bits, e4m3, without a scale: half the bytes of the model's dtype."""


TWO_GRAPHS = ("", "FULL_AND_PIECEWISE")
"""Modes with two graphs for each batch size. The first is vLLM's default, which is the second."""


CHOICES = {"lora_target": LORA_TARGETS, "cudagraph_mode": CUDAGRAPH_MODES, "kv_cache_dtype": (FP8,)}
"""Flags with fixed values; each accepts "" too."""


@dataclass(frozen=True)
class VllmSettings:
    """The flags of an engine named vllm, with their defaults. For 0 and "" `complete` or vLLM chooses the value."""

    max_loras: int = 0
    max_lora_rank: int = 0
    lora_target: str = ""
    merge_adapters: bool = False
    max_num_seqs: int = 512
    max_num_batched_tokens: int = 8192
    max_model_len: int = 0
    cudagraph_mode: str = "FULL_DECODE_ONLY"
    gpu_memory_utilization: float = 0.92
    kv_cache_gib: float = 0.0
    kv_cache_dtype: str = ""
    tensor_parallel_size: int = 1
    enable_prefix_caching: bool = True
    enforce_eager: bool = False
    batch_invariant: bool = False
    attention_backend: str = ""
    moe_backend: str = ""
    load_format: str = "auto"
    seed: int = 0


def parse_flags(flags: dict[str, Flag]) -> VllmSettings:
    """Raises BadFlag, which suggests the nearest flag."""
    hints = get_type_hints(VllmSettings)
    for name, value in flags.items():
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            raise BadFlag(f"engine vllm has no flag {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        wanted = (int, float) if hints[name] is float else hints[name]
        if not isinstance(value, wanted) or (isinstance(value, bool) and hints[name] is not bool):
            raise BadFlag(f"engine vllm: flag {name} is {value!r}, and must be of type {hints[name].__name__}")
    for name, choices in CHOICES.items():
        if flags.get(name, "") not in ("", *choices):
            raise BadFlag(f"engine vllm: flag {name} is {flags[name]!r}, and must be {' or '.join(choices)}")
    return VllmSettings(**flags)  # type: ignore[arg-type]


def complete(settings: VllmSettings, demands: Demands, context_tokens: int) -> VllmSettings:
    """Fills in the unset flags from a group's requirements.

    The length is rounded up to a power of two, so that groups of the same experiment get the same engine. A step has at
    least one token of each request. Raises BadFlag.
    """
    if 0 < settings.max_model_len < demands.longest_tokens:
        raise BadFlag(
            f"engine vllm: flag max_model_len is {settings.max_model_len}, and the longest prompt with its largest "
            f"budget has {demands.longest_tokens} tokens: set max_model_len to {demands.longest_tokens} or more, leave "
            "it out, or lower the largest budget"
        )
    length = min(context_tokens, max(512, 1 << (demands.longest_tokens - 1).bit_length()))
    tokens = max(settings.max_num_batched_tokens, settings.max_num_seqs)
    settings = replace(settings, max_model_len=settings.max_model_len or length, max_num_batched_tokens=tokens)
    if settings.merge_adapters:
        return replace(settings, max_loras=0, max_lora_rank=0, lora_target="")
    target = settings.lora_target or demands.target
    rank = max(demands.rank, min(demands.foreseen_rank, ADAPTER_RANKS[-1]))
    return replace(
        settings,
        max_loras=settings.max_loras or SLOTS[target],
        max_lora_rank=settings.max_lora_rank or rank_bucket(rank),
        lora_target=target,
    )


def slot_layers(target: str, shapes: ModelShapes) -> tuple[str, ...]:
    """Returns endings of the layers that get adapter slots.

    The head is never one: it is frozen in training, it costs time at every token, and vLLM 0.32 computes prompt
    log-probabilities wrongly with it (on a CPU it crashes).
    """
    return shapes.attention_names if target == "attention" else shapes.adapted_names


def with_room(settings: VllmSettings, room: int, total: int) -> VllmSettings:
    """Leaves `room` of `total` bytes for merging adapters, to a thousandth, by limiting keys and values."""
    share = settings.gpu_memory_utilization - room / total
    return replace(settings, gpu_memory_utilization=max(0.0, math.floor(share * 1000) / 1000))


def rank_bucket(rank: int) -> int:
    """Returns the smallest rank of at least 32 that vLLM supports and that is not less than `rank`."""
    for bucket in ADAPTER_RANKS:
        if bucket >= max(rank, 32):
            return bucket
    raise BadFlag(f"an adapter of rank {rank} is larger than vLLM takes ({ADAPTER_RANKS[-1]})")


def capture_sizes(max_num_seqs: int) -> list[int]:
    """Returns batch sizes for which CUDA graphs are made: 27 for 512; vLLM's default has about fifty.

    Between two of them a batch is padded by less than half, and from 16 on by less than a fifth.
    """
    steps = [1, 2, 4, 8, *range(16, 64, 8), *range(64, 128, 16), *range(128, 513, 32)]
    largest = min(max_num_seqs, steps[-1])
    return [*(size for size in steps if size < largest), largest]


def graph_rows(settings: VllmSettings) -> int:
    """Returns the sum of all batch sizes for which CUDA graphs are made."""
    if settings.enforce_eager or settings.cudagraph_mode == "NONE":
        return 0
    return sum(capture_sizes(settings.max_num_seqs)) * (2 if settings.cudagraph_mode in TWO_GRAPHS else 1)


def as_flags(settings: VllmSettings) -> dict[str, Flag]:
    """Returns every flag with its value, for the record."""
    values = asdict(settings)
    return {one.name: values[one.name] for one in fields(settings) if values[one.name] != ""}
