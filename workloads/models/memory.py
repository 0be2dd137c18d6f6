"""Bytes that a training holds for a model's parameters, and the memory of GPUs by name. No torch."""

import math
from pathlib import Path

from workloads.models.safetensors_file import read_header

FULL_BYTES_PER_PARAMETER = {"float32": 16, "bfloat16": 18}
"""Of full fine-tuning. float32: value, gradient and AdamW's two moments; with bfloat16 also the value that
autocast casts for the matrix products."""
GPU_BYTES = {"h200": 141 * 10**9, "b200": 180 * 10**9, "l40s": 48 * 10**9, "l4": 24 * 10**9, "t4": 16 * 10**9}
"""By a word of the profile's `gpu`, of models that have one size of memory only. Source: NVIDIA's data sheets."""


def parameters_of(folder: Path) -> int:
    """Elements of all tensors in a model's safetensors files; 0 where it has none. Raises BadSafetensors."""
    headers = [read_header(path) for path in sorted(folder.glob("*.safetensors"))]
    return sum(math.prod(entry.shape) for header in headers for entry in header.values())


def gpu_bytes(name: str) -> int | None:
    """Memory of a GPU by the name that a profile states (NVIDIA H200); None where that does not say it."""
    words = name.lower().replace("-", " ").replace("_", " ").split()
    return next((GPU_BYTES[word] for word in words if word in GPU_BYTES), None)
