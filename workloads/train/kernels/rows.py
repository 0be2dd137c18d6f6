"""Copies of rows for the experts and their sum back at the token; both read by index and write in order, no atomics."""

from __future__ import annotations

import torch
from torch import Tensor

from workloads.train.kernels.device import has_triton


def gather_rows(x: Tensor, index: Tensor, spare: int) -> Tensor:
    """out[m, :H] = x[index[m]]: x (T, H), index (M,) -> (M, H + spare), the last `spare` columns unset."""
    if has_triton(x):
        from workloads.train.kernels import rows_triton

        return rows_triton.gather_rows(x, index, spare)
    out = x.new_empty(index.shape[0], x.shape[1] + spare)
    out[:, : x.shape[1]] = x[index.long()]
    return out


def combine_rows(y: Tensor, position: Tensor, residual: Tensor | None) -> Tensor:
    """out[t] = residual[t] + sum over k of y[position[t, k]] in float32: y (M, H), position (T, k) -> (T, H)."""
    if has_triton(y):
        from workloads.train.kernels import rows_triton

        return rows_triton.combine_rows(y, position, residual)
    total = y[position.long()].to(torch.promote_types(y.dtype, torch.float32)).sum(1)
    return (total if residual is None else residual + total).to(y.dtype)
