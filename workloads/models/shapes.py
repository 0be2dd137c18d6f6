"""The shapes of a base's linear layers, for checks of adapters and of memory.

Sizes come from config.json, and names from the family. The families in workloads/models all use the same field names in
config.json, except those for experts (source: their configuration classes in Hugging Face's transformers). For an
architecture that is not in workloads/models, names and shapes are read from the headers of its safetensors files, if
they are in the directory; otherwise it is treated like Llama.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workloads.models import family_of
from workloads.models.base import ModelFamily, Sizes
from workloads.models.llama import FAMILY as LLAMA
from workloads.models.safetensors_file import BadSafetensors, read_header
from workloads.models.weight_files import loaded_files

NOT_ADAPTED = ("embed_tokens", "wte", "wpe", "lm_head", "embed_out", "output", "gate", "router", "norm")
"""Last parts of names of weights that adapters do not change: embeddings, heads, routers, norms."""

LARGEST_SIZE = 1 << 30
"""The largest accepted value of any size in config.json."""
MOST_FEED_FORWARDS = 1_000_000
"""The largest accepted number of layers * experts. The largest open models have less than 100,000."""


class BadShapes(Exception):
    """The directory is not a supported causal language model."""


@dataclass(frozen=True)
class ModelShapes:
    """`sparse_layers`: the layers with experts, counted from 0. `intermediate` is the size of a feed-forward without
    experts, `expert_intermediate` that of one expert.
    """

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
    family: ModelFamily = LLAMA
    from_files: Mapping[str, tuple[int, int]] | None = field(default=None, compare=False)
    """(out, in) by the name of the linear layer, read from the weight files; None for a family of workloads/models,
    and without weight files.
    """

    def linear(self) -> dict[str, tuple[int, int]]:
        """Returns (out, in) of each linear layer that an adapter may change, by its name, for example
        `model.layers.0.self_attn.q_proj`.
        """
        if self.from_files is not None:
            return dict(self.from_files)
        dense, sparse = (
            Sizes(self.hidden, self.heads * self.head_size, self.kv_heads * self.head_size, intermediate)
            for intermediate in (self.intermediate, self.expert_intermediate)
        )
        attention, feed_forward = self.family.attention_shapes(dense), self.family.feed_forward_shapes(dense)
        experts = self.family.expert_shapes(sparse, self.experts)
        found: dict[str, tuple[int, int]] = {}
        for layer in range(self.layers):
            within = attention | (experts if layer in self.sparse_layers else feed_forward)
            found |= {f"model.layers.{layer}.{name}": shape for name, shape in within.items()}
        return found

    @property
    def attention_names(self) -> tuple[str, ...]:
        """Last parts of the names of the attention's linear layers: `q_proj`, ..."""
        return self.family.attention

    @property
    def adapted_names(self) -> tuple[str, ...]:
        """Last parts of the names of all linear layers that an adapter may change. `experts` is vLLM's name for all
        experts of a layer together; it is returned also for models without experts, but not
        added to names that were read from weight files.
        """
        if self.from_files is not None:
            return tuple(sorted({layer.rpartition(".")[2] for layer in self.from_files}))
        names = (*self.family.attention, *self.family.feed_forward)
        if self.family.experts is not None:
            names = (*names, *self.family.experts.projections)
        return (*dict.fromkeys(names), "experts")

    @property
    def parameters(self) -> int:
        """The number of weights of the linear layers, the embedding and the head, without norms and routers. The head
        is counted also if it shares the embedding's weights.
        """
        return (
            sum(out_size * in_size for out_size, in_size in self.linear().values()) + 2 * self.vocabulary * self.hidden
        )


def read_shapes(directory: Path) -> ModelShapes:
    """Reads the shapes of the model in `directory`. Raises BadShapes."""
    path = directory / "config.json"
    try:
        config = json.loads(path.read_bytes())
        return shapes_of(config, None if family_of(config) else _read_linear(directory))
    except FileNotFoundError:
        raise BadShapes(f"{directory} has no config.json: it is not a model in Hugging Face layout") from None
    except RecursionError:
        raise BadShapes(f"{path} is nested too deeply") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise BadShapes(f"{path} does not describe a dense or mixture-of-experts decoder: {error!r:.200}") from error


def _read_linear(directory: Path) -> dict[str, tuple[int, int]] | None:
    """Returns (out, in) of the 2D weights in the directory's files, by layer; None if there are none."""
    found: dict[str, tuple[int, int]] = {}
    try:
        for path in loaded_files(directory):
            for name, entry in read_header(path).items():
                layer, _, leaf = name.rpartition(".")
                if leaf == "weight" and len(entry.shape) == 2 and layer.rpartition(".")[2] not in NOT_ADAPTED:
                    found[layer] = (entry.shape[0], entry.shape[1])
    except BadSafetensors as error:
        raise BadShapes(str(error)) from error
    return found or None


def shapes_of(config: dict[str, Any], from_files: Mapping[str, tuple[int, int]] | None = None) -> ModelShapes:
    """Returns the shapes that config.json states. `from_files`: see ModelShapes.

    Raises KeyError for a missing size, ValueError for one out of range.
    """
    layers, hidden = _size(config, "num_hidden_layers"), _size(config, "hidden_size")
    experts = _size(config, "num_experts", "num_local_experts", default=0)
    if layers * max(1, experts) > MOST_FEED_FORWARDS:
        raise ValueError(f"{layers} layers of {experts} experts are more than {MOST_FEED_FORWARDS:,} in all")
    step, dense_layers = _size(config, "decoder_sparse_step", default=1), set(config.get("mlp_only_layers") or ())
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
            layer for layer in range(layers) if experts and layer not in dense_layers and (layer + 1) % step == 0
        ),
        vocabulary=_size(config, "vocab_size"),
        context_tokens=_size(config, "max_position_embeddings"),
        family=family_of(config) or LLAMA,
        from_files=from_files,
    )


def _size(config: dict[str, Any], *names: str, default: int | None = None) -> int:
    """Returns the first of `names` that exists and is neither null nor 0, else `default`.

    Raises KeyError without a default, ValueError for a value that is not a whole number up to LARGEST_SIZE.
    """
    value = next((config[name] for name in names if config.get(name)), default)
    if value is None:
        raise KeyError(names[0])
    if type(value) is not int or not 0 <= value <= LARGEST_SIZE:
        raise ValueError(f"{names[0]} is {value!r:.40}")
    return value
