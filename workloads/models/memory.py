"""Bytes of a model's parameters in training, and the memory of GPUs by name. No torch."""

import math
import re
from pathlib import Path

from workloads.api.units import Sharding
from workloads.models.safetensors_file import read_header
from workloads.models.weight_files import loaded_files

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
"""A share of a device's usable memory. If weights, gradients and moments take more, `sharding: auto` divides them."""
MIB = 2**20
GPU_BYTES = {
    "h200": 143_771 * MIB, "b200": 183_359 * MIB, "l40s": 46_068 * MIB, "l4": 23_034 * MIB, "t4": 15_360 * MIB,
    "4090": 24_564 * MIB,
}  # fmt: skip
"""By a word of the profile's `gpu`, of models that have one size of memory only: what nvidia-smi shows, of which
PyTorch gets a little less."""
MIG_INSTANCE = re.compile(r"\b\d+g\.(\d+)gb\b")
STATED_GB = re.compile(r"(?<![\w.])(\d+) ?gb\b")
"""The size in a GPU's name (NVIDIA H100 80GB HBM3), which is of GiB, rounded up."""
ADAPTER_BYTES_PER_PARAMETER = 16
"""float32: value, gradient and AdamW's two moments."""


def parameters_of(folder: Path) -> int:
    """Elements of all tensors in a model's safetensors files; 0 where it has none. Raises BadSafetensors."""
    headers = [read_header(path) for path in loaded_files(folder)]
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
    """Returns the most bytes of memory that a GPU of this name has (NVIDIA H200); None if the name does not say."""
    plain = name.lower().replace("-", " ").replace("_", " ")
    words = plain.split()
    if "mig" in words or MIG_INSTANCE.search(plain):
        instance = MIG_INSTANCE.search(plain)
        return None if instance is None else int(instance[1]) * 2**30
    if (stated := STATED_GB.search(plain)) is not None:
        return int(stated[1]) * 2**30
    return next((GPU_BYTES[word] for word in words if word in GPU_BYTES), None)


def usable_bytes(device_bytes: int, ranks: int = 1) -> int:
    """Returns the bytes that PyTorch's allocator may use. `ranks`: ranks of the training, each on a separate device."""
    beside = BESIDE_PYTORCH_BYTES if ranks == 1 else BESIDE_PYTORCH_BYTES_SEVERAL_RANKS
    return int(device_bytes * (1 - RESERVE_SHARE)) - beside


def is_sharded(stated: Sharding, ranks: int, needed: int, usable: int | None) -> bool:
    """Returns whether the ranks of a training shard the weights.

    `needed`: bytes of weights, gradients and moments if they are not sharded. `usable`: the usable bytes of a device;
    None: unknown.
    """
    if stated == "auto":
        return ranks > 1 and usable is not None and needed > AUTO_SHARDING_SHARE * usable
    return stated == "always"
