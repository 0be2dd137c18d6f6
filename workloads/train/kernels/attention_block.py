"""The attention half of a decoder layer as one operator: h + O(attention(rope(norm(Q x)), rope(norm(K x)), V x)).

Saved for the backward pass: h, the outputs of the q, k and v projections, the attention's output and its log-sums, and
the rank-wide LoRA products. Recomputed: both norms and the rotation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workloads.train.kernels.attention import Documents, attend, attend_backward
from workloads.train.kernels.linear import Projection, weights_of
from workloads.train.kernels.norms import norm_rope, norm_rope_backward, rms_norm, rms_norm_backward


@dataclass(frozen=True)
class Row:
    """The data of a packed row that every layer needs: its documents and the rotary tables cos and sin (T, D)."""

    documents: Documents
    cos: Tensor
    sin: Tensor


@dataclass(frozen=True)
class _Plan:
    """The operator's non-tensor inputs."""

    row: Row
    eps: float
    head_size: int
    attention_scale: float
    lora_scales: tuple[float, float, float, float]


def attention_block(layer: Any, hidden: Tensor, row: Row) -> Tensor:
    """Hidden (T, H) through `layer.input_layernorm`, `layer.self_attn` and the residual sum -> (T, H)."""
    attention, norm = layer.self_attn, layer.input_layernorm
    parts = [weights_of(getattr(attention, name)) for name in ("q_proj", "k_proj", "v_proj", "o_proj")]
    plan = _Plan(
        row=row,
        eps=norm.variance_epsilon,
        head_size=attention.head_dim,
        attention_scale=attention.scaling,
        lora_scales=(parts[0][3], parts[1][3], parts[2][3], parts[3][3]),
    )
    tensors = [tensor for part in parts for tensor in part[:3]]
    out: Tensor = _AttentionBlock.apply(  # type: ignore[no-untyped-call]
        plan, hidden, norm.weight, attention.q_norm.weight, attention.k_norm.weight, *tensors
    )
    return out


def _projections(plan: _Plan, tensors: tuple[Tensor | None, ...]) -> list[Projection]:
    projections = []
    for index, scale in enumerate(plan.lora_scales):
        weight, a, b = tensors[3 * index : 3 * index + 3]
        assert weight is not None
        projections.append(Projection(weight, a, b, scale))
    return projections


class _AttentionBlock(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, plan: _Plan, hidden: Tensor, norm: Tensor, q_norm: Tensor, k_norm: Tensor, *tensors: Tensor | None
    ) -> Tensor:
        row, eps, size = plan.row, plan.eps, plan.head_size
        q_proj, k_proj, v_proj, o_proj = _projections(plan, tensors)
        x = rms_norm(hidden, norm, eps)
        lows = [projection.low_rank(x) for projection in (q_proj, k_proj, v_proj)]
        q, k, v = (
            projection.forward(x, low).view(x.shape[0], -1, size)
            for projection, low in zip((q_proj, k_proj, v_proj), lows, strict=True)
        )
        out, saved = attend(
            norm_rope(q, q_norm, row.cos, row.sin, eps),
            norm_rope(k, k_norm, row.cos, row.sin, eps),
            v,
            row.documents,
            plan.attention_scale,
        )
        flat = out.flatten(1)
        low = o_proj.low_rank(flat)
        result = o_proj.forward(flat, low, residual=hidden)
        ctx.plan, ctx.saved_count = plan, len(saved)
        ctx.save_for_backward(hidden, norm, q_norm, k_norm, q, k, v, out, *lows, low, *saved, *tensors)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        plan: _Plan = ctx.plan
        row, eps = plan.row, plan.eps
        hidden, norm, q_norm, k_norm, q, k, v, out, low_q, low_k, low_v, low_o, *rest = ctx.saved_tensors
        saved, tensors = rest[: ctx.saved_count], tuple(rest[ctx.saved_count :])
        q_proj, k_proj, v_proj, o_proj = _projections(plan, tensors)
        grad = grads[0].contiguous()
        grad_out, a_o, b_o = o_proj.backward(grad, out.flatten(1), low_o, into=None)
        grad_q, grad_k, grad_v = attend_backward(
            grad_out.view(out.shape),
            norm_rope(q, q_norm, row.cos, row.sin, eps),
            norm_rope(k, k_norm, row.cos, row.sin, eps),
            v,
            out,
            saved,
            row.documents,
            plan.attention_scale,
        )
        grad_q = norm_rope_backward(grad_q, q, q_norm, row.cos, row.sin, eps)
        grad_k = norm_rope_backward(grad_k, k, k_norm, row.cos, row.sin, eps)
        x = rms_norm(hidden, norm, eps)
        grad_x, a_q, b_q = q_proj.backward(grad_q.flatten(1), x, low_q, into=None)
        grad_x, a_k, b_k = k_proj.backward(grad_k.flatten(1), x, low_k, into=grad_x)
        grad_x, a_v, b_v = v_proj.backward(grad_v.flatten(1), x, low_v, into=grad_x)
        grad_hidden = rms_norm_backward(grad_x, hidden, norm, eps, residual=grad)
        return (
            None, grad_hidden, None, None, None,
            None, a_q, b_q, None, a_k, b_k, None, a_v, b_v, None, a_o, b_o,
        )  # fmt: skip
