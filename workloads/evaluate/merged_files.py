"""Writes whole weights: a base's files with an adapter merged in, tensor by tensor, under the base's names."""

import shutil
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from workloads.engines.base import Adapter, BadAdapter, BadBase
from workloads.engines.merged_weights import check_finite
from workloads.models.adapters import PREFIX, WEIGHTS, read_layout
from workloads.models.shapes import read_shapes
from workloads.storage.content_digest import is_counted


def write_merged(base: Path, adapter: Adapter, into: Path) -> int:
    """Writes every file of the base into the folder `into`, weights merged; returns how many weights were changed.

    W + scale B A is computed in float32 and rounded once to the base's dtype. One file of the base is in memory at a
    time. Raises BadAdapter, and BadBase if the base's files do not have each changed layer under its own name.
    """
    layout = read_layout(adapter.directory, read_shapes(base).linear())
    check_finite(adapter)
    left = set(layout.layers)
    with safe_open(adapter.directory / WEIGHTS, framework="pt") as factors:
        for path in sorted(base.iterdir()):
            if path.suffix != ".safetensors":
                if path.is_file() and (is_counted(path.name) or path.name.endswith(".index.json")):
                    shutil.copyfile(path, into / path.name)
                continue
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                metadata = file.metadata()
            for name in tensors:
                layer = name.removesuffix(".weight")
                if not name.endswith(".weight") or layer not in left:
                    continue
                left.discard(layer)
                if not tensors[name].is_floating_point() or tensors[name].element_size() < 2:
                    raise BadBase(f"{path.name}: {name} is quantised; merge into the weights that it was made from")
                a, b = (factors.get_tensor(f"{PREFIX}{layer}.lora_{which}.weight").float() for which in "AB")
                merged = torch.addmm(tensors[name].float(), b, a, alpha=layout.scale).to(tensors[name].dtype)
                if not bool(torch.isfinite(merged).all()):
                    raise BadAdapter(f"{name}: the merged weight does not fit {tensors[name].dtype}")
                tensors[name] = merged
            save_file(tensors, into / path.name, metadata=metadata)
    if left:
        raise BadBase(
            f"{base}: no tensor `{min(left)}.weight` in its safetensors files: only a base whose files hold each layer "
            "under its own name (experts one by one) can be merged"
        )
    return len(layout.layers)
