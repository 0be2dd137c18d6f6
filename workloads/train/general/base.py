"""Loads any causal language model of transformers from its directory.

Refuses it if the loaded model would differ from its files.
"""

from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from workloads.models import architecture_of
from workloads.train.model import DTYPES, BadModel, check_weights, read_config

NOISE = ("dropout", "pdrop", "layerdrop", "jitter")
"""Parts of the names of settings that make a training forward random. They are set to 0, because the base is frozen."""


def load_base(
    directory: Path, precision: Literal["float32", "bfloat16"], device: torch.device
) -> tuple[Any, list[str]]:
    """Returns the frozen model in eval mode, and warnings. Code from the model's directory never runs.

    Raises BadModel: not safetensors, quantised, unknown to this transformers, another class than in config.json, or
    weights that the files lack (transformers would initialise them at random).
    """
    named = architecture_of(read_config(directory))
    check_weights(directory)
    config = _config(directory)
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            directory,
            config=config,
            dtype=DTYPES[precision],
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation=attention_of(config),
            device_map={"": device} if device.type == "cuda" else None,
            output_loading_info=True,
        )
    except (ValueError, KeyError, ImportError, OSError) as error:
        raise BadModel(f"transformers does not load the base: {str(error)[:500]}") from error
    model, found = loaded
    if type(model).__name__ != named:
        raise BadModel(f"config.json says {named}, but transformers loads it as {type(model).__name__}")
    for kind in ("missing_keys", "mismatched_keys"):
        if keys := sorted(map(str, found[kind])):
            raise BadModel(f"the files do not hold all weights of a {named}: {kind} {len(keys)}, first: {keys[0]}")
    unread = sorted(map(str, found["unexpected_keys"]))
    warnings = (
        [f"UnreadWeights: a {named} has no use for {len(unread)} tensors of the base, first: {unread[0]}"]
        if unread
        else []
    )
    return model.eval().requires_grad_(False), warnings


def attention_of(config: Any) -> str | None:
    """Returns `eager` for soft-capped attention scores, which transformers' sdpa does not support; else its own
    choice.
    """
    return "eager" if getattr(config, "attn_logit_softcapping", None) else None


def _config(directory: Path) -> Any:
    """Switches off all randomness. Raises BadModel."""
    try:
        config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except (ValueError, KeyError, ImportError, OSError) as error:
        raise BadModel(f"transformers does not know this model: {str(error)[:500]}") from error
    if getattr(config, "quantization_config", None):
        raise BadModel("the base is quantised: name the same model in bfloat16 or float32")
    for name, value in list(vars(config).items()):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and any(part in name for part in NOISE):
            setattr(config, name, 0.0)
    return config
