"""Merges an adapter into a transformers model's weights, and restores the original weights.

The original weights are restored from a copy, never by subtraction, so the base is bit-equal before and after any
number of adapters.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from workloads.engines.base import Adapter, BadAdapter
from workloads.models.adapters import PREFIX, WEIGHTS, read_layout
from workloads.models.base import ExpertNames
from workloads.models.shapes import ModelShapes


@dataclass
class MergedAdapter:
    """The model, its merged adapter, and copies of every weight that an adapter has changed."""

    model: Any
    shapes: ModelShapes
    merged: str | None = None
    _pristine: dict[str, Tensor] = field(default_factory=dict)
    _dirty: set[str] = field(default_factory=set)

    def merge(self, adapter: Adapter | None) -> None:
        """Merges `adapter` in place of the merged one; None restores the base.

        If it raises BadAdapter, the base's weights are restored.
        """
        if self.merged == (adapter.name if adapter else None):
            return
        self._restore()
        if adapter is None:
            return
        try:
            for name, place, delta in self._deltas(adapter):
                self._add(name, place, delta)
        except BadAdapter:
            self._restore()
            raise
        self.merged = adapter.name

    @torch.no_grad()
    def _restore(self) -> None:
        for name in self._dirty:
            self.model.get_parameter(name).copy_(self._pristine[name])
        self._dirty.clear()
        self.merged = None

    @torch.no_grad()
    def _add(self, name: str, place: "WeightSlice", delta: Tensor) -> None:
        parameter = self.model.get_parameter(name)
        if name not in self._pristine:
            self._pristine[name] = parameter.detach().clone()
        self._dirty.add(name)
        target = parameter if place.expert is None else parameter[place.expert]
        target = target if place.half is None else target.chunk(2, dim=0)[place.half]
        target.copy_((target.float() + delta.to(target.device)).to(target.dtype))

    def _deltas(self, adapter: Adapter) -> Iterator[tuple[str, "WeightSlice", Tensor]]:
        """Yields the parameter, the place in it, and scale * B @ A in float32, for each changed layer."""
        layout = read_layout(adapter.directory, self.shapes.linear())
        try:
            with safe_open(adapter.directory / WEIGHTS, framework="pt") as file:
                for layer in sorted(layout.layers):
                    factors = [file.get_tensor(f"{PREFIX}{layer}.lora_{factor}.weight").float() for factor in "AB"]
                    if not all(bool(torch.isfinite(factor).all()) for factor in factors):
                        raise BadAdapter(f"{WEIGHTS}: `{layer}` holds NaN or infinity")
                    name, place = place_of(layer, self.shapes.family.experts)
                    yield name, place, layout.scale * (factors[1] @ factors[0])
        except SafetensorError as error:
            raise BadAdapter(f"{WEIGHTS} cannot be read: {error}") from error


@dataclass(frozen=True)
class WeightSlice:
    """The place of a layer's weight in a parameter: all of it, an expert's slice, or one half of that slice's rows."""

    expert: int | None = None
    half: int | None = None


def place_of(layer: str, experts: ExpertNames | None) -> tuple[str, WeightSlice]:
    """Returns the name of the parameter that holds the layer's weight, and the weight's place in it.

    For instance, `...mlp.experts.3.up_proj` is the second half of `...mlp.experts.gate_up_proj`[3].
    """
    if experts is None or f".{experts.saved}." not in layer:
        return f"{layer}.weight", WeightSlice()
    head, _, tail = layer.partition(f".{experts.saved}.")
    expert, name = tail.split(".")
    if name == experts.down:
        return f"{head}.{experts.fused}.down_proj", WeightSlice(int(expert))
    return f"{head}.{experts.fused}.gate_up_proj", WeightSlice(int(expert), (experts.gate, experts.up).index(name))
