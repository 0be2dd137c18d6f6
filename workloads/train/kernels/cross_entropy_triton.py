"""The Triton kernels of cross_entropy.py: one program reads a row of logits twice and overwrites it with its
gradient.
"""
# ruff: noqa: N803  constants of a kernel are in capitals
# mypy: disable-error-code="untyped-decorator, no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 8192


@triton.jit
def _cross_entropy_kernel(logits_ptr, target_ptr, loss_ptr, V, stride, BLOCK: tl.constexpr) -> None:
    row = tl.program_id(0).to(tl.int64)
    base = logits_ptr + row * stride
    target = tl.load(target_ptr + row)
    target_logit = tl.load(base + target).to(tl.float32)
    cols = tl.arange(0, BLOCK)
    top = tl.full((BLOCK,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, V, BLOCK):
        x = tl.load(base + start + cols, mask=start + cols < V, other=float("-inf")).to(tl.float32)
        new_top = tl.maximum(top, x)
        safe = tl.where(new_top == float("-inf"), 0.0, new_top)
        total = total * tl.exp(top - safe) + tl.exp(x - safe)
        top = new_top
    peak = tl.max(top, axis=0)
    normaliser = peak + tl.log(tl.sum(total * tl.exp(top - peak), axis=0))
    tl.store(loss_ptr + row, normaliser - target_logit)
    for start in range(0, V, BLOCK):
        at = start + cols
        x = tl.load(base + at, mask=at < V, other=0.0).to(tl.float32)
        grad = tl.exp(x - normaliser) - tl.where(at == target, 1.0, 0.0)
        tl.store(base + at, grad.to(logits_ptr.dtype.element_ty), mask=at < V)


def cross_entropy_in_place(logits: Tensor, targets: Tensor) -> Tensor:
    assert logits.stride(1) == 1
    rows, vocabulary = logits.shape
    losses = torch.empty(rows, dtype=torch.float32, device=logits.device)
    _cross_entropy_kernel[(rows,)](
        logits, targets, losses, vocabulary, logits.stride(0), BLOCK=min(BLOCK, triton.next_power_of_2(vocabulary)),
        num_warps=16,
    )  # fmt: skip
    return losses
