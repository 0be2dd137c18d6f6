"""Finds the layers that get an adapter: the names in `lora.target`, as paths of modules. A missing name is refused."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import nn

from workloads.api.units import ALL_LINEAR, KINDS
from workloads.models.base import ModelFamily
from workloads.train.model import BadModel

FUSED_PARAMETERS = ("gate_up_proj", "down_proj")


@dataclass(frozen=True)
class Targets:
    """`modules`: paths of linear modules. `parameters`: paths of fused experts' parameters."""

    modules: tuple[str, ...]
    parameters: tuple[str, ...] = ()


def find_targets(model: nn.Module, family: ModelFamily | None, stated: Collection[str]) -> Targets:
    """Raises BadModel for a target with a missing name; the message lists the existing names."""
    linear = _linear_layers(model)
    if set(stated) == {ALL_LINEAR}:
        experts = _expert_parameters(model, family) if family is not None and family.experts is not None else ()
        return Targets(tuple(linear), experts)
    names: list[str] = []
    parameters: tuple[str, ...] = ()
    for target in stated:
        if target not in KINDS:
            names.append(target)
            continue
        kinds = _kinds(model, family, target, linear)
        if target == "experts":
            parameters = _expert_parameters(model, family)
        else:
            names += kinds[target]
    present = {path.rpartition(".")[2] for path in linear}
    if missing := sorted(set(names) - present):
        raise BadModel(
            f"lora target: {type(model).__name__} has no linear layer {', '.join(missing)}; it has "
            f"{', '.join(sorted(present))}"
        )
    return Targets(tuple(path for path in linear if path.rpartition(".")[2] in names), parameters)


def _linear_layers(model: nn.Module) -> Mapping[str, nn.Linear]:
    """Returns linear layers by path, in the model's order: all but the head."""
    head = model.get_output_embeddings()  # type: ignore[operator]
    return {
        path: module for path, module in model.named_modules() if isinstance(module, nn.Linear) and module is not head
    }


def _kinds(
    model: nn.Module, family: ModelFamily | None, target: str, linear: Collection[str]
) -> Mapping[str, tuple[str, ...]]:
    """Raises BadModel."""
    name = type(model).__name__
    if family is None:
        names = ", ".join(sorted({path.rpartition(".")[2] for path in linear}))
        raise BadModel(
            f"lora target {target}: which layers these are in a {name} is not known here; state all-linear, or names "
            f"of {names}"
        )
    if target not in family.kinds:
        raise BadModel(f"lora target {target}: a {name} has none; it has {', '.join(family.kinds)}")
    return family.kinds


def _expert_parameters(model: nn.Module, family: ModelFamily | None) -> tuple[str, ...]:
    """Raises BadModel if this transformers stores the experts in another way."""
    assert family is not None
    assert family.experts is not None
    found = tuple(
        f"{path}.{name}"
        for path, module in model.named_modules()
        if path.endswith(f".{family.experts.fused}")
        for name in FUSED_PARAMETERS
        if isinstance(getattr(module, name, None), nn.Parameter)
    )
    if not found:
        raise BadModel(
            f"lora target experts: this transformers does not hold the experts of a {type(model).__name__} as "
            f"{family.experts.fused}.gate_up_proj and .down_proj"
        )
    return found
