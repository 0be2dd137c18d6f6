"""Root-mean-square norms with a frozen weight, and the norm with rotary embedding that Qwen3 applies to each head.

y = w * x / sqrt(mean(x^2) + eps) over the last dimension, the quotient rounded to x's dtype before the weight as in
transformers' Qwen3RMSNorm. Nothing is saved for the backward pass but x. Triton where there is a GPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workloads.train.kernels.device import has_triton


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """X (T, H), weight (H,) -> (T, H)."""
    if has_triton(x):
        from workloads.train.kernels import norms_triton

        return norms_triton.rms_norm(x, weight, eps)
    return reference_rms_norm(x, weight, eps)


def reference_rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Over the last dimension of any x."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype)


def rms_norm_backward(grad: Tensor, x: Tensor, weight: Tensor, eps: float, residual: Tensor) -> Tensor:
    """Returns the gradient of x, plus `residual`: grad, x, residual (T, H) -> (T, H)."""
    if has_triton(x):
        from workloads.train.kernels import norms_triton

        return norms_triton.rms_norm_backward(grad, x, weight, eps, residual)
    return residual + reference_rms_norm_backward(grad, x, weight, eps)


def reference_rms_norm_backward(grad: Tensor, x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    unit, inner = wide * scale, grad.to(wide.dtype) * weight.to(wide.dtype)
    return (scale * (inner - unit * (inner * unit).mean(-1, keepdim=True))).to(x.dtype)


def norm_rope(x: Tensor, weight: Tensor, cos: Tensor, sin: Tensor, eps: float) -> Tensor:
    """Norm over each head, then rotation: x (T, heads, D), weight (D,), cos and sin (T, D) -> (T, heads, D)."""
    if has_triton(x):
        from workloads.train.kernels import norms_triton

        return norms_triton.norm_rope(x, weight, cos, sin, eps)
    return reference_norm_rope(x, weight, cos, sin, eps)


def reference_norm_rope(x: Tensor, weight: Tensor, cos: Tensor, sin: Tensor, eps: float) -> Tensor:
    y = reference_rms_norm(x, weight, eps)
    low, high = y.chunk(2, dim=-1)
    return y * cos[:, None] + torch.cat((-high, low), dim=-1) * sin[:, None]


def norm_rope_backward(grad: Tensor, x: Tensor, weight: Tensor, cos: Tensor, sin: Tensor, eps: float) -> Tensor:
    """Returns the gradient of x: grad, x (T, heads, D) -> (T, heads, D)."""
    if has_triton(x):
        from workloads.train.kernels import norms_triton

        return norms_triton.norm_rope_backward(grad, x, weight, cos, sin, eps)
    low, high = (grad * sin[:, None]).chunk(2, dim=-1)
    unrotated = grad * cos[:, None] + torch.cat((high, -low), dim=-1)
    return reference_rms_norm_backward(unrotated, x, weight, eps)
