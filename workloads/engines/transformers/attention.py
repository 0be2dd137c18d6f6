"""Attention for decoding on a CPU: grouped queries against the cache as it is, without repeating keys and values.

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
    """(B, H, Q, D), (B, G, T, D), (B, G, T, D), mask (B, 1, Q, T) true where seen -> (B, Q, H, D).

    One new token (Q = 1): softmax(q k' scaling) v per group. More: transformers' SDPA.
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
    """The name by which transformers then knows it."""
    AttentionInterface.register(NAME, grouped_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME


def attention_of(config: Any) -> str:
    """The grouped attention, or `eager` where scores are soft-capped (Gemma 2), which SDPA and grouped leave out."""
    return "eager" if getattr(config, "attn_logit_softcapping", None) else register_grouped_attention()
