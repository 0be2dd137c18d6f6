"""Small random bases, adapters and a tokenizer, made on the spot."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from workloads.models.adapters import CONFIG, PREFIX, WEIGHTS
from workloads.models.shapes import read_shapes

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "intermediate_size": 96,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
    "eos_token_id": 256,
    "initializer_range": 0.2,
}

VLLM_FLAGS: dict[str, str | int | float | bool] = {
    "kv_cache_gib": 0.25,
    "max_num_seqs": 32,
    "max_loras": 2,
    "enforce_eager": True,
}


def write_tokenizer(directory: Path) -> None:
    """Bytes and Qwen's special tokens: 256 <|endoftext|>, 257 <|im_start|>, 258 <|im_end|>."""
    vocabulary = {symbol: number for number, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": "<|endoftext|>", "tokenizer_class": "PreTrainedTokenizerFast"})
    )


def write_dense(directory: Path, seed: int = 0, **overrides: Any) -> Path:
    torch.manual_seed(seed)
    return _write(Qwen3ForCausalLM(Qwen3Config(vocab_size=259, **(SIZES | overrides))), directory)


def write_moe(directory: Path, seed: int = 0, **overrides: Any) -> Path:
    torch.manual_seed(seed)
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": True}
    return _write(Qwen3MoeForCausalLM(Qwen3MoeConfig(vocab_size=259, **(SIZES | experts | overrides))), directory)


def _write(model: Any, directory: Path) -> Path:
    model.save_pretrained(directory)
    write_tokenizer(directory)
    return directory


def write_adapter(
    directory: Path, base: Path, *, seed: int, rank: int = 4, alpha: float = 8.0, size: float = 0.15, only: str = ""
) -> Path:
    """Random factors for every linear layer whose name contains `only`."""
    directory.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for layer, (out_size, in_size) in read_shapes(base).linear().items():
        if only in layer:
            tensors[f"{PREFIX}{layer}.lora_A.weight"] = size * torch.randn(rank, in_size, generator=generator)
            tensors[f"{PREFIX}{layer}.lora_B.weight"] = size * torch.randn(out_size, rank, generator=generator)
    save_file(tensors, directory / WEIGHTS)
    names = sorted({layer.split(".")[-3] for layer in tensors})
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "target_modules": names, "task_type": "CAUSAL_LM"}
    (directory / CONFIG).write_text(json.dumps(config))
    return directory


def edit_adapter(directory: Path, change: Any) -> None:
    """`change(tensors)` alters the dictionary of tensors in place."""
    tensors = load_file(directory / WEIGHTS)
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, directory / WEIGHTS)


def edit_config(directory: Path, **changes: Any) -> None:
    path = directory / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def with_adapter_by_hooks(base: Path, adapter: Path) -> Any:
    """The model with scale * B(A(x)) added to each dense linear layer's output: LoRA as its paper defines it, unmerged."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = json.loads((adapter / CONFIG).read_text())
    tensors, scale = load_file(adapter / WEIGHTS), config["lora_alpha"] / config["r"]
    for key in [key for key in tensors if "lora_A" in key]:
        down, up = tensors[key], tensors[key.replace("lora_A", "lora_B")]

        def add(_: Any, inputs: tuple[Tensor], output: Tensor, down: Tensor = down, up: Tensor = up) -> Tensor:
            changed: Tensor = output + scale * (inputs[0] @ down.T @ up.T)
            return changed

        model.get_submodule(key.removeprefix(PREFIX).removesuffix(".lora_A.weight")).register_forward_hook(add)
    return model
