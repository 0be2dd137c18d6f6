"""The summed cross-entropy of some rows of a model's logits, read where they are.

Autograd would keep a copy of the rows and their softmax in float32, and sum their gradient by sorting indices.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from workloads.train.kernels.device import has_triton

CHUNK_ROWS = 2048
"""Rows that PyTorch handles at a time where there is no Triton."""


def summed_cross_entropy(logits: Tensor, rows: Tensor, targets: Tensor) -> Tensor:
    """Returns the cross-entropy of logits (D, W, V), summed over `rows` (S,), as functional.cross_entropy of float32.

    rows, targets: (S,) int64. Row d * W + w is logits[d, w]; no row may occur twice. The logits are not changed. They
    and two numbers of each row are kept for the backward pass, which makes one gradient of their size.
    """
    if logits.stride(-1) != 1:
        logits = logits.contiguous()
    result: Tensor = _SummedCrossEntropy.apply(logits, rows, targets)  # type: ignore[no-untyped-call]
    return result


class _SummedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, rows: Tensor, targets: Tensor) -> Tensor:
        if _by_triton(logits):
            from workloads.train.general import loss_triton

            peaks, log_sums, losses = loss_triton.cross_entropy(logits, rows, targets)
        else:
            peaks, log_sums, losses = cross_entropy(logits, rows, targets)
        ctx.save_for_backward(logits, rows, targets, peaks, log_sums)
        return losses.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        logits, *others = ctx.saved_tensors
        if _by_triton(logits):
            from workloads.train.general import loss_triton

            return loss_triton.cross_entropy_backward(scale, logits, *others), None, None
        return cross_entropy_backward(scale, logits, *others), None, None


def _by_triton(logits: Tensor) -> bool:
    """Triton's kernels compute in float32."""
    return has_triton(logits) and logits.dtype != torch.float64


def cross_entropy(logits: Tensor, rows: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns each row's largest logit, logarithm of the sum of exp(logit - largest), and loss: (S,), in float32.

    In float64 if the logits are.
    """
    wide = torch.promote_types(logits.dtype, torch.float32)
    peaks, log_sums, losses = (torch.empty(rows.shape, dtype=wide, device=logits.device) for _ in range(3))
    for start in range(0, rows.shape[0], CHUNK_ROWS):
        piece = slice(start, start + CHUNK_ROWS)
        chunk = _take(logits, rows[piece]).to(wide)
        wanted = chunk.gather(1, targets[piece, None])[:, 0]
        peaks[piece] = chunk.amax(-1)
        log_sums[piece] = (chunk - peaks[piece, None]).exp_().sum(-1).log_()
        losses[piece] = (peaks[piece] - wanted) + log_sums[piece]
    return peaks, log_sums, losses


def cross_entropy_backward(
    scale: Tensor, logits: Tensor, rows: Tensor, targets: Tensor, peaks: Tensor, log_sums: Tensor
) -> Tensor:
    """Returns the logits' gradient (D, W, V) in their type, zero outside `rows`. scale: the loss's gradient, ()."""
    gradient = torch.zeros(logits.shape, dtype=logits.dtype, device=logits.device)
    flat = gradient.view(-1, logits.shape[2])
    for start in range(0, rows.shape[0], CHUNK_ROWS):
        piece = slice(start, start + CHUNK_ROWS)
        chunk = _take(logits, rows[piece]).to(peaks.dtype) - peaks[piece, None]
        chunk.sub_(log_sums[piece, None]).exp_()
        chunk.scatter_add_(1, targets[piece, None], chunk.new_full((chunk.shape[0], 1), -1.0))
        flat[rows[piece]] = chunk.mul_(scale).to(logits.dtype)
    return gradient


def _take(logits: Tensor, rows: Tensor) -> Tensor:
    """Returns a copy (S, V) of the rows."""
    width = logits.shape[1]
    return logits[rows // width, rows % width]
