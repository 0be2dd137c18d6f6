"""A base's weights with an adapter merged in, tensor by tensor, in the names and shapes of the base's own files.

Every merge starts from the files: nothing of the adapter before is left, and the base is bit-equal after any number of
them. Read are only the weights that change, and those that an engine fuses with one that changes.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from workloads.evaluate.adapters import PREFIX, WEIGHTS, AdapterLayout, read_layout
from workloads.evaluate.engine import Adapter, BadAdapter
from workloads.evaluate.shapes import ModelShapes

READERS, PART_BYTES = 4, 128 << 20
"""Threads that read and merge, and how much of the base each does at a time; one part more is ahead of the engine."""
DTYPES = ("F32", "F16", "BF16")
FUSED = {"q_proj": "qkv", "k_proj": "qkv", "v_proj": "qkv", "gate_proj": "gate_up", "up_proj": "gate_up"}
"""Engines keep these side by side in one parameter, and all experts of a layer in another."""


class BadBase(ValueError):
    """The base's files do not hold every linear layer plainly, under its own name."""


def module_of(layer: str) -> str:
    """What is loaded together with `layer`: `...mlp.experts` of all its experts, `...self_attn.qkv` of q, k and v."""
    head, _, name = layer.rpartition(".")
    experts, separator, _ = layer.partition(".experts.")
    return f"{experts}.experts" if separator else f"{head}.{FUSED.get(name, name)}"


def room_bytes(shapes: ModelShapes, element_bytes: int) -> int:
    """What merging takes beside the weights: what is read ahead, and the largest module twice while it is loaded."""
    modules: dict[str, int] = {}
    for layer, (out_size, in_size) in shapes.linear().items():
        modules[module_of(layer)] = modules.get(module_of(layer), 0) + out_size * in_size * element_bytes
    return 2 * max(modules.values()) + (READERS + 1) * PART_BYTES


@dataclass
class MergedWeights:
    """The files of a base, open for as long as the object is; make it with `open`."""

    shapes: ModelShapes
    dtype: torch.dtype
    device: torch.device
    _tensors: Mapping[str, Mapping[str, Any]]
    """By linear layer: its tensors' names (weight, bias), each with the file that holds it."""
    _open: ExitStack
    _changed: frozenset[str] = field(default=frozenset())
    """Modules that differ from the base where the tensors went last."""

    @classmethod
    def open(cls, directory: Path, shapes: ModelShapes, dtype: torch.dtype, device: torch.device) -> Self:
        """`dtype`: of the sums. Raises BadBase."""
        with ExitStack() as stack:
            tensors = _find(directory, shapes, stack)
            return cls(shapes, dtype, device, tensors, stack.pop_all())

    def close(self) -> None:
        self._open.close()

    def with_adapter(self, adapter: Adapter | None) -> Iterator[tuple[str, Tensor]]:
        """Name and value, on the device, of every tensor of a module that `adapter` or the one before it changes.

        Changed ones in `dtype`, others in the base's, module by module; a few are read ahead, on threads that work in
        the CUDA stream of whoever reads this. Meant to be read to its end. Raises BadAdapter.
        """
        linear = self.shapes.linear()
        layout = read_layout(adapter.directory, linear) if adapter else AdapterLayout(0, 0.0, frozenset())
        wanted = frozenset(map(module_of, layout.layers))
        reloaded = wanted | self._changed
        self._changed = reloaded
        stream = torch.cuda.current_stream(self.device) if self.device.type == "cuda" else None
        with ExitStack() as stack:
            factors = stack.enter_context(safe_open(adapter.directory / WEIGHTS, framework="pt")) if adapter else None
            pool = stack.enter_context(ThreadPoolExecutor(READERS, thread_name_prefix="weights"))
            ahead: deque[Future[list[tuple[str, Tensor]]]] = deque()
            for part in self._parts([layer for layer in linear if module_of(layer) in reloaded]):
                ahead.append(pool.submit(self._read, part, factors, layout, stream))
                if len(ahead) > READERS:
                    yield from ahead.popleft().result()
            while ahead:
                yield from ahead.popleft().result()
        self._changed = wanted

    def _parts(self, layers: Sequence[str]) -> Iterator[list[str]]:
        """Of about PART_BYTES each."""
        linear, part, size = self.shapes.linear(), list[str](), 0
        for layer in layers:
            part.append(layer)
            size += linear[layer][0] * linear[layer][1] * self.dtype.itemsize
            if size >= PART_BYTES:
                yield part
                part, size = [], 0
        if part:
            yield part

    @torch.no_grad()
    def _read(
        self, layers: Sequence[str], factors: Any, layout: AdapterLayout, stream: torch.cuda.Stream | None
    ) -> list[tuple[str, Tensor]]:
        found: list[tuple[str, Tensor]] = []
        with torch.cuda.stream(stream) if stream else nullcontext():
            for layer in layers:
                for name, file in self._tensors[layer].items():
                    tensor: Tensor = file.get_tensor(name).to(self.device)
                    if layer in layout.layers and name.endswith(".weight"):
                        a, b = (factor.to(self.device).float() for factor in _factors(factors, layer))
                        tensor = torch.addmm(tensor.float(), b, a, alpha=layout.scale).to(self.dtype)
                    found.append((name, tensor))
        return found


def _find(directory: Path, shapes: ModelShapes, stack: ExitStack) -> dict[str, dict[str, Any]]:
    """Raises BadBase."""
    linear = shapes.linear()
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(directory.glob("*.safetensors")):
        file = stack.enter_context(safe_open(path, framework="pt"))
        for name in sorted(file.keys()):
            layer = name.rpartition(".")[0]
            if layer not in linear:
                continue
            held = file.get_slice(name)
            shape, dtype = tuple(held.get_shape()), held.get_dtype()
            expected = {f"{layer}.weight": linear[layer], f"{layer}.bias": linear[layer][:1]}.get(name)
            if shape != expected or dtype not in DTYPES or name in found.get(layer, {}):
                raise BadBase(
                    f"{path}: `{name}` ({dtype}, {list(shape)}) is not the plain weight or bias of a linear layer, "
                    "once; merging needs a base that is not quantised"
                )
            found.setdefault(layer, {})[name] = file
    missing = [layer for layer in linear if f"{layer}.weight" not in found.get(layer, {})]
    if missing:
        raise BadBase(
            f"{directory}: no tensor `{missing[0]}.weight` in its safetensors files; merging needs the weights of "
            "every linear layer under its own name (experts one by one)"
        )
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
