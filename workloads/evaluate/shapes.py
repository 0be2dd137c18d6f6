"""The shapes of a base's linear layers, read from its config.json: what an adapter must fit and what memory holds.

Source: Hugging Face's Qwen3 and Qwen3-MoE configurations; Llama-like dense models have the same fields.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")


class BadModel(Exception):
    """The directory is not a causal language model that this can read."""


@dataclass(frozen=True)
class ModelShapes:
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    intermediate: int
    expert_intermediate: int
    experts: int
    sparse_layers: frozenset[int]
    vocabulary: int
    context_tokens: int

    def linear(self) -> dict[str, tuple[int, int]]:
        """(out, in) of each linear layer that an adapter may change, by name: `model.layers.0.self_attn.q_proj` ..."""
        query, key = self.heads * self.head_size, self.kv_heads * self.head_size
        attention = dict(
            zip(
                ATTENTION,
                [(query, self.hidden), (key, self.hidden), (key, self.hidden), (self.hidden, query)],
                strict=True,
            )
        )
        found: dict[str, tuple[int, int]] = {}
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}"
            found |= {f"{prefix}.self_attn.{name}": shape for name, shape in attention.items()}
            if layer in self.sparse_layers:
                for expert in range(self.experts):
                    found |= _feed_forward(f"{prefix}.mlp.experts.{expert}", self.hidden, self.expert_intermediate)
            else:
                found |= _feed_forward(f"{prefix}.mlp", self.hidden, self.intermediate)
        return found

    @property
    def parameters(self) -> int:
        """Weights of the linear layers, the embedding and an untied head: all but norms and routers."""
        return (
            sum(out_size * in_size for out_size, in_size in self.linear().values()) + 2 * self.vocabulary * self.hidden
        )


def _feed_forward(prefix: str, hidden: int, intermediate: int) -> dict[str, tuple[int, int]]:
    shapes = [(intermediate, hidden), (intermediate, hidden), (hidden, intermediate)]
    return {f"{prefix}.{name}": shape for name, shape in zip(FEED_FORWARD, shapes, strict=True)}


def read_shapes(directory: Path) -> ModelShapes:
    """Raises BadModel."""
    path = directory / "config.json"
    try:
        return shapes_of(json.loads(path.read_text()))
    except FileNotFoundError:
        raise BadModel(f"{directory} has no config.json: it is not a model in Hugging Face layout") from None
    except (ValueError, KeyError, TypeError) as error:
        raise BadModel(f"{path} does not describe a dense or mixture-of-experts decoder: {error!r}") from error


def shapes_of(config: dict[str, Any]) -> ModelShapes:
    layers = int(config["num_hidden_layers"])
    experts = int(config.get("num_experts") or config.get("num_local_experts") or 0)
    step, dense = int(config.get("decoder_sparse_step", 1)), set(config.get("mlp_only_layers") or ())
    heads = int(config["num_attention_heads"])
    return ModelShapes(
        layers=layers,
        hidden=int(config["hidden_size"]),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_size=int(config.get("head_dim") or int(config["hidden_size"]) // heads),
        intermediate=int(config["intermediate_size"]),
        expert_intermediate=int(config.get("moe_intermediate_size") or config["intermediate_size"]),
        experts=experts,
        sparse_layers=frozenset(
            layer for layer in range(layers) if experts and layer not in dense and (layer + 1) % step == 0
        ),
        vocabulary=int(config["vocab_size"]),
        context_tokens=int(config["max_position_embeddings"]),
    )
