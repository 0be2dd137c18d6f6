"""The dense half of a decoder layer as one operator: h + D(silu(G x) * U x), x = norm(h).

Saved: h, the outputs of the gate and up projections, the rank-wide LoRA products. Recomputed: the norm and SwiGLU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from workloads.train.kernels.linear import Projection, weights_of
from workloads.train.kernels.norms import rms_norm, rms_norm_backward
from workloads.train.kernels.swiglu import weighted_swiglu, weighted_swiglu_backward


def mlp_block(layer: Any, hidden: Tensor) -> Tensor:
    """Hidden (T, H) through `layer.post_attention_layernorm`, a dense `layer.mlp` and the residual sum -> (T, H)."""
    norm = layer.post_attention_layernorm
    parts = [weights_of(getattr(layer.mlp, name)) for name in ("gate_proj", "up_proj", "down_proj")]
    scales = (parts[0][3], parts[1][3], parts[2][3])
    tensors = [tensor for part in parts for tensor in part[:3]]
    out: Tensor = _MlpBlock.apply(norm.variance_epsilon, scales, hidden, norm.weight, *tensors)  # type: ignore[no-untyped-call]
    return out


class _MlpBlock(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, eps: float, scales: tuple[float, float, float], hidden: Tensor, norm: Tensor, *tensors: Any
    ) -> Tensor:
        gate_proj, up_proj, down_proj = _projections(tensors, scales)
        x = rms_norm(hidden, norm, eps)
        low_gate, low_up = gate_proj.low_rank(x), up_proj.low_rank(x)
        inner = torch.cat([gate_proj.forward(x, low_gate), up_proj.forward(x, low_up)], dim=1)
        active = weighted_swiglu(inner, _ones(inner), spare=0)
        low_down = down_proj.low_rank(active)
        ctx.eps, ctx.scales = eps, scales
        ctx.save_for_backward(hidden, norm, inner, low_gate, low_up, low_down, *tensors)
        return down_proj.forward(active, low_down, residual=hidden)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, norm, inner, low_gate, low_up, low_down, *tensors = ctx.saved_tensors
        gate_proj, up_proj, down_proj = _projections(tensors, ctx.scales)
        grad = grads[0].contiguous()
        active = None if low_down is None else weighted_swiglu(inner, _ones(inner), spare=0)
        grad_active, a_down, b_down = down_proj.backward(grad, active if active is not None else inner, low_down, None)
        grad_inner, _, _ = weighted_swiglu_backward(grad_active, inner, _ones(inner), spare=0, need_output=False)
        grad_gate, grad_up = grad_inner.chunk(2, dim=1)
        x = rms_norm(hidden, norm, ctx.eps)
        grad_x, a_gate, b_gate = gate_proj.backward(grad_gate, x, low_gate, None)
        grad_x, a_up, b_up = up_proj.backward(grad_up, x, low_up, grad_x)
        grad_hidden = rms_norm_backward(grad_x, hidden, norm, ctx.eps, residual=grad)
        return None, None, grad_hidden, None, None, a_gate, b_gate, None, a_up, b_up, None, a_down, b_down


def _projections(tensors: Sequence[Tensor], scales: Sequence[float]) -> list[Projection]:
    return [Projection(*tensors[3 * index : 3 * index + 3], scale=scale) for index, scale in enumerate(scales)]  # type: ignore[misc, arg-type]


def _ones(inner: Tensor) -> Tensor:
    return torch.ones(inner.shape[0], dtype=torch.promote_types(inner.dtype, torch.float32), device=inner.device)
