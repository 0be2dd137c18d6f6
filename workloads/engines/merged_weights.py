"""A base's weights with an adapter merged in, tensor by tensor, with the names and shapes of the base's files.

Every merge starts from the files, so nothing of the adapter before remains, and the base is bit-equal after any number
of merges. Only weights that change are read, and those that an engine fuses with them.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from workloads.engines.base import Adapter, BadAdapter, BadBase
from workloads.models.adapters import PREFIX, WEIGHTS, AdapterLayout, read_layout
from workloads.models.safetensors_file import read_header
from workloads.models.shapes import ModelShapes

CHUNK_BYTES = 512 << 20
"""Bytes of a chunk of a file on its way to the device. There are two: one is read while the other is used.

A larger tensor needs more.
"""
CHECKERS = 4
ITEMSIZES = {"F32": 4, "F16": 2, "BF16": 2}
"""Bytes of an element, by safetensors' names of the allowed dtypes of a base."""
FUSED = {"q_proj": "qkv", "k_proj": "qkv", "v_proj": "qkv", "gate_proj": "gate_up", "up_proj": "gate_up"}
"""Engines keep the weights with one value in one parameter, and all experts of a layer in another."""


def module_of(layer: str) -> str:
    """Returns the module that is loaded as one with `layer`: `...mlp.experts` for experts, `...self_attn.qkv` for q, k
    and v.
    """
    head, _, name = layer.rpartition(".")
    experts, separator, _ = layer.partition(".experts.")
    return f"{experts}.experts" if separator else f"{head}.{FUSED.get(name, name)}"


def least_room_bytes(shapes: ModelShapes, itemsize: int) -> int:
    """Returns `MergedWeights.room_bytes` if the files store one module after the other, in elements of `itemsize`
    bytes.
    """
    sizes: Counter[str] = Counter()
    for layer, shape in shapes.linear().items():
        sizes[module_of(layer)] += math.prod(shape) * itemsize
    largest_tensor = max(math.prod(shape) * itemsize for shape in shapes.linear().values())
    return 3 * max(sizes.values()) + 3 * max(CHUNK_BYTES, largest_tensor)


@dataclass(frozen=True)
class TensorTarget:
    """The location of a tensor of the base, its number of elements, and the bytes of an element."""

    path: Path
    elements: int
    itemsize: int


@dataclass
class MergedWeights:
    """Make it with `open`."""

    shapes: ModelShapes
    dtype: torch.dtype
    device: torch.device
    _tensors: Mapping[str, TensorTarget]
    """The weight of every linear layer, and its bias if it has one, by name, in the order in which they are read."""
    _changed: frozenset[str] = field(default=frozenset())
    """Modules that differ from the base since the last merge."""

    @classmethod
    def open(cls, directory: Path, shapes: ModelShapes, dtype: torch.dtype, device: torch.device) -> Self:
        """`dtype`: the type of the merged weights. Raises BadBase, BadSafetensors."""
        return cls(shapes, dtype, device, _find(directory, shapes))

    def room_bytes(self) -> int:
        """Returns the bytes that merging needs on the device in addition to the weights: chunks of files, incomplete
        modules (an engine loads a module when it has all parts), and the largest module twice, the second time in its
        kernels' layout.
        """
        left = Counter(module_of(_layer(name)) for name in self._tensors)
        sizes: Counter[str] = Counter()
        held = most = 0
        for name, place in self._tensors.items():
            module, size = module_of(_layer(name)), place.elements * max(place.itemsize, self.dtype.itemsize)
            sizes[module] += size
            held += size
            most = max(most, held)
            left[module] -= 1
            if not left[module]:
                held -= sizes[module]
        return most + 2 * max(sizes.values()) + 3 * self._chunk_bytes()

    def with_adapter(self, adapter: Adapter | None) -> Iterator[tuple[str, Tensor]]:
        """Yields name and value, on the device, of every tensor of a module that `adapter` or the one before it
        changes.

        Changed tensors are in `dtype`, others in the base's. Read it to its end. Raises BadAdapter.
        """
        linear = self.shapes.linear()
        layout = read_layout(adapter.directory, linear) if adapter else AdapterLayout(0, 0.0, frozenset())
        wanted = frozenset(map(module_of, layout.layers))
        reloaded = wanted | self._changed
        self._changed = reloaded
        paths = {name: place.path for name, place in self._tensors.items() if module_of(_layer(name)) in reloaded}
        with safe_open(adapter.directory / WEIGHTS, framework="pt") if adapter else nullcontext() as factors:
            for name, tensor in _read(paths, self.device, self._chunk_bytes()):
                if _layer(name) in layout.layers and name.endswith(".weight"):
                    yield name, self._merged(tensor, factors, _layer(name), layout.scale)
                else:
                    yield name, tensor
        self._changed = wanted

    @torch.no_grad()
    def _merged(self, weight: Tensor, factors: Any, layer: str, scale: float) -> Tensor:
        """`factors`: A (rank, in) and B (out, rank)."""
        a, b = (
            factors.get_tensor(f"{PREFIX}{layer}.lora_{name}.weight").to(self.device, non_blocking=True).float()
            for name in "AB"
        )
        return torch.addmm(weight.float(), b, a, alpha=scale).to(self.dtype)

    def _chunk_bytes(self) -> int:
        """The loader splits files, but not tensors."""
        return max(CHUNK_BYTES, *(place.elements * place.itemsize for place in self._tensors.values()))


