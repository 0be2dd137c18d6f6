"""Bytes of a model's parameters in training, and the memory of GPUs by name. No torch."""

import math
from pathlib import Path

from workloads.api.units import Sharding
from workloads.models.safetensors_file import read_header

FULL_BYTES_PER_PARAMETER = {"float32": 16, "bfloat16": 18}
"""For full fine-tuning.

float32: value, gradient and AdamW's two moments; with bfloat16 also the cast value that autocast makes for matrix
products. Computed, not measured.
"""
RESERVE_SHARE = 0.03
"""Share of the device's memory that the allocator cannot use."""
BESIDE_PYTORCH_BYTES = 2**30
"""For a device with a single rank: CUDA's context, kernels and libraries."""
BESIDE_PYTORCH_BYTES_SEVERAL_RANKS = 3 * 2**30
"""The same with NCCL's buffers.

1.58 GiB were measured with two ranks on H200s, 1.59 on H100s; more ranks were not measured.
"""
AUTO_SHARDING_SHARE = 0.8
"""Share of a device's usable memory: if weights, gradients and moments need more, `sharding: auto` shards them."""
GPU_BYTES = {"h200": 141 * 10**9, "b200": 180 * 10**9, "l40s": 48 * 10**9, "l4": 24 * 10**9, "t4": 16 * 10**9}
"""By a word in the profile's `gpu`, only for models with one memory size. Source: NVIDIA's data sheets."""


def parameters_of(folder: Path) -> int:
    """Returns the elements of all tensors in a model's safetensors files; 0 if it has none. Raises BadSafetensors."""
    headers = [read_header(path) for path in sorted(folder.glob("*.safetensors"))]
    return sum(math.prod(entry.shape) for header in headers for entry in header.values())


def training_bytes(parameters: int, method: str, precision: str) -> int:
    """Returns the bytes of an unsharded model on one device before a step.

    For an adapter's training these are the frozen base; for full fine-tuning, weights, gradients and moments. An
    adapter's own parameters, and activations, are not counted.
    """
    if method == "full":
        return parameters * FULL_BYTES_PER_PARAMETER[precision]
    return parameters * (2 if precision == "bfloat16" else 4)


def gpu_bytes(name: str) -> int | None:
    """Returns a GPU's bytes of memory by its name in a profile (NVIDIA H200); None if the name does not fix them."""
    words = name.lower().replace("-", " ").replace("_", " ").split()
    return next((GPU_BYTES[word] for word in words if word in GPU_BYTES), None)


def usable_bytes(device_bytes: int, ranks: int = 1) -> int:
    """Returns the bytes that PyTorch's allocator may use. `ranks`: ranks of the training, each on a separate device."""
    beside = BESIDE_PYTORCH_BYTES if ranks == 1 else BESIDE_PYTORCH_BYTES_SEVERAL_RANKS
    return int(device_bytes * (1 - RESERVE_SHARE)) - beside


def is_sharded(stated: Sharding, ranks: int, needed: int, usable: int | None) -> bool:
    """Returns whether the ranks of a training shard the weights.

    `needed`: bytes of weights, gradients and moments in one piece; `usable`: of a device, None if unknown.
    """
    if stated == "auto":
        return ranks > 1 and usable is not None and needed > AUTO_SHARDING_SHARE * usable
    return stated == "always"
