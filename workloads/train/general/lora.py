"""peft's LoRA on a model, its parameters by name, and the adapter under the keys that peft, vLLM and we load."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.layer import LoraLayer, ParamWrapper
from torch import Tensor, nn

from workloads.api.units import Lora
from workloads.models.base import ModelFamily
from workloads.train.general.targets import Targets
from workloads.train.model import BadModel

PEFT_PREFIX = "base_model.model."
ADAPTER = "default"


def wrap(model: nn.Module, targets: Targets, lora: Lora, seed: int) -> Any:
    """Returns peft's model, with LoRA parameters in float32, initialised on the CPU from `seed`. Raises BadModel."""
    if targets.parameters and lora.dropout:
        raise BadModel("lora dropout: peft has none for fused experts; state 0, or leave the experts out of the target")
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        use_rslora=lora.rslora,
        target_modules=list(targets.modules),
        target_parameters=list(targets.parameters) or None,
        task_type="CAUSAL_LM",
    )
    devices = {parameter.device for parameter in model.parameters() if parameter.is_cuda}
    with torch.random.fork_rng(list(devices)):  # by default it starts a CUDA context on every GPU of the machine
        torch.manual_seed(seed)
        wrapped = get_peft_model(model, config)
    for parameter in trainable(wrapped).values():
        parameter.data = parameter.data.float()
    return wrapped


def trainable(wrapped: nn.Module) -> dict[str, nn.Parameter]:
    """Returns parameters by name in peft's model, in its order."""
    return {name: parameter for name, parameter in wrapped.named_parameters() if parameter.requires_grad}


@dataclass(frozen=True)
class LoraLayout:
    """One adapted layer: names of the parameters A and B, and the layer's name in the base's files.

    `parameter`: for fused experts, the adapted parameter (gate_up_proj, down_proj), whose `experts` factors are in one
    A (E rank, in) and one B (out, rank E); else empty.
    """

    a: str
    b: str
    layer: str
    parameter: str = ""
    experts: int = 0


def layouts(wrapped: nn.Module, family: ModelFamily | None) -> list[LoraLayout]:
    found = []
    for path, module in wrapped.named_modules():
        if not isinstance(module, LoraLayer):
            continue
        factors = {factor: f"{path}.lora_{factor}.{ADAPTER}.weight" for factor in "AB"}
        layer = path.removeprefix(PEFT_PREFIX)
        if isinstance(module, ParamWrapper):
            assert family is not None
            assert family.experts is not None
            while layer.endswith(".base_layer"):
                layer = layer.removesuffix(".base_layer")
            layer = layer.removesuffix(family.experts.fused) + family.experts.saved
            found.append(LoraLayout(factors["A"], factors["B"], layer, module.parameter_name, module.num_experts))
        else:
            found.append(LoraLayout(factors["A"], factors["B"], layer))
    return found


def adapter_tensors(
    values: Mapping[str, Tensor], adapted: list[LoraLayout], family: ModelFamily | None
) -> dict[str, Tensor]:
    """Returns A (rank, in) and B (out, rank) of every layer of the base's files; experts one by one.

    In peft, the gate and the up projection of an expert are one fused parameter with one A: both get the same A here.
    """
    found: dict[str, Tensor] = {}
    for one in adapted:
        a, b = values[one.a], values[one.b]
        if not one.parameter:
            found |= _keys(one.layer, a, b)
            continue
        assert family is not None
        assert family.experts is not None
        names = family.experts
        by_expert = zip(
            a.view(one.experts, -1, a.shape[1]), b.view(b.shape[0], -1, one.experts).movedim(2, 0), strict=True
        )
        for number, (factor_a, factor_b) in enumerate(by_expert):
            prefix = f"{one.layer}.{number}"
            if one.parameter == "down_proj":
                found |= _keys(f"{prefix}.{names.down}", factor_a, factor_b)
            else:
                gate, up = factor_b.chunk(2, dim=0)
                found |= _keys(f"{prefix}.{names.gate}", factor_a, gate) | _keys(f"{prefix}.{names.up}", factor_a, up)
    return found


def _keys(layer: str, a: Tensor, b: Tensor) -> dict[str, Tensor]:
    return {f"{PEFT_PREFIX}{layer}.lora_{name}.weight": factor.contiguous() for name, factor in (("A", a), ("B", b))}
