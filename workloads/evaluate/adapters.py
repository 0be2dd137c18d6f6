"""What an adapter's files say, checked against the base before any engine sees them. Reads headers only; no torch.

Layout: adapter_config.json as PEFT writes it, adapter_model.safetensors with
`base_model.model.<linear layer>.lora_{A,B}.weight`, A (rank, in) and B (out, rank), experts one by one: vLLM's.
"""

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workloads.evaluate.engine import Adapter, BadAdapter, Target
from workloads.evaluate.shapes import ATTENTION, ModelShapes

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."
DTYPES = ("F32", "F16", "BF16")
REFUSED = ("use_dora", "lora_bias", "modules_to_save", "layer_replication", "rank_pattern", "alpha_pattern")


@dataclass(frozen=True)
class AdapterLayout:
    rank: int
    scale: float
    """alpha / rank (alpha / sqrt(rank) with rslora): what B @ A is multiplied with."""
    layers: frozenset[str]


def check_adapter(name: str, directory: Path, shapes: ModelShapes) -> Adapter:
    """The adapter, if it fits the base: known layers, right shapes, both factors, the same layers at every depth.

    Raises BadAdapter, naming the tensor.
    """
    layout = read_layout(directory, shapes.linear())
    _check_complete(layout.layers, shapes)
    attention = all(".self_attn." in layer for layer in layout.layers)
    return Adapter(name, directory, layout.rank, "attention" if attention else "all")


def read_demands(path: Path) -> tuple[int, Target | None]:
    """Rank and target by adapter_config.json alone; no target where it does not name layers one by one.

    Raises BadAdapter.
    """
    rank, _ = _read_config(path)
    config = _load_object(path)
    modules = config.get("target_modules")
    if not isinstance(modules, list) or not modules or config.get("target_parameters"):
        return rank, None
    return rank, "attention" if {str(name).rpartition(".")[2] for name in modules} <= {*ATTENTION} else "all"


def read_layout(directory: Path, linear: Mapping[str, tuple[int, int]]) -> AdapterLayout:
    """`linear` holds the base's (out, in) by layer. Raises BadAdapter."""
    rank, scale = _read_config(directory / CONFIG)
    tensors = _read_header(directory / WEIGHTS)
    factors: dict[str, set[str]] = {}
    for key, shape in tensors.items():
        layer, _, factor = key.removesuffix(".weight").rpartition(".")
        layer = layer.removeprefix(PREFIX)
        if not key.startswith(PREFIX) or factor not in ("lora_A", "lora_B") or not key.endswith(".weight"):
            raise BadAdapter(f"{WEIGHTS}: `{key}` is no LoRA factor ({PREFIX}<layer>.lora_A.weight is expected)")
        if layer not in linear:
            raise BadAdapter(f"{WEIGHTS}: the base has no linear layer `{layer}`")
        out_size, in_size = linear[layer]
        expected = (rank, in_size) if factor == "lora_A" else (out_size, rank)
        if shape != expected:
            raise BadAdapter(f"{WEIGHTS}: `{key}` has shape {list(shape)}, the base needs {list(expected)}")
        factors.setdefault(layer, set()).add(factor)
    if not factors:
        raise BadAdapter(f"{WEIGHTS} holds no tensor")
    for layer, found in sorted(factors.items()):
        if len(found) != 2:
            raise BadAdapter(f"{WEIGHTS}: `{layer}` has only {found.pop()}")
    return AdapterLayout(rank, scale, frozenset(factors))


def _check_complete(present: frozenset[str], shapes: ModelShapes) -> None:
    """A kind of layer (q_proj, experts' gate_proj) is changed everywhere or nowhere."""
    kinds: dict[str, list[str]] = {}
    for layer in shapes.linear():
        parts = layer.split(".")
        kinds.setdefault(("experts." if "experts" in parts else "") + parts[-1], []).append(layer)
    for kind, layers in kinds.items():
        missing = [layer for layer in layers if layer not in present]
        if missing and len(missing) < len(layers):
            raise BadAdapter(
                f"{WEIGHTS}: {kind} is changed in {len(layers) - len(missing)} of {len(layers)} places; "
                f"the first missing one is `{missing[0]}`"
            )


def _read_config(path: Path) -> tuple[int, float]:
    config = _load_object(path)
    unsupported = [key for key in REFUSED if config.get(key)]
    if unsupported or config.get("bias", "none") != "none":
        raise BadAdapter(f"{path.name} asks for {', '.join(unsupported) or 'bias'}: plain LoRA only")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or rank <= 0 or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise BadAdapter(f"{path.name}: r ({rank!r}) and lora_alpha ({alpha!r}) must be numbers, r above 0")
    return rank, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _load_object(path: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(path.read_bytes())
    except OSError as error:
        raise BadAdapter(f"{path.name} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BadAdapter(f"{path.name} is not JSON: {error}") from error
    if not isinstance(loaded, dict):
        raise BadAdapter(f"{path.name} holds no object")
    return loaded


def _read_header(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes by tensor name. Source: the safetensors format (8 bytes little-endian header size, JSON, data)."""
    try:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            if size > path.stat().st_size:
                raise BadAdapter(f"{path.name} is cut short: its header alone would be {size} bytes")
            header = json.loads(file.read(size))
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
        if 8 + size + end != path.stat().st_size:
            raise BadAdapter(f"{path.name} has {path.stat().st_size} bytes where its header says {8 + size + end}")
        for name, entry in tensors.items():
            if entry["dtype"] not in DTYPES:
                raise BadAdapter(f"{path.name}: `{name}` is {entry['dtype']}, not one of {', '.join(DTYPES)}")
        return {name: tuple(entry["shape"]) for name, entry in tensors.items()}
    except OSError as error:
        raise BadAdapter(f"{path.name} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise BadAdapter(f"{path.name} is not a safetensors file: {error!r}") from error
