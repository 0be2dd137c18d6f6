"""The shapes of a base's linear layers, read from its config.json: what an adapter must fit and what memory holds.

Source: Hugging Face's Qwen3 and Qwen3-MoE configurations; Llama-like dense models have the same fields.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")

LARGEST_SIZE = 1 << 30
MOST_FEED_FORWARDS = 1_000_000
"""Of all layers and experts together; the largest open models have less than 100,000."""


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
        return shapes_of(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise BadModel(f"{directory} has no config.json: it is not a model in Hugging Face layout") from None
    except RecursionError:
        raise BadModel(f"{path} is nested too deeply") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise BadModel(f"{path} does not describe a dense or mixture-of-experts decoder: {error!r:.200}") from error


def shapes_of(config: dict[str, Any]) -> ModelShapes:
    """Raises KeyError for a size that is missing, ValueError for one that is out of range."""
    layers, hidden = _size(config, "num_hidden_layers"), _size(config, "hidden_size")
    experts = _size(config, "num_experts", "num_local_experts", default=0)
    if layers * max(1, experts) > MOST_FEED_FORWARDS:
        raise ValueError(f"{layers} layers of {experts} experts are more than {MOST_FEED_FORWARDS:,} in all")
    step, dense = _size(config, "decoder_sparse_step", default=1), set(config.get("mlp_only_layers") or ())
    heads, intermediate = _size(config, "num_attention_heads"), _size(config, "intermediate_size")
    return ModelShapes(
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=_size(config, "num_key_value_heads", default=heads),
        head_size=_size(config, "head_dim", default=hidden // heads),
        intermediate=intermediate,
        expert_intermediate=_size(config, "moe_intermediate_size", default=intermediate),
        experts=experts,
        sparse_layers=frozenset(
            layer for layer in range(layers) if experts and layer not in dense and (layer + 1) % step == 0
        ),
        vocabulary=_size(config, "vocab_size"),
        context_tokens=_size(config, "max_position_embeddings"),
    )


def _size(config: dict[str, Any], *names: str, default: int | None = None) -> int:
    """The first of `names` that is there and neither null nor 0, else `default`."""
    value = next((config[name] for name in names if config.get(name)), default)
    if value is None:
        raise KeyError(names[0])
    if type(value) is not int or not 0 <= value <= LARGEST_SIZE or (value == 0 and default != 0):
        raise ValueError(f"{names[0]} is {value!r:.40}")
    return value
