"""Writes an adapter that vLLM and peft can load: adapter_model.safetensors and a deterministic adapter_config.json."""

from collections.abc import Collection, Mapping
from pathlib import Path

from torch import Tensor

from workloads.api.model import canonical_json
from workloads.api.units import Lora
from workloads.models.safetensors_file import read_header
from workloads.train.kernels.lora import PEFT_PREFIX
from workloads.train.tensor_file import write_tensors

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def write_adapter(views: Mapping[str, Tensor], config: Mapping[str, object], folder: Path) -> dict[str, Path]:
    """`views`: 2D tensors on the host under vLLM's keys, in the dtype in which they are computed, without loss."""
    paths = {WEIGHTS: folder / WEIGHTS, CONFIG: folder / CONFIG}
    write_tensors(paths[WEIGHTS], views, metadata={"format": "pt"})
    paths[CONFIG].write_bytes(canonical_json(config) + b"\n")
    return paths


def adapter_config(lora: Lora, modules: Collection[str]) -> dict[str, object]:
    """Returns peft's LoraConfig without a path or a version, so that equal weights have equal files.

    `modules`: names of the linear layers that have an adapter.
    """
    return {
        "base_model_name_or_path": None,
        "bias": "none",
        "inference_mode": True,
        "lora_alpha": int(lora.alpha) if lora.alpha == int(lora.alpha) else lora.alpha,
        "lora_dropout": lora.dropout,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": lora.rank,
        "target_modules": sorted(set(modules)),
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": lora.rslora,
    }


def misfits(views: Mapping[str, Tensor], directory: Path) -> list[str]:
    """Returns tensors of an adapter that do not fit the base in `directory`, by the shapes in its safetensors headers.

    A key must name a 2D weight of the base, A (rank, in) and B (out, rank); experts may be stored one by one or fused.
    """
    shapes = base_shapes(directory)
    problems = []
    for key, view in views.items():
        path, _, factor = key.removeprefix(PEFT_PREFIX).removesuffix(".weight").rpartition(".lora_")
        shape = shapes.get(f"{path}.weight") or _fused(path, shapes)
        if shape is None:
            problems.append(f"{key}: the base has no {path}.weight")
        elif view.dim() != 2 or view.shape[factor == "A"] != shape[factor == "A"]:
            problems.append(f"{key} has shape {tuple(view.shape)}, the base's weight {shape}")
    return problems


def base_shapes(directory: Path) -> dict[str, tuple[int, ...]]:
    """Returns shapes of the base's tensors, by name. Raises BadSafetensors."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(directory.glob("*.safetensors")):
        shapes |= {name: entry.shape for name, entry in read_header(path).items()}
    return shapes


def _fused(path: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...] | None:
    """Returns the shape of `...experts.<e>.<projection>` in `...experts.gate_up_proj` (E, 2I, H) or
    `...experts.down_proj` (E, H, I).
    """
    head, _, projection = path.rpartition(".")
    experts, _, expert = head.rpartition(".")
    fused = shapes.get(f"{experts}.{'down_proj' if projection == 'down_proj' else 'gate_up_proj'}")
    if fused is None or len(fused) != 3 or int(expert) >= fused[0]:
        return None
    return fused[1:] if projection == "down_proj" else (fused[1] // 2, fused[2])
