"""Copies each token's row to its experts, and sums the experts' rows of each token, without atomic operations."""

from __future__ import annotations

import torch
from torch import Tensor

from workloads.train.kernels.device import has_triton


def spread_rows(x: Tensor, position: Tensor, spare: int) -> Tensor:
    """Returns out (T k, H + spare) with out[position[t, k], :H] = x[t]. x: (T, H). position: (T, k), each row once.

    The last `spare` columns are not initialised. Each row of x is read once and written k times.
    """
    if has_triton(x):
        from workloads.train.kernels import moe_permute_triton

        return moe_permute_triton.spread_rows(x, position, spare)
    out = x.new_empty(position.numel(), x.shape[1] + spare)
    out[position.flatten().long(), : x.shape[1]] = x.repeat_interleave(position.shape[1], dim=0)
    return out


def combine_rows(y: Tensor, position: Tensor, residual: Tensor | None) -> Tensor:
    """Returns out[t] = residual[t] + sum over k of y[position[t, k]] in float32: y (M, H), position (T, k) ->
    (T, H).
    """
    if has_triton(y):
        from workloads.train.kernels import moe_permute_triton

        return moe_permute_triton.combine_rows(y, position, residual)
    total = y[position.long()].to(torch.promote_types(y.dtype, torch.float32)).sum(1)
    return (total if residual is None else residual + total).to(y.dtype)
