"""Full fine-tuning: every weight of the model is trained in float32 and saved under the names in the base's files."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers.core_model_loading import revert_weight_conversion

from workloads.api.model import canonical_json
from workloads.models.weight_files import INDEX, SINGLE
from workloads.storage.content_digest import is_counted
from workloads.train.adapter_files import base_shapes
from workloads.train.model import DTYPES, BadModel
from workloads.train.tensor_file import write_tensors

LARGEST_FILE_BYTES = 5 * 10**9
"""A larger model is written to several files, as save_pretrained of transformers does."""


def train_all(model: nn.Module) -> dict[str, nn.Parameter]:
    """Makes all parameters trainable. Returns each once, by name, in the model's order; tied ones by the first name."""
    model.requires_grad_(True)
    return dict(model.named_parameters())


def fixed_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Returns copies in host memory of the persistent buffers, which files have in addition to parameters; by name."""
    state = model.state_dict(keep_vars=True)
    return {name: value.detach().cpu() for name, value in state.items() if not isinstance(value, nn.Parameter)}


def check_names(model: nn.Module, base: Path) -> None:
    """Raises BadModel if transformers would write other tensors than the base's files have."""
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    shapes |= {name: value.shape for name, value in fixed_tensors(model).items()}
    tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    expected = base_shapes(base)
    for name, tensor in saved_tensors(model, tensors).items():
        if expected.get(name) != tuple(tensor.shape):
            raise BadModel(
                f"full: this transformers would write {name} {tuple(tensor.shape)}, and the base's files have "
                f"{expected.get(name, 'no such tensor')}; train an adapter (method: lora)"
            )


def saved_tensors(model: Any, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns `tensors`, given by the model's names, by their names in files; fused experts are split."""
    found: dict[str, Tensor] = revert_weight_conversion(model, dict(tensors))
    return found


def write_model(
    tensors: Mapping[str, Tensor], base: Path, folder: Path, precision: Literal["float32", "bfloat16"]
) -> dict[str, Path]:
    """Writes a model in Hugging Face layout: `tensors` by their names in files, and copies of the base's other files.

    Returns the paths by file name. Raises OSError.
    """
    paths = {}
    for path in sorted(base.iterdir()):
        if path.is_file() and is_counted(path.name) and not path.name.endswith((".safetensors", INDEX)):
            paths[path.name] = folder / path.name
            shutil.copyfile(path, paths[path.name])
    _state_dtype(paths["config.json"], precision)
    groups = _file_groups(tensors, DTYPES[precision].itemsize)
    names = [SINGLE] if len(groups) == 1 else [_file_name(number, len(groups)) for number in range(len(groups))]
    for name, keys in zip(names, groups, strict=True):
        paths[name] = folder / name
        cast = {key: tensors[key].to(DTYPES[precision]).contiguous() for key in keys}
        write_tensors(paths[name], cast, metadata={"format": "pt"})
    if len(groups) > 1:
        paths[INDEX] = folder / INDEX
        where = {key: name for name, keys in zip(names, groups, strict=True) for key in keys}
        size = sum(tensor.numel() for tensor in tensors.values()) * DTYPES[precision].itemsize
        paths[INDEX].write_bytes(canonical_json({"metadata": {"total_size": size}, "weight_map": where}) + b"\n")
    return paths


def _state_dtype(path: Path, precision: str) -> None:
    """Writes `precision` into the config.json at `path`, under the key that it uses (torch_dtype or dtype)."""
    config = json.loads(path.read_bytes())
    name = "torch_dtype" if "torch_dtype" in config else "dtype"
    if config.get(name) != precision:
        path.write_text(json.dumps(config | {name: precision}, indent=2) + "\n")


def _file_groups(tensors: Mapping[str, Tensor], element_bytes: int) -> list[list[str]]:
    """Returns names in order, in groups of at most LARGEST_FILE_BYTES; a larger tensor is a group by itself."""
    groups: list[list[str]] = [[]]
    size = 0
    for name in sorted(tensors):
        needed = tensors[name].numel() * element_bytes
        if groups[-1] and size + needed > LARGEST_FILE_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += needed
    return groups


def _file_name(number: int, count: int) -> str:
    return f"model-{number + 1:05d}-of-{count:05d}.safetensors"
