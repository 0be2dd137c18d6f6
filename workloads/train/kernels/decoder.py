"""The forward pass of a transformers Qwen3 or Qwen3-MoE decoder on one packed row, with this package's operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional

from workloads.train.kernels.attention import documents_of
from workloads.train.kernels.attention_block import Row, attention_block
from workloads.train.kernels.cross_entropy import loss_sum
from workloads.train.kernels.expert_block import expert_block
from workloads.train.kernels.mlp_block import mlp_block
from workloads.train.kernels.norms import reference_rms_norm
from workloads.train.packed import PackedBatch


def packed_hidden_states(model: Any, batch: PackedBatch, pinned_experts: Sequence[Tensor] | None = None) -> Tensor:
    """Returns (T, H) before the last norm.

    pinned_experts: each layer's experts (T, k), instead of its router's choice.
    """
    decoder = model.base_model
    hidden = functional.embedding(batch.input_ids, decoder.embed_tokens.weight)
    cos, sin = decoder.rotary_emb(hidden[None], batch.position_ids[None])
    row = Row(documents_of(batch, hidden.dtype), cos[0].contiguous(), sin[0].contiguous())
    for index, layer in enumerate(decoder.layers):
        hidden = attention_block(layer, hidden, row)
        if hasattr(layer.mlp, "experts"):
            hidden = expert_block(layer, hidden, None if pinned_experts is None else pinned_experts[index])
        else:
            hidden = mlp_block(layer, hidden)
    return hidden


def packed_loss_sum(model: Any, batch: PackedBatch, pinned_experts: Sequence[Tensor] | None = None) -> Tensor:
    """Returns the sum of the cross-entropy over the batch's supervised tokens, a float32 scalar."""
    hidden = packed_hidden_states(model, batch, pinned_experts)
    norm = model.base_model.norm
    rows = hidden.index_select(0, batch.target_positions - 1)
    rows = reference_rms_norm(rows, norm.weight, norm.variance_epsilon)
    return loss_sum(rows, model.lm_head.weight, batch.input_ids.index_select(0, batch.target_positions))
