"""The mixture-of-experts half of a decoder layer as one operator: h + sum over chosen experts of w_e E_e(norm(h)).

Rows are sorted by expert once; the frozen weights are read by grouped products and never get a gradient; LoRA is
computed in extra columns (fused_lora.py). The routes (which expert, in which order) are saved, never recomputed: in
bfloat16 a recomputed top-k may break ties differently. Saved beside them: h, the router's logits, the output of the
gate and up projections and the rank-wide LoRA products. Recomputed: the norm, the copies of rows, SwiGLU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workloads.train.kernels.fused_lora import ExpertWeights, expert_weights, fill_factors
from workloads.train.kernels.grouped import (
    Routes,
    choose_experts,
    outer_by_expert,
    routes_of,
    rows_by_weight,
    rows_by_weight_transposed,
)
from workloads.train.kernels.lora import LoraExperts
from workloads.train.kernels.moe_permute import combine_rows, spread_rows
from workloads.train.kernels.norms import rms_norm, rms_norm_backward
from workloads.train.kernels.swiglu import weighted_swiglu, weighted_swiglu_backward


@dataclass(frozen=True)
class _Plan:
    """The operator's non-tensor inputs.

    `pinned` replaces the router's choice (for tests that compare bfloat16 runs).
    """

    weights: ExpertWeights
    eps: float
    top_k: int
    normalise: bool
    lora_scale: float
    pinned: Tensor | None


def expert_block(layer: Any, hidden: Tensor, pinned: Tensor | None = None) -> Tensor:
    """Hidden (T, H) through `layer.post_attention_layernorm`, `layer.mlp` and the residual sum -> (T, H).

    pinned (T, k): experts instead of the router's top k; their weights are still the router's.
    """
    norm, router, experts = layer.post_attention_layernorm, layer.mlp.gate, layer.mlp.experts
    lora = isinstance(experts, LoraExperts)
    plan = _Plan(
        weights=expert_weights(experts),
        eps=norm.variance_epsilon,
        top_k=router.top_k,
        normalise=router.norm_topk_prob,
        lora_scale=experts.scale if lora else 1.0,
        pinned=pinned,
    )
    factors = (experts.gate_up_lora_A, experts.gate_up_lora_B, experts.down_lora_A, experts.down_lora_B) if lora else ()
    out: Tensor = _ExpertBlock.apply(plan, hidden, norm.weight, router.weight, *factors)  # type: ignore[no-untyped-call]
    return out


def routing_weights(logits: Tensor, experts: Tensor, normalise: bool) -> Tensor:
    """Returns the weight of each chosen expert: logits (T, E), experts (T, k) -> (T, k), differentiable in the
    logits.
    """
    wide = torch.promote_types(logits.dtype, torch.float32)
    chosen = torch.softmax(logits, dim=-1, dtype=wide).gather(1, experts.long())
    if normalise:
        chosen = chosen / chosen.sum(-1, keepdim=True)
    return chosen.to(logits.dtype)


def _sorted_weights(weights: Tensor, routes: Routes) -> Tensor:
    """(T, k) -> (M,) in the order of the rows, float32 (float64 stays)."""
    out = torch.empty(weights.numel(), dtype=torch.promote_types(weights.dtype, torch.float32), device=weights.device)
    out[routes.position.flatten().long()] = weights.flatten().to(out.dtype)
    return out


class _ExpertBlock(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: _Plan, hidden: Tensor, norm: Tensor, router: Tensor, *factors: Tensor) -> Tensor:
        gate_up, down = plan.weights.gate_up, plan.weights.down
        if factors:
            fill_factors(plan.weights, factors, plan.lora_scale)
        x = rms_norm(hidden, norm, plan.eps)
        logits = x @ router.T
        experts = choose_experts(logits, plan.top_k) if plan.pinned is None else plan.pinned
        routes = routes_of(experts, router.shape[0])
        weight = _sorted_weights(routing_weights(logits, routes.experts, plan.normalise), routes)
        rows = spread_rows(x, routes.position, spare=gate_up.rank)
        lows: list[Tensor] = []
        if factors:
            low = rows_by_weight(rows[:, : gate_up.in_size], gate_up.a, routes.ends)
            rows[:, gate_up.in_size :] = low
            lows.append(low)
        inner = rows_by_weight(rows, gate_up.weight_and_b, routes.ends)
        del rows
        active = weighted_swiglu(inner, weight, spare=down.rank)
        if factors:
            low = rows_by_weight(active[:, : down.in_size], down.a, routes.ends)
            active[:, down.in_size :] = low
            lows.append(low)
        y = rows_by_weight(active, down.weight_and_b, routes.ends)
        ctx.plan = plan
        ctx.save_for_backward(
            hidden, norm, router, logits, routes.experts, routes.position, routes.ends, inner,
            *lows, *factors,
        )  # fmt: skip
        return combine_rows(y, routes.position, residual=hidden)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        plan: _Plan = ctx.plan
        gate_up, down = plan.weights.gate_up, plan.weights.down
        hidden, norm, router, logits, experts, position, ends, inner, *rest = ctx.saved_tensors
        routes = Routes(experts, position, ends)
        grad = grads[0].contiguous()
        with torch.enable_grad():
            leaf = logits.detach().requires_grad_()
            weights = routing_weights(leaf, experts, plan.normalise)
        weight = _sorted_weights(weights.detach(), routes)

        grad_y = spread_rows(grad, position, spare=down.rank)
        if rest:
            grad_low = rows_by_weight_transposed(grad_y[:, : down.out_size], down.b, ends)
            grad_y[:, down.out_size :] = grad_low
        grad_active = rows_by_weight_transposed(grad_y, down.weight_and_a, ends)
        grad_inner, grad_weight, active = weighted_swiglu_backward(
            grad_active, inner, weight, spare=gate_up.rank, need_output=bool(rest)
        )
        del grad_active
        factor_grads: tuple[Tensor, ...] = ()
        if rest:
            assert active is not None
            low_gate_up, low_down, *factors = rest
            down_a = outer_by_expert(grad_low, active, ends)
            down_b = outer_by_expert(grad_y[:, : down.out_size], low_down, ends)
            del active, grad_y
            grad_low = rows_by_weight_transposed(grad_inner[:, : gate_up.out_size], gate_up.b, ends)
            grad_inner[:, gate_up.out_size :] = grad_low
        grad_rows = rows_by_weight_transposed(grad_inner, gate_up.weight_and_a, ends)
        if rest:
            rows = spread_rows(rms_norm(hidden, norm, plan.eps), position, spare=0)
            gate_up_a = outer_by_expert(grad_low, rows, ends)
            gate_up_b = outer_by_expert(grad_inner[:, : gate_up.out_size], low_gate_up, ends)
            factor_grads = _factor_gradients(gate_up_a, gate_up_b, down_a, down_b, factors, plan.lora_scale)
        grad_x = combine_rows(grad_rows, position, residual=None)
        (grad_logits,) = torch.autograd.grad(weights, leaf, grad_weight[position.long()].to(weights.dtype))
        grad_x.addmm_(grad_logits, router)
        return None, rms_norm_backward(grad_x, hidden, norm, plan.eps, residual=grad), None, None, *factor_grads


def _factor_gradients(
    gate_up_a: Tensor, gate_up_b: Tensor, down_a: Tensor, down_b: Tensor, factors: list[Tensor], scale: float
) -> tuple[Tensor, ...]:
    """Converts the gradients of the buffers' factors to those of LoraExperts' parameters, in the parameters' dtype."""
    inner, rank = factors[1].shape[2], factors[1].shape[3]
    b = torch.empty_like(factors[1])
    b[:, 0] = gate_up_b[:, :inner, :rank]
    b[:, 1] = gate_up_b[:, inner:, rank : 2 * rank]
    down_b = down_b[:, :, :rank].to(factors[3].dtype)
    if scale != 1:
        b *= scale
        down_b = down_b * scale
    gate_up_a = gate_up_a[:, : 2 * rank].to(factors[0].dtype).reshape(factors[0].shape)
    return gate_up_a, b, down_a[:, :rank].to(factors[2].dtype), down_b
