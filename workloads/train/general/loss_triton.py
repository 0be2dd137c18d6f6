"""The Triton kernels of loss.py: one program reads a row of logits, and one writes a row of their gradient."""
# ruff: noqa: N803  constants of a kernel are in capitals
# mypy: disable-error-code="untyped-decorator, no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 8192
WARPS = 16


@triton.jit
def _row_start(logits_ptr, row, width, document_stride, position_stride):
    return logits_ptr + (row // width) * document_stride + (row % width) * position_stride


@triton.jit
def _cross_entropy_kernel(
    logits_ptr, row_ptr, target_ptr, peak_ptr, log_sum_ptr, loss_ptr,
    width, V, document_stride, position_stride, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    at = tl.program_id(0)
    base = _row_start(logits_ptr, tl.load(row_ptr + at), width, document_stride, position_stride)
    wanted = tl.load(base + tl.load(target_ptr + at)).to(tl.float32)
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
    log_sum = tl.log(tl.sum(total * tl.exp(top - peak), axis=0))
    tl.store(peak_ptr + at, peak)
    tl.store(log_sum_ptr + at, log_sum)
    tl.store(loss_ptr + at, (peak - wanted) + log_sum)


@triton.jit
def _backward_kernel(
    gradient_ptr, scale_ptr, logits_ptr, place_ptr, target_ptr, peak_ptr, log_sum_ptr,
    width, V, document_stride, position_stride, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    out = gradient_ptr + row * V
    place = tl.load(place_ptr + row)
    cols = tl.arange(0, BLOCK)
    if place < 0:
        zeros = tl.zeros((BLOCK,), dtype=gradient_ptr.dtype.element_ty)
        for start in range(0, V, BLOCK):
            tl.store(out + start + cols, zeros, mask=start + cols < V)
    else:
        scale = tl.load(scale_ptr).to(tl.float32)
        target = tl.load(target_ptr + place)
        peak = tl.load(peak_ptr + place)
        log_sum = tl.load(log_sum_ptr + place)
        base = _row_start(logits_ptr, row, width, document_stride, position_stride)
        for start in range(0, V, BLOCK):
            at = start + cols
            x = tl.load(base + at, mask=at < V, other=0.0).to(tl.float32)
            gradient = (tl.exp((x - peak) - log_sum) - tl.where(at == target, 1.0, 0.0)) * scale
            tl.store(out + at, gradient.to(gradient_ptr.dtype.element_ty), mask=at < V)


def cross_entropy(logits: Tensor, rows: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """See loss.cross_entropy. logits: of stride 1 in the last dimension."""
    _, width, vocabulary = logits.shape
    found = torch.empty(3, rows.shape[0], dtype=torch.float32, device=logits.device)
    peaks, log_sums, losses = found.unbind()
    if rows.shape[0]:
        _cross_entropy_kernel[(rows.shape[0],)](
            logits, rows.contiguous(), targets.contiguous(), peaks, log_sums, losses, width, vocabulary,
            *logits.stride()[:2], BLOCK=_block(vocabulary), num_warps=WARPS,
        )  # fmt: skip
    return peaks, log_sums, losses


def cross_entropy_backward(
    scale: Tensor, logits: Tensor, rows: Tensor, targets: Tensor, peaks: Tensor, log_sums: Tensor
) -> Tensor:
    """See loss.cross_entropy_backward. The host does not wait for the device."""
    documents, width, vocabulary = logits.shape
    gradient = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
    places = torch.full((documents * width,), -1, dtype=torch.int64, device=logits.device)
    places.scatter_(0, rows, torch.arange(rows.shape[0], device=logits.device))
    _backward_kernel[(documents * width,)](
        gradient, scale, logits, places, targets.contiguous(), peaks, log_sums, width, vocabulary,
        *logits.stride()[:2], BLOCK=_block(vocabulary), num_warps=WARPS,
    )  # fmt: skip
    return gradient


def _block(vocabulary: int) -> int:
    return int(min(BLOCK, triton.next_power_of_2(vocabulary)))
