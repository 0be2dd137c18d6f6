"""Head and cross-entropy on the supervised positions only, a chunk of rows at a time.

The gradient of the rows is computed in the forward pass, chunk by chunk, so that at most one chunk of logits is in
memory; the backward pass multiplies it by the gradient of the loss. The head is frozen.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from workloads.train.kernels.device import has_triton

CHUNK_ROWS = 4096


def reference_loss_sum(rows: Tensor, head_weight: Tensor, targets: Tensor) -> Tensor:
    """Returns the summed cross-entropy of rows (S, H) with targets (S,), all logits at once."""
    logits = functional.linear(rows, head_weight)
    return functional.cross_entropy(
        logits.to(torch.promote_types(logits.dtype, torch.float32)), targets, reduction="sum"
    )


def loss_sum(rows: Tensor, head_weight: Tensor, targets: Tensor, chunk_rows: int = CHUNK_ROWS) -> Tensor:
    """Rows (S, H), head_weight (V, H), targets (S,) -> the summed cross-entropy, a float32 scalar."""
    result: Tensor = _LossSum.apply(rows, head_weight, targets, chunk_rows)  # type: ignore[no-untyped-call]
    return result


class _LossSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, head_weight: Tensor, targets: Tensor, chunk_rows: int) -> Tensor:
        wide = torch.promote_types(rows.dtype, torch.float32)
        total = torch.zeros((), dtype=wide, device=rows.device)
        grad = torch.empty_like(rows)
        for start in range(0, rows.shape[0], chunk_rows):
            piece = slice(start, start + chunk_rows)
            logits = rows[piece] @ head_weight.T
            total += cross_entropy_in_place(logits, targets[piece]).sum()
            torch.mm(logits, head_weight, out=grad[piece])
        ctx.save_for_backward(grad)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = ctx.saved_tensors
        return (grad * grads[0]).to(grad.dtype), None, None, None


def cross_entropy_in_place(logits: Tensor, targets: Tensor) -> Tensor:
    """Logits (S, V), targets (S,) -> the loss of each row (S,) in float32; logits become their gradient."""
    if has_triton(logits):
        from workloads.train.kernels import cross_entropy_triton

        return cross_entropy_triton.cross_entropy_in_place(logits, targets)
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    normaliser = wide.logsumexp(-1)
    losses = normaliser - wide.gather(1, targets[:, None])[:, 0]
    probabilities = torch.exp(wide - normaliser[:, None])
    probabilities.scatter_add_(1, targets[:, None], probabilities.new_full((targets.shape[0], 1), -1.0))
    logits.copy_(probabilities)
    return losses
