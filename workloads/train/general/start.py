"""Copies the values of an existing adapter into peft's parameters before the first step."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from workloads.api.units import Lora
from workloads.engines.base import BadAdapter
from workloads.models.adapter_config import read_config
from workloads.train.adapter_files import CONFIG, WEIGHTS
from workloads.train.general.lora import PEFT_PREFIX, LoraLayout
from workloads.train.model import BadModel


def load_start(
    parameters: Mapping[str, nn.Parameter], adapted: Sequence[LoraLayout], lora: Lora, directory: Path
) -> None:
    """Copies the adapter in `directory` into `parameters`.

    Raises BadModel if rank, scale or layers differ from `lora`, or a value is not finite.
    """
    try:
        config = read_config(directory / CONFIG)
        tensors = load_file(directory / WEIGHTS)
    except (BadAdapter, OSError, SafetensorError) as error:
        raise BadModel(f"startFrom: {error}") from error
    found = (config.rank, config.alpha, config.rslora)
    if found != (lora.rank, lora.alpha, lora.rslora):
        raise BadModel(
            f"startFrom: the adapter has rank, alpha and rslora {found}, and lora states "
            f"{(lora.rank, lora.alpha, lora.rslora)}"
        )
    if any(layout.parameter for layout in adapted):
        raise BadModel("startFrom: adapters of experts cannot be trained further; leave the experts out of the target")
    keys: dict[str, str] = {}
    for layout in adapted:
        for factor, name in (("A", layout.a), ("B", layout.b)):
            keys[f"{PEFT_PREFIX}{layout.layer}.lora_{factor}.weight"] = name
    if missing := sorted(keys.keys() - tensors.keys()):
        raise BadModel(f"startFrom: lora.target names layers that the adapter does not change, first: {missing[0]}")
    if unused := sorted(tensors.keys() - keys.keys()):
        raise BadModel(f"startFrom: the adapter changes layers that lora.target does not name, first: {unused[0]}")
    for key, name in keys.items():
        _copy(key, tensors[key], parameters[name])


def _copy(key: str, value: Tensor, into: nn.Parameter) -> None:
    """Raises BadModel."""
    if value.shape != into.shape:
        raise BadModel(f"startFrom: {key} has shape {list(value.shape)}, the base needs {list(into.shape)}")
    if not bool(torch.isfinite(value).all()):
        raise BadModel(f"startFrom: {key} holds NaN or infinity")
    into.data.copy_(value)
