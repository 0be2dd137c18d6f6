"""The Triton kernels of moe_permute.py and swiglu.py: row copies, sums of rows, SwiGLU on blocks of rows."""
# ruff: noqa: N803  constants of a kernel are in capitals
# mypy: disable-error-code="untyped-decorator, no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

SWIGLU_ROWS = 4
CHOOSE_ROWS = 16


@triton.jit
def _choose_kernel(
    logits_ptr, chosen_ptr, tokens, E: tl.constexpr, K: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr
) -> None:
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    col = tl.arange(0, BLOCK)[None, :]
    mask = (row[:, None] < tokens) & (col < E)
    x = tl.load(logits_ptr + row[:, None] * E + col, mask=mask, other=float("-inf")).to(tl.float32)
    for k in tl.static_range(K):
        best = tl.argmax(x, axis=1)
        tl.store(chosen_ptr + row * K + k, best, mask=row < tokens)
        x = tl.where(col == best[:, None], float("-inf"), x)


@triton.jit
def _spread_kernel(
    x_ptr, position_ptr, out_ptr, out_stride, H: tl.constexpr, K: tl.constexpr, BLOCK: tl.constexpr
) -> None:
    token = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, BLOCK)
    mask = cols < H
    x = tl.load(x_ptr + token * H + cols, mask=mask)
    for k in tl.static_range(K):
        row = tl.load(position_ptr + token * K + k).to(tl.int64)
        tl.store(out_ptr + row * out_stride + cols, x, mask=mask)


