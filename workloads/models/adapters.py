"""Reads the layout of an adapter's files and checks it against the base, before any engine loads them. Reads only
headers; no torch.

Layout: adapter_config.json as PEFT writes it, adapter_model.safetensors with `base_model.model.<linear
layer>.lora_{A,B}.weight`, A (rank, in) and B (out, rank), each expert separately: vLLM's layout.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workloads.engines.base import Adapter, BadAdapter, Target
from workloads.models.adapter_config import read_config
from workloads.models.base import ATTENTION
from workloads.models.safetensors_file import BadSafetensors, read_header
from workloads.models.shapes import ModelShapes

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."
DTYPES = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class AdapterLayout:
    rank: int
    scale: float
    """alpha / rank (alpha / sqrt(rank) with rslora), the factor of B @ A."""
    layers: frozenset[str]


def check_adapter(name: str, directory: Path, shapes: ModelShapes) -> Adapter:
    """Returns the adapter if it fits the base: known layers, right shapes, both factors, the same layers at every
    depth.

    Raises BadAdapter, which names the tensor.
    """
    layout = read_layout(directory, shapes.linear())
    _check_complete(layout.layers, shapes)
    attention = all(".self_attn." in layer for layer in layout.layers)
    return Adapter(name, directory, layout.rank, "attention" if attention else "all")


def read_demands(path: Path) -> tuple[int, Target | None]:
    """Returns rank and target from adapter_config.json alone; no target if it does not name each layer."""
    config = read_config(path)
    if not config.target_modules:
        return config.rank, None
    kinds = {name.rpartition(".")[2] for name in config.target_modules}
    return config.rank, "attention" if kinds <= {*ATTENTION} else "all"


def read_layout(directory: Path, linear: Mapping[str, tuple[int, int]]) -> AdapterLayout:
    """`linear`: the base's (out, in) by layer. Raises BadAdapter."""
    config = read_config(directory / CONFIG)
    rank = config.rank
    tensors = _read_shapes(directory / WEIGHTS)
    factors: dict[str, set[str]] = {}
    for key, shape in tensors.items():
        layer, _, factor = key.removesuffix(".weight").rpartition(".")
        layer = layer.removeprefix(PREFIX)
        if ".base_layer." in key:
            raise BadAdapter(
                f"{WEIGHTS}: `{key}` is the base's own weight, which peft saves beside an adapter of the head or the "
                "embeddings: leave lm_head and embed_tokens out of target_modules"
            )
        if not key.startswith(PREFIX) or factor not in ("lora_A", "lora_B") or not key.endswith(".weight"):
            raise BadAdapter(f"{WEIGHTS}: `{key}` is not a LoRA factor ({PREFIX}<layer>.lora_A.weight is expected)")
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
    return AdapterLayout(rank, config.scale, frozenset(factors))


def _check_complete(present: frozenset[str], shapes: ModelShapes) -> None:
    """A kind of layer (q_proj, experts' gate_proj) must be changed at every depth or at none."""
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


def _read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Returns shapes by tensor name. Raises BadAdapter."""
    try:
        tensors = read_header(path)
    except OSError as error:
        raise BadAdapter(f"{path.name} cannot be read: {error.strerror}") from error
    except BadSafetensors as error:
        raise BadAdapter(str(error)) from error
    for name, entry in tensors.items():
        if entry.dtype not in DTYPES:
            raise BadAdapter(f"{path.name}: `{name}` is {entry.dtype}, not one of {', '.join(DTYPES)}")
    return {name: entry.shape for name, entry in tensors.items()}
