"""A base's weights with an adapter merged in, tensor by tensor, in the names and shapes of the base's own files.

Every merge starts from the files: nothing of the adapter before is left, and the base is bit-equal after any number of
them. Read are only the weights that change, and those that an engine fuses with one that changes.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from workloads.evaluate.adapters import PREFIX, WEIGHTS, AdapterLayout, read_layout
from workloads.evaluate.engine import Adapter, BadAdapter
from workloads.evaluate.shapes import ModelShapes

READERS, LAYERS_AT_A_TIME = 4, 48
"""Threads that read and merge, and how much each does at a time: at 3 MB a layer 0.7 GB are ahead of the engine."""
FUSED = {"q_proj": "qkv", "k_proj": "qkv", "v_proj": "qkv", "gate_proj": "gate_up", "up_proj": "gate_up"}
"""Engines keep these side by side in one parameter, and all experts of a layer in another."""


class BadBase(ValueError):
    """The base's files do not hold a linear layer by its own name."""


def module_of(layer: str) -> str:
    """What is loaded together with `layer`: `...mlp.experts` of all its experts, `...self_attn.qkv` of q, k and v."""
    head, _, name = layer.rpartition(".")
    experts, separator, _ = layer.partition(".experts.")
    return f"{experts}.experts" if separator else f"{head}.{FUSED.get(name, name)}"


@dataclass
class MergedWeights:
    """The files of a base, open for as long as the object is; make it with `open`."""

    shapes: ModelShapes
    device: torch.device
    _tensors: Mapping[str, tuple[Any, tuple[str, ...]]]
    """File and tensor names (weight, bias) by linear layer."""
    _open: ExitStack
    _changed: frozenset[str] = field(default=frozenset())
    """Modules that differ from the base where the tensors went last."""

    @classmethod
    def open(cls, directory: Path, shapes: ModelShapes, device: torch.device) -> Self:
        """Raises BadBase."""
        linear, stack = shapes.linear(), ExitStack()
        found: dict[str, tuple[Any, tuple[str, ...]]] = {}
        for path in sorted(directory.glob("*.safetensors")):
            file = stack.enter_context(safe_open(path, framework="pt"))
            for name in sorted(file.keys()):
                layer = name.rpartition(".")[0]
                if layer in linear:
                    found[layer] = (file, (*found.get(layer, (file, ()))[1], name))
        missing = [layer for layer in linear if layer not in found]
        if missing:
            stack.close()
            raise BadBase(
                f"{directory}: no tensor of `{missing[0]}` in its safetensors files; merging needs the weights of "
                "every linear layer under its own name (experts one by one)"
            )
        return cls(shapes, device, found, stack)

    def close(self) -> None:
        self._open.close()

    def wear(self, adapter: Adapter | None) -> Iterator[tuple[str, Tensor]]:
        """Name and value, on the device, of every tensor of a module that `adapter` or the one before it changes.

        In the base's dtype, module by module; a few are read ahead, on threads. Meant to be read to its end. Raises
        BadAdapter.
        """
        linear = self.shapes.linear()
        layout = read_layout(adapter.directory, linear) if adapter else AdapterLayout(0, 0.0, frozenset())
        wanted = frozenset(map(module_of, layout.layers))
        reloaded = wanted | self._changed
        self._changed = reloaded
        layers = [layer for layer in linear if module_of(layer) in reloaded]
        with ExitStack() as stack:
            factors = stack.enter_context(safe_open(adapter.directory / WEIGHTS, framework="pt")) if adapter else None
            pool = stack.enter_context(ThreadPoolExecutor(READERS, thread_name_prefix="weights"))
            ahead: deque[Future[list[tuple[str, Tensor]]]] = deque()
            for start in range(0, len(layers), LAYERS_AT_A_TIME):
                part = layers[start : start + LAYERS_AT_A_TIME]
                ahead.append(pool.submit(self._read, part, factors, layout))
                if len(ahead) > READERS:
                    yield from ahead.popleft().result()
            while ahead:
                yield from ahead.popleft().result()
        self._changed = wanted

    @torch.no_grad()
    def _read(self, layers: Sequence[str], factors: Any, layout: AdapterLayout) -> list[tuple[str, Tensor]]:
        found: list[tuple[str, Tensor]] = []
        for layer in layers:
            file, names = self._tensors[layer]
            for name in names:
                tensor: Tensor = file.get_tensor(name).to(self.device)
                if layer in layout.layers and name.endswith(".weight"):
                    a, b = (factor.to(self.device).float() for factor in _factors(factors, layer))
                    tensor = torch.addmm(tensor.float(), b, a, alpha=layout.scale).to(tensor.dtype)
                found.append((name, tensor))
        return found


def _factors(file: Any, layer: str) -> tuple[Tensor, Tensor]:
    """A (rank, in) and B (out, rank)."""
    a, b = (file.get_tensor(f"{PREFIX}{layer}.lora_{factor}.weight") for factor in "AB")
    return a, b


def check_finite(adapter: Adapter) -> None:
    """Raises BadAdapter, naming the tensor that holds NaN or infinity, or that cannot be read."""
    try:
        with safe_open(adapter.directory / WEIGHTS, framework="pt") as file, ThreadPoolExecutor(READERS) as pool:
            names = sorted(file.keys())
            finite = pool.map(lambda name: bool(torch.isfinite(file.get_tensor(name)).all()), names)
            for name, good in zip(names, finite, strict=True):
                if not good:
                    raise BadAdapter(f"{WEIGHTS}: `{name}` holds NaN or infinity")
    except (OSError, SafetensorError) as error:
        raise BadAdapter(f"{WEIGHTS} cannot be read: {error}") from error
