"""Matrix products over rows sorted by expert: one group of rows for each expert, of any size including 0.

`ends` (E,) int32 has the end of each expert's rows. On a CUDA device in bfloat16 these are torch's CUTLASS grouped
products; elsewhere a loop over the experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from workloads.train.kernels.device import has_triton


@dataclass(frozen=True)
class Routes:
    """The rows of each expert: T tokens, k experts each, M = T k rows sorted by expert.

    experts (T, k) int32: the chosen experts. position (T, k) int32: the sorted row of each choice. ends (E,) int32.
    """

    experts: Tensor
    position: Tensor
    ends: Tensor


def routes_of(experts: Tensor, num_experts: int) -> Routes:
    """Experts (T, k), any integer type -> Routes; the order within an expert is that of the tokens."""
    tokens, top_k = experts.shape
    key = experts.flatten().to(torch.uint8 if num_experts <= 256 else torch.int32)
    ordered, order = torch.sort(key, stable=True)
    position = torch.empty_like(order, dtype=torch.int32)
    position[order] = torch.arange(tokens * top_k, dtype=torch.int32, device=experts.device)
    bounds = torch.arange(num_experts, dtype=torch.int32, device=experts.device)
    ends = torch.searchsorted(ordered.to(torch.int32), bounds, right=True, out_int32=True)
    return Routes(experts=experts.to(torch.int32), position=position.view(tokens, top_k), ends=ends)


def choose_experts(logits: Tensor, top_k: int) -> Tensor:
    """Returns the experts of the top_k largest logits: (T, E) -> (T, top_k) int32, the largest first."""
    if has_triton(logits):
        from workloads.train.kernels import moe_permute_triton

        return moe_permute_triton.choose_experts(logits, top_k)
    return torch.topk(torch.softmax(logits, dim=-1, dtype=torch.float32), top_k, dim=-1).indices.to(torch.int32)


def rows_by_weight(rows: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """Returns rows (M, K) times weight[expert].T, weight (E, N, K) -> (M, N)."""
    return _grouped(rows, weight.transpose(1, 2), ends)


def rows_by_weight_transposed(rows: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """Returns rows (M, N) times weight[expert], weight (E, N, K) -> (M, K)."""
    return _grouped(rows, weight, ends)


def _grouped(rows: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    if _has_grouped_mm(rows):
        return torch._grouped_mm(rows, weight, offs=ends)
    return reference_rows_by_matrix(rows, weight, ends)


def reference_rows_by_matrix(rows: Tensor, matrix: Tensor, ends: Tensor) -> Tensor:
    """Rows (M, K), matrix (E, K, N) -> (M, N): out[m] = rows[m] @ matrix[expert of m]."""
    out = rows.new_empty(rows.shape[0], matrix.shape[2])
    start = 0
    for expert, end in enumerate(ends.tolist()):
        out[start:end] = rows[start:end] @ matrix[expert]
        start = end
    return out


def outer_by_expert(left: Tensor, right: Tensor, ends: Tensor) -> Tensor:
    """Returns (E, N, K), the sum over each expert's rows of left[m] right[m]^T. left: (M, N). right: (M, K)."""
    if _has_grouped_mm(left):
        return torch._grouped_mm(left.T, right, offs=ends)
    return reference_outer_by_expert(left, right, ends)


def reference_outer_by_expert(left: Tensor, right: Tensor, ends: Tensor) -> Tensor:
    out = left.new_empty(ends.shape[0], left.shape[1], right.shape[1])
    start = 0
    for expert, end in enumerate(ends.tolist()):
        out[expert] = left[start:end].T @ right[start:end]
        start = end
    return out


def _has_grouped_mm(x: Tensor) -> bool:
    return x.is_cuda and x.dtype == torch.bfloat16
