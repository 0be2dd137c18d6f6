"""What an engine will need of memory, reckoned before it starts: a refusal in words instead of an out-of-memory end."""

import json
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workloads.evaluate.shapes import ModelShapes

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
GIB = 2**30


class DoesNotFit(Exception):
    """The message says what is needed, what there is, and what to lower."""


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes. `kv_token`: the keys and values of one token in all layers."""

    available: int
    weights: int
    adapter_slot: int
    slots: int
    work: int
    kv_token: int
    longest_tokens: int
    kv_bytes: int | None = None
    """For keys and values, where it is stated; else what is left."""

    @property
    def fixed(self) -> int:
        return self.weights + self.slots * self.adapter_slot + self.work

    @property
    def kv_tokens(self) -> int:
        """Tokens whose keys and values fit beside the rest."""
        left = max(0, self.available - self.fixed)
        return (left if self.kv_bytes is None else min(left, self.kv_bytes)) // self.kv_token

    @property
    def full_length_rows(self) -> int:
        """Requests of the largest prompt and limit that fit at one time."""
        return self.kv_tokens // self.longest_tokens

    def check(self) -> None:
        """Raises DoesNotFit unless at least one request of full length fits."""
        if self.full_length_rows < 1:
            raise DoesNotFit(
                f"{self}. Not even one request of {self.longest_tokens} tokens fits: lower the largest budget or "
                f"max_loras ({self.slots} slots), or take a larger device"
            )

    def __str__(self) -> str:
        return (
            f"memory {self.available / GIB:.1f} GiB: weights {self.weights / GIB:.1f}, {self.slots} adapter slots of "
            f"{self.adapter_slot / GIB:.2f}, working space {self.work / GIB:.1f}, keys and values "
            f"{self.kv_token / 1024:.0f} KiB a token: {self.kv_tokens} tokens, {self.full_length_rows} requests of "
            f"{self.longest_tokens}"
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
) -> MemoryPlan:
    """`weight_bytes`: the base in `dtype`. `targets`: endings of the layers that adapters change (empty: all of them).

    A slot holds A (rank, in) and B (out, rank) of every such layer. `work` is logits in float32 of `rows` requests and
    a few activations of `batch_tokens` tokens: a lower bound, since engines take what their kernels want.
    """
    size = BYTES[dtype]
    changed = [shape for layer, shape in shapes.linear().items() if not targets or layer.endswith(tuple(targets))]
    return MemoryPlan(
        available=available,
        weights=weight_bytes,
        adapter_slot=max_rank * size * sum(out_size + in_size for out_size, in_size in changed),
        slots=slots,
        work=batch_tokens * (4 * shapes.hidden * size + 2 * shapes.intermediate * size) + rows * shapes.vocabulary * 4,
        kv_token=2 * shapes.layers * shapes.kv_heads * shapes.head_size * size,
        longest_tokens=longest_tokens,
        kv_bytes=kv_bytes,
    )


def weight_bytes(directory: Path, dtype: str) -> int:
    """Of all tensors in the directory's safetensors files, as they will be held in `dtype`."""
    elements = 0
    for path in sorted(directory.glob("*.safetensors")):
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(size))
        for name, entry in header.items():
            if name != "__metadata__":
                count = 1
                for length in entry["shape"]:
                    count *= length
                elements += count
    return elements * BYTES[dtype]


def available_host_bytes() -> int:
    """Free memory of this machine, or what the control group leaves of its limit, whichever is less."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    limit, used = group / "memory.max", group / "memory.current"
    if limit.exists() and used.exists() and limit.read_text().strip() != "max":
        free = min(free, int(limit.read_text()) - int(used.read_text()))
    return free
