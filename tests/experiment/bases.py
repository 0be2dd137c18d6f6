"""Bases of zeros whose safetensors files are written without torch."""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workloads.models.shapes import shapes_of

CONFIG: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "max_position_embeddings": 1024,
    "vocab_size": 264,
    "num_hidden_layers": 1,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 2,
}


def write_weights(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Path:
    """A file of zeros in bfloat16."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))
    return path


def weights_of(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes by name of the weights that the families' naming gives: embedding and linear layers."""
    layers = {f"{layer}.weight": size for layer, size in shapes_of(config).linear().items()}
    return {"model.embed_tokens.weight": (config["vocab_size"], config["hidden_size"]), **layers}
