"""Bases without weights (vLLM fills them at random) and adapters with random factors."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models

from workloads.evaluate.adapters import CONFIG, PREFIX, WEIGHTS
from workloads.evaluate.shapes import read_shapes

QWEN3_30B_A3B: dict[str, Any] = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "vocab_size": 151_936,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "max_position_embeddings": 40_960,
    "rope_theta": 1e6,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "attention_bias": False,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
TINY: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "vocab_size": 4096,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 8192,
    "rope_theta": 1e6,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "attention_bias": False,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}
SHAPES = {"qwen3-30b-a3b": QWEN3_30B_A3B, "tiny": TINY}


def write_base(directory: Path, config: dict[str, Any]) -> Path:
    """config.json, and a tokenizer that nothing asks for: prompts are token ids."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    Tokenizer(models.WordLevel({"x": 0}, unk_token="x")).save(str(directory / "tokenizer.json"))
    return directory


def write_adapter(directory: Path, base: Path, *, seed: int, rank: int, experts: bool, dtype: torch.dtype) -> Path:
    """Attention, and the experts if wanted, in every layer; factors so small that random outputs stay random."""
    directory.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer, (out_size, in_size) in read_shapes(base).linear().items():
        if "self_attn" in layer or (experts and ".mlp." in layer):
            for factor, shape in {"A": (rank, in_size), "B": (out_size, rank)}.items():
                values = torch.randn(shape, generator=generator) * 0.02
                tensors[f"{PREFIX}{layer}.lora_{factor}.weight"] = values.to(dtype)
    save_file(tensors, directory / WEIGHTS)
    modules = sorted({key.split(".")[-3] for key in tensors})
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": modules}
    (directory / CONFIG).write_text(json.dumps(settings))
    return directory
