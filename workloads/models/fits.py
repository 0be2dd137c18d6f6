"""Limits of a base that its config.json shows. No torch: planner and trainer share it."""

from collections.abc import Mapping
from typing import Any

from workloads.models import architecture_of


def context_tokens(config: Mapping[str, Any]) -> int | None:
    """Returns the largest number of positions of the base, None if config.json does not state it."""
    found = config.get("max_position_embeddings")
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def why_not_trained(config: Mapping[str, Any]) -> str | None:
    """Returns why no trainer supports this base; None if its config.json shows no reason."""
    named = architecture_of(config)
    if named is None:
        return "its config.json names no architecture"
    if config.get("quantization_config"):
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
