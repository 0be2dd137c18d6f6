"""An experiment's text, and its base: zeros in safetensors files that are written without torch."""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controller.experiment.load import parse_experiment
from controller.experiment.models import Experiment
from workloads.models.shapes import shapes_of

EXPERIMENT = """\
apiVersion: potstill.dev/v1alpha1
kind: Experiment
metadata: {name: checks}
spec:
  base: {model: base}
  data: {sums: {uri: sums.jsonl}}
  training: {lora: {target: [attention]}, batchSize: 4, samples: 10, sequenceTokens: 128, overlong: drop}
  runs: [{name: mine, data: sums}]
  evaluation:
    benchmarks: [{name: own, uri: own.jsonl, grader: math}]
    budgets: [16, 64]
"""
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


def experiment_with(*changes: tuple[str, str]) -> Experiment:
    """EXPERIMENT with each (old, new) replaced. Raises SpecError."""
    text = EXPERIMENT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse_experiment(text, "checks.yaml")


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
