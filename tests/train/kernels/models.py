"""Small Qwen3 models with random weights, and random documents."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import nn
from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from workloads.train.packed import PackedBatch, pack

VOCAB = 97
Model = TypeVar("Model", bound=nn.Module)


def small_moe(seed: int = 0, dtype: torch.dtype = torch.float32, norm_topk_prob: bool = True) -> Qwen3MoeForCausalLM:
    torch.manual_seed(seed)
    sizes: dict[str, Any] = dict(  # noqa: C408
        vocab_size=VOCAB, hidden_size=32, intermediate_size=48, moe_intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, num_experts=8, num_experts_per_tok=3,
        norm_topk_prob=norm_topk_prob, initializer_range=0.2, attn_implementation="sdpa",
        experts_implementation="eager",
    )  # fmt: skip
    return in_dtype(randomise_norms(Qwen3MoeForCausalLM(Qwen3MoeConfig(**sizes))), dtype)


def small_dense(seed: int = 0, dtype: torch.dtype = torch.float32) -> Qwen3ForCausalLM:
    torch.manual_seed(seed)
    sizes: dict[str, Any] = dict(  # noqa: C408
        vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, initializer_range=0.2, attn_implementation="sdpa",
    )  # fmt: skip
    return in_dtype(randomise_norms(Qwen3ForCausalLM(Qwen3Config(**sizes))), dtype)


def randomise_norms(model: Model) -> Model:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
    return model


def in_dtype(model: Model, dtype: torch.dtype) -> Model:
    """`model.to(dtype)`, whose annotation in transformers hides the model's class."""
    return nn.Module.to(model, dtype)


def random_batch(lengths: tuple[int, ...], seed: int = 0) -> PackedBatch:
    """Returns documents of random tokens; about two thirds of the tokens are supervised, in spans like those after a
    prompt.
    """
    generator = torch.Generator().manual_seed(seed)
    documents = []
    for length in lengths:
        ids = torch.randint(0, VOCAB, (length,), generator=generator).tolist()
        prompt = max(1, length // 3)
        documents.append((ids, [position >= prompt for position in range(length)]))
    return pack(documents)


def randomise_adapter(model: nn.Module, seed: int = 0) -> None:
    """Gives B non-zero values too, so that every gradient is non-zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("lora_B"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
