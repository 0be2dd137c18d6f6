"""A base's weights with an adapter merged in, tensor by tensor, in the names and shapes of the base's own files.

Every merge starts from the files: nothing of the adapter before is left, and the base is bit-equal after any number of
them. Read are only the weights that change, and those that an engine fuses with one that changes.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from workloads.evaluate.adapters import PREFIX, WEIGHTS, AdapterLayout, read_layout
from workloads.evaluate.engine import Adapter, BadAdapter
from workloads.evaluate.shapes import ModelShapes

CHUNK_BYTES = 512 << 20
"""Of a file, on its way to the device; twice, one is read while the other is used. More where a tensor is larger."""
CHECKERS = 4
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


@dataclass
class MergedWeights:
    """Make it with `open`."""

    shapes: ModelShapes
    dtype: torch.dtype
    device: torch.device
    _places: Mapping[str, Mapping[str, Path]]
    """By linear layer: its tensors' names (weight, bias), each with its file. In the order of the files and in them."""
    _changed: frozenset[str] = field(default=frozenset())
    """Modules that differ from the base where the tensors went last."""

    @classmethod
    def open(cls, directory: Path, shapes: ModelShapes, dtype: torch.dtype, device: torch.device) -> Self:
        """`dtype`: of the sums. Raises BadBase."""
        return cls(shapes, dtype, device, _find(directory, shapes))

    def room_bytes(self) -> int:
        """What merging takes on the device beside the weights: chunks of files, modules of which parts are still to
        come (an engine loads a module when it has all of it), and the largest module once more.
        """
        sizes = {layer: out * inner * self.dtype.itemsize for layer, (out, inner) in self.shapes.linear().items()}
        left: dict[str, int] = {}
        for layer in self._places:
            left[module_of(layer)] = left.get(module_of(layer), 0) + 1
        modules: dict[str, int] = {}
        held = most = 0
        for layer in self._places:
            module = module_of(layer)
            modules[module] = modules.get(module, 0) + sizes[layer]
            held, left[module] = held + sizes[layer], left[module] - 1
            most = max(most, held)
            if not left[module]:
                held -= modules[module]
        return most + max(modules.values()) + 3 * self._chunk_bytes()

    def with_adapter(self, adapter: Adapter | None) -> Iterator[tuple[str, Tensor]]:
        """Name and value, on the device, of every tensor of a module that `adapter` or the one before it changes.

        Changed ones in `dtype`, others in the base's. Meant to be read to its end. Raises BadAdapter.
        """
        layout = read_layout(adapter.directory, self.shapes.linear()) if adapter else AdapterLayout(0, 0.0, frozenset())
        wanted = frozenset(map(module_of, layout.layers))
        reloaded = wanted | self._changed
        self._changed = reloaded
        places = {
            name: path
            for layer, tensors in self._places.items()
            if module_of(layer) in reloaded
            for name, path in tensors.items()
        }
        with safe_open(adapter.directory / WEIGHTS, framework="pt") if adapter else nullcontext() as factors:
            for name, tensor in _read(places, self.device, self._chunk_bytes()):
                layer, _, kind = name.rpartition(".")
                if kind == "weight" and layer in layout.layers:
                    yield name, self._merged(tensor, factors, layer, layout.scale)
                else:
                    yield name, tensor
        self._changed = wanted

    @torch.no_grad()
    def _merged(self, weight: Tensor, factors: Any, layer: str, scale: float) -> Tensor:
        """`factors` holds A (rank, in) and B (out, rank)."""
        a, b = (
            factors.get_tensor(f"{PREFIX}{layer}.lora_{name}.weight").to(self.device, non_blocking=True).float()
            for name in "AB"
        )
        return torch.addmm(weight.float(), b, a, alpha=scale).to(self.dtype)

    def _chunk_bytes(self) -> int:
        """The loader splits files, but no tensor; a file may hold it in float32."""
        return max(CHUNK_BYTES, *(4 * out * inner for out, inner in self.shapes.linear().values()))


def _read(places: Mapping[str, Path], device: torch.device, chunk_bytes: int) -> Iterator[tuple[str, Tensor]]:
    """The tensors of these names, from the files that hold them, in the files' order."""
    from fastsafetensors.parallel_loader import ParallelLoader

    if not places:
        return
    loader = ParallelLoader(
        None,
        [str(path) for path in dict.fromkeys(places.values())],
        use_tqdm_on_load=False,
        device=str(device),
        nogds=True,
        tensor_filter=places.__contains__,
        all_local=True,
        max_batch_bytes=chunk_bytes,
        accumulate_resident=False,
    )
    with closing(loader), closing(loader.iterate_weights()) as tensors:
        yield from tensors


def _find(directory: Path, shapes: ModelShapes) -> dict[str, dict[str, Path]]:
    """Raises BadBase."""
    linear = shapes.linear()
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.offset_keys():
                layer = name.rpartition(".")[0]
                if layer not in linear:
                    continue
                held = file.get_slice(name)
                shape, dtype = tuple(held.get_shape()), held.get_dtype()
                expected = {f"{layer}.weight": linear[layer], f"{layer}.bias": linear[layer][:1]}.get(name)
                if shape != expected or dtype not in DTYPES or name in found.get(layer, {}):
                    raise BadBase(
                        f"{path}: `{name}` ({dtype}, {list(shape)}) is not the plain weight or bias of a linear "
                        "layer, once; merging needs a base that is not quantised"
                    )
                found.setdefault(layer, {})[name] = path
    missing = [layer for layer in linear if f"{layer}.weight" not in found.get(layer, {})]
    if missing:
        raise BadBase(
            f"{directory}: no tensor `{missing[0]}.weight` in its safetensors files; merging needs the weights of "
            "every linear layer under its own name (experts one by one)"
        )
    return found


def check_finite(adapter: Adapter) -> None:
    """Raises BadAdapter, naming the tensor that holds NaN or infinity, or that cannot be read."""
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
    """One pass: NaN is the least and the largest of what it is among."""
    return tensor.numel() == 0 or all(bool(torch.isfinite(end)) for end in torch.aminmax(tensor))
