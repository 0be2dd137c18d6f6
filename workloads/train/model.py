"""Loads the frozen base from its directory, as a transformers model."""

import json
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from workloads.models.fits import beyond_embedding, too_long
from workloads.models.weight_files import BadWeightFiles, read_weights


class BadModel(Exception):
    """The base cannot be trained as requested; the message says why."""


ARCHITECTURES = ("Qwen3ForCausalLM", "Qwen3MoeForCausalLM")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load_base(directory: Path, precision: Literal["float32", "bfloat16"], device: torch.device) -> nn.Module:
    """Returns the model in eval mode: Qwen3 has no dropout, and the base is frozen. Raises BadModel."""
    architecture = _architecture(directory)
    check_weights(directory)
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    model = architecture.from_pretrained(
        directory,
        dtype=DTYPES[precision],
        local_files_only=True,
        attn_implementation="sdpa",
        device_map={"": device} if device.type == "cuda" else None,
    )
    assert isinstance(model, nn.Module)
    return model.eval().requires_grad_(False)


def check_weights(directory: Path) -> None:
    """Raises BadModel where a file of the weights is missing or its header cannot be read."""
    try:
        read_weights(directory)
    except BadWeightFiles as error:
        raise BadModel(str(error)) from error


def model_config(directory: Path) -> Any:
    """Returns the transformers configuration. Raises BadModel."""
    return _architecture(directory).config_class.from_pretrained(directory, local_files_only=True)


def check_fits(directory: Path, sequence_tokens: int, largest_token: int) -> None:
    """Raises BadModel if the base has too few positions, or no embedding row for a token of the data."""
    config = read_config(directory)
    if (message := too_long(config, sequence_tokens) or beyond_embedding(config, largest_token)) is not None:
        raise BadModel(message)


def read_config(directory: Path) -> dict[str, Any]:
    path = directory / "config.json"
    if not path.is_file():
        raise BadModel(f"{directory} has no config.json: it is not a model in Hugging Face layout")
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def _architecture(directory: Path) -> Any:
    named = (read_config(directory).get("architectures") or ["none"])[0]
    match named:
        case "Qwen3ForCausalLM":
            from transformers.models.qwen3.modeling_qwen3 import Qwen3ForCausalLM

            return Qwen3ForCausalLM
        case "Qwen3MoeForCausalLM":
            from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeForCausalLM

            return Qwen3MoeForCausalLM
    raise BadModel(
        f"the base is a {named}; the fast trainer knows {' and '.join(ARCHITECTURES)}. State `trainer: general`: where "
        "the base was accepted its architecture was not known"
    )
