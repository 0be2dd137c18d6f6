"""Bases of random weights, without files (vLLM fills them) or with, and adapters with random factors."""

import json
import os
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models

from workloads.models.adapters import CONFIG, PREFIX, WEIGHTS
from workloads.models.shapes import read_shapes, shapes_of

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
TINY_MOE: dict[str, Any] = TINY | {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "moe_intermediate_size": 64,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}
SHAPES = {"qwen3-30b-a3b": QWEN3_30B_A3B, "tiny": TINY, "tiny-moe": TINY_MOE}


def write_base(directory: Path, config: dict[str, Any]) -> Path:
    """config.json, and a tokenizer that nothing asks for: prompts are token ids."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    Tokenizer(models.WordLevel({"x": 0}, unk_token="x")).save(str(directory / "tokenizer.json"))
    return directory


def write_weights(directory: Path, config: dict[str, Any], threads: int = 8) -> None:
    """Safetensors files, one for each layer and one for the rest, and their index. All layers hold the same numbers."""
    dtype = config["torch_dtype"]
    shapes = read_shapes(directory)
    noise = (torch.randn(1 << 24) * 0.02).to(getattr(torch, dtype))
    rest = {
        "model.embed_tokens.weight": (shapes.vocabulary, shapes.hidden),
        "model.norm.weight": (shapes.hidden,),
        "lm_head.weight": (shapes.vocabulary, shapes.hidden),
    }
    files = {directory / "model-rest.safetensors": rest}
    for layer in range(shapes.layers):
        files[directory / f"model-{layer:05d}.safetensors"] = dict(tensors_of_layer(config, layer))
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(write_tensors, path, tensors, noise) for path, tensors in files.items()]:
            done.result()
    places = {name: path.name for path, tensors in files.items() for name in tensors}
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def tensors_of_layer(config: dict[str, Any], layer: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    shapes, prefix = shapes_of(config), f"model.layers.{layer}"
    for name, shape in shapes.linear().items():
        if name.startswith(f"{prefix}."):
            yield f"{name}.weight", shape
    if layer in shapes.sparse_layers:
        yield f"{prefix}.mlp.gate.weight", (shapes.experts, shapes.hidden)
    for name in ("input_layernorm", "post_attention_layernorm"):
        yield f"{prefix}.{name}.weight", (shapes.hidden,)
    for name in ("q_norm", "k_norm"):
        yield f"{prefix}.self_attn.{name}.weight", (shapes.head_size,)


def write_tensors(path: Path, tensors: dict[str, tuple[int, ...]], noise: torch.Tensor) -> None:
    """The noise again and again, and ones for norms. Format: safetensors' (size of the header, header, values)."""
    header, at, ones = {}, 0, torch.ones_like(noise[:65_536])
    names = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32"}
    for name, shape in tensors.items():
        size = torch.Size(shape).numel() * noise.element_size()
        header[name] = {"dtype": names[noise.dtype], "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with path.open("wb", buffering=0) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in tensors.items():
            left, source = torch.Size(shape).numel(), ones if "norm" in name else noise
            while left:
                part = source[: min(left, len(source))]
                os.write(file.fileno(), part.view(torch.uint8).numpy().data)
                left -= len(part)


def write_adapter(directory: Path, base: Path, *, seed: int, rank: int, experts: bool, dtype: torch.dtype) -> Path:
    """Attention, and the experts if wanted, in every layer; factors so small that random outputs stay random."""
    directory.mkdir(parents=True, exist_ok=True)
    noise = (torch.randn(1 << 22, generator=torch.Generator().manual_seed(seed)) * 0.02).to(dtype)
    tensors, at = {}, 0
    for layer, (out_size, in_size) in read_shapes(base).linear().items():
        if "self_attn" in layer or (experts and ".mlp." in layer):
            for factor, shape in {"A": (rank, in_size), "B": (out_size, rank)}.items():
                size = shape[0] * shape[1]
                at = at if at + size <= len(noise) else 0
                tensors[f"{PREFIX}{layer}.lora_{factor}.weight"] = noise[at : at + size].clone().view(shape)
                at += size
    save_file(tensors, directory / WEIGHTS)
    modules = sorted({key.split(".")[-3] for key in tensors})
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": modules}
    (directory / CONFIG).write_text(json.dumps(settings))
    return directory
