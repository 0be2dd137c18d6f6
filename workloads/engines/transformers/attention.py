"""Attention for decoding on a CPU: grouped queries on the cache itself, without repeating keys and values.

transformers' own path copies the whole cache once per query group at every token, which is half the time of a small
model.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "potstill_grouped"


def grouped_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **settings: Any
) -> tuple[Tensor, None]:
    """(B, H, Q, D), (B, G, T, D), (B, G, T, D), mask (B, 1, Q, T) true where visible -> (B, Q, H, D).

    For one new token (Q = 1): softmax(q k' scaling) v per group. For more: transformers' SDPA.
    """
    rows, heads, queries, size = query.shape
    if queries > 1:
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **settings)
        return output, None
    grouped = query.reshape(rows, key.shape[1], heads // key.shape[1], size)
    scores = grouped @ key.transpose(-1, -2) * settings["scaling"]
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, float("-inf"))
    weights = torch.softmax(scores.float(), dim=-1).to(value.dtype)
    return (weights @ value).reshape(rows, 1, heads, size), None


def register_grouped_attention() -> str:
    """Registers the attention with transformers, and returns its name there."""
    AttentionInterface.register(NAME, grouped_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME


def attention_of(config: Any) -> str:
    """Returns the grouped attention, or `eager` for soft-capped scores (Gemma 2), which SDPA and grouped attention do
    not support.
    """
    return "eager" if getattr(config, "attn_logit_softcapping", None) else register_grouped_attention()
