"""The summed cross-entropy of some rows of a model's logits, a chunk of rows at a time.

Autograd alone would keep a copy of the rows, and add up their gradient by sorting the indices.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

CHUNK_ROWS = 2048


def summed_cross_entropy(logits: Tensor, documents: Tensor, positions: Tensor, targets: Tensor) -> Tensor:
    """Returns the cross-entropy in float32, summed over the rows logits[documents, positions].

    logits: (D, W, V). documents, positions, targets: (S,) int64; no row may occur twice. For the backward pass only the
    logits are kept, and one gradient of their size is made.
    """
    result: Tensor = _SummedCrossEntropy.apply(logits, documents, positions, targets)  # type: ignore[no-untyped-call]
    return result


class _SummedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, documents: Tensor, positions: Tensor, targets: Tensor) -> Tensor:
        ctx.save_for_backward(logits, documents, positions, targets)
        chunks = _chunks(documents, positions, targets)
        return torch.stack([_cross_entropy(logits[rows, columns], wanted) for rows, columns, wanted in chunks]).sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        logits, documents, positions, targets = ctx.saved_tensors
        found = torch.zeros_like(logits)
        for rows, columns, wanted in _chunks(documents, positions, targets):
            chunk = logits[rows, columns].requires_grad_()
            with torch.enable_grad():
                loss = _cross_entropy(chunk, wanted)
            (gradient,) = torch.autograd.grad(loss, chunk, gradients[0])
            found[rows, columns] = gradient
        return found, None, None, None


def _chunks(documents: Tensor, positions: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yields CHUNK_ROWS rows at a time; a single chunk without rows where there are none."""
    return zip(*(torch.split(tensor, CHUNK_ROWS) for tensor in (documents, positions, targets)), strict=True)


def _cross_entropy(rows: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(rows.float(), targets, reduction="sum")