def _layer(name: str) -> str:
    """Returns the layer of a tensor."""
    return name.rpartition(".")[0]


def _read(paths: Mapping[str, Path], device: torch.device, chunk_bytes: int) -> Iterator[tuple[str, Tensor]]:
    """Yields the tensors with these names from their files, in the files' order."""
    from fastsafetensors.parallel_loader import ParallelLoader

    if not paths:
        return
    loader = ParallelLoader(
        None,
        [str(path) for path in dict.fromkeys(paths.values())],
        use_tqdm_on_load=False,
        device=str(device),
        nogds=True,
        tensor_filter=paths.__contains__,
        all_local=True,
        max_batch_bytes=chunk_bytes,
        accumulate_resident=False,
    )
    with closing(loader), closing(loader.iterate_weights()) as tensors:
        yield from tensors


def _find(directory: Path, shapes: ModelShapes) -> dict[str, TensorTarget]:
    """Raises BadBase, BadSafetensors."""
    linear = shapes.linear()
    found: dict[str, TensorTarget] = {}
    for path in sorted(directory.glob("*.safetensors")):
        for name, entry in read_header(path).items():
            layer = _layer(name)
            if layer not in linear:
                continue
            expected = {f"{layer}.weight": linear[layer], f"{layer}.bias": linear[layer][:1]}.get(name)
            if entry.shape != expected or entry.dtype not in ITEMSIZES or name in found:
                raise BadBase(
                    f"{path}: `{name}` ({entry.dtype}, {list(entry.shape)}) is not the plain weight or bias of a "
                    "linear layer, once; merging needs a base that is not quantised"
                )
            found[name] = TensorTarget(path, entry.elements, ITEMSIZES[entry.dtype])
    missing = [layer for layer in linear if f"{layer}.weight" not in found]
    if missing:
        raise BadBase(
            f"{directory}: no tensor `{missing[0]}.weight` in its safetensors files; merging needs the weights of "
            "every linear layer under its own name (experts one by one)"
        )
    return found


def check_finite(adapter: Adapter) -> None:
    """Raises BadAdapter, which names a tensor that has NaN or infinity or cannot be read."""
    try:
        with safe_open(adapter.directory / WEIGHTS, framework="pt") as file, ThreadPoolExecutor(CHECKERS) as pool:
            names = sorted(file.keys())
            finite = pool.map(lambda name: _is_finite(file.get_tensor(name)), names)
            for name, good in zip(names, finite, strict=True):
                if not good:
                    raise BadAdapter(f"{WEIGHTS}: `{name}` holds NaN or infinity")
    except (OSError, SafetensorError) as error:
        raise BadAdapter(f"{WEIGHTS} cannot be read: {error}") from error


def _is_finite(tensor: Tensor) -> bool:
    """Returns whether all values are finite, in one pass: with a NaN, both minimum and maximum are NaN."""
    return tensor.numel() == 0 or all(bool(torch.isfinite(end)) for end in torch.aminmax(tensor))
