"""The memory that an engine will need, computed before it starts, so that it is refused instead of running out of
memory.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workloads.models.safetensors_file import read_header
from workloads.models.shapes import ModelShapes
from workloads.models.weight_files import loaded_files

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
KV_BYTES = BYTES | {"fp8": 1}
GIB = 2**30
LOGIT_BYTES = 4
SPLIT_BY_INPUT = ("o_proj", "down_proj")
"""Layers that several devices split along their input; they split other layers along their output."""

GPU_LOGIT_BYTES = 14
"""Bytes of a logit on a GPU at vLLM's peak: one in the model's dtype and three in float32."""
GPU_OVERHEAD_BYTES = 1229 * 2**20
"""1.2 GiB: the CUDA context, libraries' workspaces, and memory that NVML counts but CUDA cannot allocate."""


class DoesNotFit(Exception):
    """The message states the needed and the available memory, and possible changes, each with its numbers."""


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on each device. `kv_token`: keys and values of one token in all layers."""

    available: int
    weights: int
    adapter_slot: int
    slots: int
    work: int
    kv_token: int
    longest_tokens: int
    kv_bytes: int | None = None
    """Bytes for keys and values, if stated; otherwise the remaining memory."""
    merging: int = 0
    """Bytes for merging an adapter, in addition to the weights."""
    adapter_on_host: int = 0
    """Bytes of an adapter in the host's memory: the whole adapter, once for each device."""
    remedies: tuple[str, ...] = ()
    """Changes of the engine's flags with which a request of full length would fit."""

    @property
    def fixed(self) -> int:
        return self.weights + self.slots * self.adapter_slot + self.merging + self.work

    @property
    def kv_tokens(self) -> int:
        """The number of tokens whose keys and values fit."""
        left = max(0, self.available - self.fixed)
        return (left if self.kv_bytes is None else min(left, self.kv_bytes)) // self.kv_token

    @property
    def full_length_rows(self) -> int:
        """The number of requests with the largest prompt and limit that fit at one time."""
        return self.kv_tokens // self.longest_tokens

    def check(self) -> None:
        """Raises DoesNotFit unless at least one request of full length fits."""
        if self.full_length_rows >= 1:
            return
        needed = self.fixed + self.longest_tokens * self.kv_token
        helps = list(self.remedies)
        if self.kv_tokens:
            helps.append(f"a largest budget with which no request is longer than {self.kv_tokens} tokens")
        if needed > self.available:
            helps.append(f"a larger device, {needed / GIB:.1f} GiB of it in place of {self.available / GIB:.1f}")
        raise DoesNotFit(
            f"{self}. Not even one request of {self.longest_tokens} tokens fits. One of these helps: {'; '.join(helps)}"
        )

    def __str__(self) -> str:
        slots = f", {self.slots} adapter slots of {self.adapter_slot / GIB:.2f}" if self.slots else ""
        merging = f", merging {self.merging / GIB:.1f}" if self.merging else ""
        return (
            f"memory {self.available / GIB:.1f} GiB: weights {self.weights / GIB:.1f}{slots}{merging}, working space "
            f"{self.work / GIB:.1f}, keys and values {self.kv_token / 1024:.0f} KiB a token: {self.kv_tokens} tokens, "
            f"{self.full_length_rows} requests of {self.longest_tokens}"
        )


def plan_memory(
    shapes: ModelShapes,
    weight_bytes: int,
    dtype: str,
    available: int,
    slots: int,
    max_rank: int,
    longest_tokens: int,
    batch_tokens: int,
    rows: int,
    targets: Sequence[str] = (),
    kv_bytes: int | None = None,
    kv_dtype: str = "",
    devices: int = 1,
    extra_work: int = 0,
    merging: int = 0,
) -> MemoryPlan:
    """Returns the plan for each of `devices` that share a base of `weight_bytes` in `dtype` and its attention heads.

    `targets`: endings of the layers that adapters change (empty: all of them). A slot holds A (rank, in) and B (out,
    rank) of every such layer. If several devices split the layer, each holds the whole factor on the other side.
    `kv_dtype`: the type of keys and values, if it differs from `dtype`. `work` is logits in float32 of `rows` requests,
    a few activations of `batch_tokens` tokens, and `extra_work`: without `extra_work` it is a lower bound, because
    kernels need more.
    """
    size, kv_size = BYTES[dtype], KV_BYTES[kv_dtype or dtype]
    changed = {
        layer: sizes for layer, sizes in shapes.linear().items() if not targets or layer.endswith(tuple(targets))
    }
    widths = [
        out_size + in_size // devices if layer.endswith(SPLIT_BY_INPUT) else out_size // devices + in_size
        for layer, (out_size, in_size) in changed.items()
    ]
    return MemoryPlan(
        available=available,
        weights=weight_bytes // devices,
        adapter_slot=max_rank * size * sum(widths),
        slots=slots,
        work=batch_tokens * (4 * shapes.hidden * size + 2 * shapes.intermediate * size)
        + rows * shapes.vocabulary * LOGIT_BYTES
        + extra_work,
        kv_token=2 * shapes.layers * max(1, shapes.kv_heads // devices) * shapes.head_size * kv_size,
        longest_tokens=longest_tokens,
        kv_bytes=kv_bytes,
        merging=merging,
        adapter_on_host=max_rank * size * sum(map(sum, changed.values())) * devices,
    )


def gpu_work(shapes: ModelShapes, dtype: str, rows: int, graph_rows: int) -> int:
    """Returns the bytes of working space that vLLM needs on a GPU in addition to those of `plan_memory`.

    `graph_rows`: the sum of all batch sizes for which CUDA graphs are made; a row of a graph needs a hidden state per
    layer. Fitted to the memory for keys and values that vLLM 0.26 had left with the shapes of Qwen3-30B-A3B on an H200
    (perf/results/evaluate-h200: experts-2048.log, rows-512-cold.log, attention-warm.log): at most 0.25 GiB too much.
    """
    graphs = graph_rows * shapes.layers * shapes.hidden * BYTES[dtype]
    return GPU_OVERHEAD_BYTES + graphs + rows * shapes.vocabulary * (GPU_LOGIT_BYTES - LOGIT_BYTES)


def weight_bytes(directory: Path, dtype: str) -> int:
    """Returns the bytes of the tensors in the directory's safetensors files in `dtype`. Raises BadSafetensors."""
    headers = (read_header(path) for path in loaded_files(directory))
    return BYTES[dtype] * sum(entry.elements for header in headers for entry in header.values())


def available_host_bytes(group: Path = Path("/sys/fs/cgroup")) -> int:
    """Returns the free memory of this machine, or the rest of the control group's limit, whichever is less.

    Cached files count as free in both, because the kernel drops them before it kills a process. `group`: cgroup v2's
    folder.
    """
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    limit, used = group / "memory.max", group / "memory.current"
    if limit.exists() and used.exists() and limit.read_text().strip() != "max":
        free = min(free, int(limit.read_text()) - int(used.read_text()) + _cached_bytes(group / "memory.stat"))
    return max(0, free)


def _cached_bytes(statistics: Path) -> int:
    """Bytes of cached files. Files that were read more than once are active."""
    if not statistics.exists():
        return 0
    lines = dict(line.split() for line in statistics.read_text().splitlines())
    return int(lines.get("inactive_file", 0)) + int(lines.get("active_file", 0))
