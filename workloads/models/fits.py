"""Limits of a base that its config.json shows. No torch: planner and trainer share it."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from workloads.models import FAMILIES, architecture_of
from workloads.models.safetensors_file import TensorEntry
from workloads.models.shapes import ModelShapes
from workloads.words import count_of

EMBEDDING = "model.embed_tokens.weight"
"""A tensor of the families. Files that have it name their layers as transformers does."""


def context_tokens(config: Mapping[str, Any]) -> int | None:
    """Returns the largest number of positions of the base, None if config.json does not state it."""
    found = config.get("max_position_embeddings")
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def is_quantised(config: Mapping[str, Any]) -> bool:
    """Returns whether the files hold quantised weights, whose shapes and sizes differ from those of the layers."""
    return bool(config.get("quantization_config") or config.get("compression_config"))


def why_not_trained(config: Mapping[str, Any]) -> str | None:
    """Returns why no trainer supports this base; None if its config.json shows no reason."""
    named = architecture_of(config)
    if named is None:
        return "its config.json names no architecture"
    if is_quantised(config):
        return "it is quantised: train the weights that it was made from, in bfloat16 or float32"
    if isinstance(config.get("auto_map"), Mapping) and "AutoModelForCausalLM" in config["auto_map"]:
        return f"a {named} runs code of its own directory (auto_map), which Potstill never does"
    if not named.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")):
        return f"a {named} is not a causal language model"
    return None


def too_long(config: Mapping[str, Any], sequence_tokens: int) -> str | None:
    """Returns why samples of `sequence_tokens` do not fit the base; None if they fit."""
    limit = context_tokens(config)
    if limit is None or sequence_tokens <= limit:
        return None
    return f"sequenceTokens {sequence_tokens} is above the base's max_position_embeddings {limit}"


def beyond_embedding(config: Mapping[str, Any], largest_token: int) -> str | None:
    """Returns why the embedding has no row for a token of the data; None if it has."""
    rows = config.get("vocab_size")
    if not isinstance(rows, int) or largest_token < rows:
        return None
    return (
        f"the data holds token {largest_token} but the base's embedding has {rows} rows: "
        "its tokenizer.json belongs to another model"
    )


def why_not_loaded(shapes: ModelShapes, tensors: Mapping[str, TensorEntry]) -> str | None:
    """Returns why the files are not a model of the sizes in config.json; None if they are or the family is unknown.

    The experts of a mixture are not checked, because files hold them in several ways.
    """
    if shapes.from_files is not None or EMBEDDING not in tensors:
        return None
    dense = {f"{layer}.weight": size for layer, size in shapes.linear().items() if ".experts." not in layer}
    if missing := [name for name in dense if name not in tensors]:
        return f"its files lack {count_of(len(missing), 'weight')} that config.json needs, first: {missing[0]}"
    for name, size in dense.items():
        if tensors[name].shape != size:
            found = list(tensors[name].shape)
            return f"config.json needs {name} of shape {list(size)}, and the files have {found}: copy the model again"
    return None


def why_unknown_to_transformers(config: Mapping[str, Any]) -> str | None:
    """Returns why transformers on this machine does not load the base as its config.json states; None if it does.

    Also None if transformers is not installed, and for families in the table.
    """
    named, kind = architecture_of(config), config.get("model_type")
    if named is None or named in FAMILIES:
        return None
    try:
        installed = version("transformers")
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    except (PackageNotFoundError, ImportError):
        return None
    known: Any = dict(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES).get(kind if isinstance(kind, str) else "")
    if known is None:
        return f"transformers {installed} of this machine has no causal language model of type {kind!r:.60}"
    if named != known and named not in known:
        return f"config.json says {named}, and transformers {installed} loads a base of type {kind} as {known}"
    return None