@triton.jit
def _combine_kernel(
    y_ptr, position_ptr, residual_ptr, out_ptr, y_stride,
    H: tl.constexpr, K: tl.constexpr, HAS_RESIDUAL: tl.constexpr, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, BLOCK)
    mask = cols < H
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for k in tl.static_range(K):
        row = tl.load(position_ptr + token * K + k).to(tl.int64)
        total += tl.load(y_ptr + row * y_stride + cols, mask=mask, other=0.0).to(tl.float32)
    if HAS_RESIDUAL:
        total += tl.load(residual_ptr + token * H + cols, mask=mask, other=0.0).to(tl.float32)
    tl.store(out_ptr + token * H + cols, total.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _swiglu_kernel(
    gu_ptr, w_ptr, out_ptr, rows, out_stride,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    col = tl.arange(0, BLOCK)[None, :]
    mask = (row < rows) & (col < WIDTH)
    gate = tl.load(gu_ptr + row * (2 * WIDTH) + col, mask=mask, other=0.0).to(tl.float32)
    up = tl.load(gu_ptr + row * (2 * WIDTH) + WIDTH + col, mask=mask, other=0.0).to(tl.float32)
    weight = tl.load(w_ptr + row, mask=row < rows, other=0.0).to(tl.float32)
    y = gate * tl.sigmoid(gate) * up * weight
    tl.store(out_ptr + row * out_stride + col, y.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _swiglu_backward_kernel(
    g_ptr, gu_ptr, w_ptr, dgu_ptr, dw_ptr, out_ptr, rows, g_stride,
    dgu_stride, WIDTH: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, NEED_OUTPUT: tl.constexpr,
) -> None:  # fmt: skip
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    col = tl.arange(0, BLOCK)[None, :]
    mask = (row < rows) & (col < WIDTH)
    gate = tl.load(gu_ptr + row * (2 * WIDTH) + col, mask=mask, other=0.0).to(tl.float32)
    up = tl.load(gu_ptr + row * (2 * WIDTH) + WIDTH + col, mask=mask, other=0.0).to(tl.float32)
    grad = tl.load(g_ptr + row * g_stride + col, mask=mask, other=0.0).to(tl.float32)
    weight = tl.load(w_ptr + row, mask=row < rows, other=0.0).to(tl.float32)
    sigmoid = tl.sigmoid(gate)
    silu = gate * sigmoid
    plain = silu * up
    weighted = grad * weight
    dgate = weighted * up * (sigmoid * (1.0 + gate * (1.0 - sigmoid)))
    tl.store(dgu_ptr + row * dgu_stride + col, dgate.to(dgu_ptr.dtype.element_ty), mask=mask)
    tl.store(dgu_ptr + row * dgu_stride + WIDTH + col, (weighted * silu).to(dgu_ptr.dtype.element_ty), mask=mask)
    tl.store(dw_ptr + row, tl.sum(grad * plain, axis=1)[:, None], mask=row < rows)
    if NEED_OUTPUT:
        tl.store(out_ptr + row * WIDTH + col, (plain * weight).to(out_ptr.dtype.element_ty), mask=mask)


def choose_experts(logits: Tensor, top_k: int) -> Tensor:
    assert logits.is_contiguous()
    tokens, experts = logits.shape
    chosen = torch.empty(tokens, top_k, dtype=torch.int32, device=logits.device)
    _choose_kernel[(triton.cdiv(tokens, CHOOSE_ROWS),)](
        logits, chosen, tokens, E=experts, K=top_k, ROWS=CHOOSE_ROWS, BLOCK=triton.next_power_of_2(experts), num_warps=4
    )
    return chosen


def spread_rows(x: Tensor, position: Tensor, spare: int) -> Tensor:
    assert x.is_contiguous()
    assert position.is_contiguous()
    (tokens, top_k), width = position.shape, x.shape[1]
    out = torch.empty(tokens * top_k, width + spare, dtype=x.dtype, device=x.device)
    _spread_kernel[(tokens,)](
        x, position, out, out.stride(0), H=width, K=top_k, BLOCK=triton.next_power_of_2(width), num_warps=4
    )
    return out


def combine_rows(y: Tensor, position: Tensor, residual: Tensor | None) -> Tensor:
    assert y.stride(1) == 1
    assert position.is_contiguous()
    assert residual is None or residual.is_contiguous()
    (tokens, top_k), width = position.shape, y.shape[1]
    out = torch.empty(tokens, width, dtype=y.dtype, device=y.device)
    _combine_kernel[(tokens,)](
        y, position, y if residual is None else residual, out, y.stride(0), H=width, K=top_k,
        HAS_RESIDUAL=residual is not None, BLOCK=triton.next_power_of_2(width), num_warps=4,
    )  # fmt: skip
    return out


def weighted_swiglu(gate_up: Tensor, weight: Tensor, spare: int) -> Tensor:
    assert gate_up.is_contiguous()
    assert weight.is_contiguous()
    rows, width = gate_up.shape[0], gate_up.shape[1] // 2
    out = torch.empty(rows, width + spare, dtype=gate_up.dtype, device=gate_up.device)
    _swiglu_kernel[(triton.cdiv(rows, SWIGLU_ROWS),)](
        gate_up, weight, out, rows, out.stride(0), WIDTH=width, ROWS=SWIGLU_ROWS,
        BLOCK=triton.next_power_of_2(width), num_warps=8,
    )  # fmt: skip
    return out


def weighted_swiglu_backward(
    grad: Tensor, gate_up: Tensor, weight: Tensor, spare: int, need_output: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    assert grad.stride(1) == 1
    assert gate_up.is_contiguous()
    assert weight.is_contiguous()
    rows, width = gate_up.shape[0], gate_up.shape[1] // 2
    grad_gate_up = torch.empty(rows, 2 * width + spare, dtype=gate_up.dtype, device=gate_up.device)
    grad_weight = torch.empty(rows, dtype=torch.float32, device=gate_up.device)
    output = torch.empty(rows, width, dtype=gate_up.dtype, device=gate_up.device) if need_output else None
    _swiglu_backward_kernel[(triton.cdiv(rows, SWIGLU_ROWS),)](
        grad, gate_up, weight, grad_gate_up, grad_weight, grad_gate_up if output is None else output, rows,
        grad.stride(0), grad_gate_up.stride(0), WIDTH=width, ROWS=SWIGLU_ROWS,
        BLOCK=triton.next_power_of_2(width), NEED_OUTPUT=need_output, num_warps=8,
    )  # fmt: skip
    return grad_gate_up, grad_weight, output
