"""Reads peft's adapter_config.json with an allow list: any setting that is not known as plain LoRA is refused by name.

If a key that changes the computation were ignored, the result would silently be another model. The known keys are the
fields of peft's LoraConfig (0.3 to 0.21): some must have a value that means "plain"; the others describe the training,
or repeat what the tensors' names show. An unknown key must be empty. Source:
https://github.com/huggingface/peft/blob/v0.21.2/src/peft/tuners/lora/config.py
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workloads.engines.base import BadAdapter as BadAdapter

LARGEST_BYTES = 1 << 20
SHOWN_CHARACTERS = 80

ANYTHING = frozenset({
    # The origin of the adapter.
    "auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision",
    # The layers that it changes: its tensors' names show them.
    "exclude_modules", "layers_pattern", "layers_to_transform", "target_modules", "target_parameters",
    # The training. The configurations of CorDA, EVA and LoRA-GA have an effect only with init_lora_weights.
    "corda_config", "ensure_weight_tying", "eva_config", "lora_dropout", "lora_ga_config", "merge_weights",
    "runtime_config",
    # These have no effect without megatron_config and use_qalora, which are refused.
    "megatron_core", "qalora_group_size",
    # Read below.
    "init_lora_weights", "lora_alpha", "r", "use_rslora",
})  # fmt: skip

PLAIN: dict[str, tuple[object, ...]] = {
    "bias": ("none",),
    "peft_type": ("LORA",),
    "task_type": ("CAUSAL_LM",),
}
"""Keys with the values that mean plain LoRA of a causal language model; they may also be missing."""

PLAIN_INITS = ("eva", "gaussian", "mica", "orthogonal")
"""Values of init_lora_weights that set only the factors and do not change the base."""
CONVERTED_INITS = ("corda", "lora_ga", "olora", "pissa")
"""Values that change the base too, by their prefix (`pissa_niter_16`).

peft can convert these adapters to plain LoRA.
"""

MERGE = "merge it into the base with peft's merge_and_unload() and use the whole weights (weights: model)"
CONVERT = (
    "its factors belong to a base that peft changed before training. Save it again as plain LoRA with peft's "
    "save_pretrained(DIRECTORY, path_initial_model_for_weight_conversion=INITIAL), INITIAL being the adapter as it "
    "was saved before training, and use DIRECTORY"
)
REMEDIES = {
    "alora_invocation_tokens": "aLoRA changes only what follows its invocation tokens, which no engine here does and "
    "no merge can; train it as plain LoRA",
    "loftq_config": f"LoftQ's factors belong to a quantised base; {MERGE}",
    "modules_to_save": f"whole modules are not read from adapters; {MERGE}",
    "task_type": "only adapters of a causal language model (CAUSAL_LM) can be evaluated",
    "peft_type": f"only plain LoRA (LORA) is read; {MERGE}",
}


@dataclass(frozen=True)
class AdapterConfig:
    """`scale`: alpha / rank (alpha / sqrt(rank) with rsLoRA), the factor of B @ A."""

    rank: int
    alpha: float
    rslora: bool
    scale: float
    target_modules: tuple[str, ...]
    """Names of layers, as in the file; empty if it does not name each layer."""


def read_config(path: Path) -> AdapterConfig:
    """Raises BadAdapter, which names the key, the problem with its value, and what to do."""
    config = _load_object(path)
    for key, value in sorted(config.items(), key=lambda item: (item[0] != "peft_type", item[0])):
        if not _is_plain(key, value):
            raise BadAdapter(f"{path.name}: {key} is {_shown(value)}: {_remedy(key, config)}")
    rank, alpha, stabilized = config.get("r"), _number(config.get("lora_alpha")), config.get("use_rslora") or False
    if type(rank) is not int or not 0 < rank < 1 << 20 or alpha is None or type(stabilized) is not bool:
        raise BadAdapter(
            f"{path.name}: r ({_shown(config.get('r'))}) and lora_alpha ({_shown(config.get('lora_alpha'))}) must be "
            f"numbers, r above 0, and use_rslora ({_shown(stabilized)}) true or false"
        )
    modules = config.get("target_modules")
    by_name = isinstance(modules, list) and not config.get("target_parameters")
    names = tuple(map(str, modules)) if by_name and isinstance(modules, list) else ()
    return AdapterConfig(rank, alpha, stabilized, alpha / (math.sqrt(rank) if stabilized else rank), names)


def _is_plain(key: str, value: Any) -> bool:
    if key == "init_lora_weights":
        return value is None or isinstance(value, bool) or (isinstance(value, str) and value.lower() in PLAIN_INITS)
    return key in ANYTHING or _is_empty(value) or value in PLAIN.get(key, ())


def _is_empty(value: Any) -> bool:
    return value is None or value is False or (isinstance(value, str | list | dict) and not value)


def _remedy(key: str, config: dict[str, Any]) -> str:
    if key == "init_lora_weights":
        init = str(config[key]).lower()
        if init.startswith(CONVERTED_INITS):
            return CONVERT
        return REMEDIES["loftq_config"] if init == "loftq" else f"this start of training is not known here; {MERGE}"
    if key in REMEDIES:
        return REMEDIES[key]
    return f"only plain LoRA is read, and this key may change what the adapter computes; {MERGE}"


def _number(value: Any) -> float | None:
    """Returns None for anything but a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value)
    except (ValueError, RecursionError):
        text = f"a {type(value).__name__} that cannot be printed"
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def _load_object(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise BadAdapter(f"{path.name} has more than {LARGEST_BYTES:,} bytes: it is not an adapter configuration")
        loaded = json.loads(path.read_bytes())
    except OSError as error:
        raise BadAdapter(f"{path.name} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BadAdapter(f"{path.name} is not JSON: {str(error)[:200]}") from error
    except RecursionError as error:
        raise BadAdapter(f"{path.name} is nested too deeply") from error
    if not isinstance(loaded, dict):
        raise BadAdapter(f"{path.name} is not a JSON object")
    return loaded
