"""Selects the implementation of a kernel: Triton on a CUDA device, plain PyTorch elsewhere."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

from torch import Tensor


@cache
def triton_installed() -> bool:
    return find_spec("triton") is not None


def has_triton(x: Tensor) -> bool:
    return x.is_cuda and triton_installed()
