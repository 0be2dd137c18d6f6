"""The Triton kernels of norms.py: one program normalises one row, or all heads of one token."""
# ruff: noqa: N803  constants of a kernel are in capitals
# mypy: disable-error-code="untyped-decorator, no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _rms_norm_kernel(x_ptr, w_ptr, y_ptr, eps, H: tl.constexpr, BLOCK: tl.constexpr) -> None:
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, BLOCK)
    mask = cols < H
    x = tl.load(x_ptr + row * H + cols, mask=mask, other=0.0).to(tl.float32)
    w = tl.load(w_ptr + cols, mask=mask, other=0.0)
    scale = 1.0 / tl.sqrt(tl.sum(x * x, axis=0) / H + eps)
    unit = (x * scale).to(y_ptr.dtype.element_ty)
    tl.store(y_ptr + row * H + cols, w * unit, mask=mask)


@triton.jit
def _rms_norm_backward_kernel(g_ptr, x_ptr, w_ptr, res_ptr, dx_ptr, eps, H: tl.constexpr, BLOCK: tl.constexpr) -> None:
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, BLOCK)
    mask = cols < H
    x = tl.load(x_ptr + row * H + cols, mask=mask, other=0.0).to(tl.float32)
    g = tl.load(g_ptr + row * H + cols, mask=mask, other=0.0).to(tl.float32)
    w = tl.load(w_ptr + cols, mask=mask, other=0.0).to(tl.float32)
    res = tl.load(res_ptr + row * H + cols, mask=mask, other=0.0).to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(x * x, axis=0) / H + eps)
    unit = x * scale
    inner = g * w
    dx = scale * (inner - unit * (tl.sum(inner * unit, axis=0) / H))
    tl.store(dx_ptr + row * H + cols, (res + dx).to(dx_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _norm_rope_kernel(
    x_ptr, w_ptr, cos_ptr, sin_ptr, y_ptr, eps, heads, x_stride,
    HALF: tl.constexpr, BLOCK_HEADS: tl.constexpr,
) -> None:  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * BLOCK_HEADS + tl.arange(0, BLOCK_HEADS)[:, None]
    col = tl.arange(0, HALF)[None, :]
    mask = (head < heads) & (col < HALF)
    at = head * (2 * HALF) + col
    x1 = tl.load(x_ptr + token * x_stride + at, mask=mask, other=0.0).to(tl.float32)
    x2 = tl.load(x_ptr + token * x_stride + at + HALF, mask=mask, other=0.0).to(tl.float32)
    w1 = tl.load(w_ptr + col).to(tl.float32)
    w2 = tl.load(w_ptr + HALF + col).to(tl.float32)
    cos = tl.load(cos_ptr + token * (2 * HALF) + col).to(tl.float32)
    sin = tl.load(sin_ptr + token * (2 * HALF) + col).to(tl.float32)
    scale = 1.0 / tl.sqrt((tl.sum(x1 * x1, axis=1) + tl.sum(x2 * x2, axis=1)) / (2 * HALF) + eps)[:, None]
    n1 = x1 * scale * w1
    n2 = x2 * scale * w2
    out = y_ptr + token * (heads * 2 * HALF) + at
    tl.store(out, (n1 * cos - n2 * sin).to(y_ptr.dtype.element_ty), mask=mask)
    tl.store(out + HALF, (n2 * cos + n1 * sin).to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _norm_rope_backward_kernel(
    g_ptr, x_ptr, w_ptr, cos_ptr, sin_ptr, dx_ptr, eps, heads, x_stride,
    HALF: tl.constexpr, BLOCK_HEADS: tl.constexpr,
) -> None:  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * BLOCK_HEADS + tl.arange(0, BLOCK_HEADS)[:, None]
    col = tl.arange(0, HALF)[None, :]
    mask = (head < heads) & (col < HALF)
    at = head * (2 * HALF) + col
    own = token * (heads * 2 * HALF) + at
    x1 = tl.load(x_ptr + token * x_stride + at, mask=mask, other=0.0).to(tl.float32)
    x2 = tl.load(x_ptr + token * x_stride + at + HALF, mask=mask, other=0.0).to(tl.float32)
    g1 = tl.load(g_ptr + own, mask=mask, other=0.0).to(tl.float32)
    g2 = tl.load(g_ptr + own + HALF, mask=mask, other=0.0).to(tl.float32)
    w1 = tl.load(w_ptr + col).to(tl.float32)
    w2 = tl.load(w_ptr + HALF + col).to(tl.float32)
    cos = tl.load(cos_ptr + token * (2 * HALF) + col).to(tl.float32)
    sin = tl.load(sin_ptr + token * (2 * HALF) + col).to(tl.float32)
    i1 = (g1 * cos + g2 * sin) * w1
    i2 = (g2 * cos - g1 * sin) * w2
    scale = 1.0 / tl.sqrt((tl.sum(x1 * x1, axis=1) + tl.sum(x2 * x2, axis=1)) / (2 * HALF) + eps)[:, None]
    u1 = x1 * scale
    u2 = x2 * scale
    mean = ((tl.sum(i1 * u1, axis=1) + tl.sum(i2 * u2, axis=1)) / (2 * HALF))[:, None]
    tl.store(dx_ptr + own, (scale * (i1 - u1 * mean)).to(dx_ptr.dtype.element_ty), mask=mask)
    tl.store(dx_ptr + own + HALF, (scale * (i2 - u2 * mean)).to(dx_ptr.dtype.element_ty), mask=mask)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    assert x.is_contiguous()
    rows, width = x.shape
    y = torch.empty_like(x)
    _rms_norm_kernel[(rows,)](x, weight, y, eps, H=width, BLOCK=triton.next_power_of_2(width), num_warps=4)
    return y


def rms_norm_backward(grad: Tensor, x: Tensor, weight: Tensor, eps: float, residual: Tensor) -> Tensor:
    assert grad.is_contiguous()
    assert x.is_contiguous()
    assert residual.is_contiguous()
    rows, width = x.shape
    dx = torch.empty_like(x)
    _rms_norm_backward_kernel[(rows,)](
        grad, x, weight, residual, dx, eps, H=width, BLOCK=triton.next_power_of_2(width), num_warps=4
    )
    return dx


def _check_heads(x: Tensor, cos: Tensor, sin: Tensor) -> None:
    half = x.shape[2] // 2
    assert half * 2 == x.shape[2]
    assert half == triton.next_power_of_2(half), "the rotary kernel needs a head size that is a power of two"
    assert x.stride(1) == x.shape[2]
    assert x.stride(2) == 1
    assert cos.is_contiguous()
    assert sin.is_contiguous()


def norm_rope(x: Tensor, weight: Tensor, cos: Tensor, sin: Tensor, eps: float) -> Tensor:
    _check_heads(x, cos, sin)
    tokens, heads, size = x.shape
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    block = min(16, triton.next_power_of_2(heads))
    _norm_rope_kernel[(tokens, triton.cdiv(heads, block))](
        x, weight, cos, sin, y, eps, heads, x.stride(0), HALF=size // 2, BLOCK_HEADS=block, num_warps=4
    )
    return y


def norm_rope_backward(grad: Tensor, x: Tensor, weight: Tensor, cos: Tensor, sin: Tensor, eps: float) -> Tensor:
    _check_heads(x, cos, sin)
    grad = grad.contiguous()
    tokens, heads, size = x.shape
    dx = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    block = min(16, triton.next_power_of_2(heads))
    _norm_rope_backward_kernel[(tokens, triton.cdiv(heads, block))](
        grad, x, weight, cos, sin, dx, eps, heads, x.stride(0), HALF=size // 2, BLOCK_HEADS=block, num_warps=4
    )
    return dx
