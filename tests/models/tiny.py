"""A random base of a few thousand weights for every family, with a tokenizer that has the family's BOS token."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, processors
from transformers import AutoConfig, AutoModelForCausalLM

from tests.train.world import END_OF_TEXT, write_tokenizer
from workloads.models.base import ModelFamily

TINY_SIZES: dict[str, Any] = {
    "vocab_size": 264,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": END_OF_TEXT,
    "pad_token_id": None,
}
VLLM_SIZES: dict[str, Any] = {"hidden_size": 128, "initializer_range": 0.1}
"""Overrides TINY_SIZES, because vLLM on a CPU has no attention for heads of fewer than 32 elements."""
BOS = "<|begin_of_text|>"
WITH_BOS = ("llama", "mistral", "mixtral", "gemma2", "gemma3", "phi3")
"""Families whose tokenizers put a token before every text."""


def write_tiny_base(directory: Path, family: ModelFamily, seed: int = 0, **changes: Any) -> Path:
    torch.manual_seed(seed)
    config = AutoConfig.for_model(family.model_type, **(TINY_SIZES | dict(family.tiny) | changes))
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter.add_(torch.empty_like(parameter).uniform_(-0.3, 0.3))
    model.save_pretrained(directory)
    write_tokenizer(directory)
    settings = {"eos_token": "<|endoftext|>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    if family.name in WITH_BOS:
        add_bos(directory)
    return directory


def vllm_sizes(family: ModelFamily) -> dict[str, Any]:
    return VLLM_SIZES | ({"head_dim": 32} if "head_dim" in family.tiny else {})


def add_bos(directory: Path) -> None:
    path = directory / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.add_tokens([AddedToken(BOS, special=True)])
    number = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, number)])
    tokenizer.save(str(path))
