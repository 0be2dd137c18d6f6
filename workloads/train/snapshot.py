"""Copies the trainer's vectors to the host while the device computes: a step waits only for an unfinished copy."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class StepSnapshot:
    """`vectors` are complete when `wait` returns."""

    vectors: Mapping[str, Tensor]
    _copied: torch.cuda.Event | None = None

    def wait(self) -> None:
        if self._copied is not None:
            self._copied.synchronize()


class NoSnapshots:
    """Snapshots of a rank that writes nothing."""

    def take(self) -> StepSnapshot:
        """Returns an empty snapshot."""
        return StepSnapshot({})

    def hold_writes(self) -> None:
        """Does nothing, because nothing is being copied."""


class Snapshots:
    """On a GPU, one set of pinned buffers, filled on a side stream: finish with a snapshot before you take the next."""

    def __init__(self, live: Mapping[str, Tensor]) -> None:
        self._live = live
        self._on_gpu = next(iter(live.values())).is_cuda
        self._buffers: dict[str, Tensor] = {}
        self._copied: torch.cuda.Event | None = None
        if self._on_gpu:
            self._stream = torch.cuda.Stream()
            self._buffers = {
                name: torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True) for name, tensor in live.items()
            }

    def take(self) -> StepSnapshot:
        if not self._on_gpu:
            return StepSnapshot({name: tensor.clone() for name, tensor in self._live.items()})
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for name, tensor in self._live.items():
                self._buffers[name].copy_(tensor, non_blocking=True)
        self._copied = torch.cuda.Event()
        self._copied.record(self._stream)
        return StepSnapshot(self._buffers, self._copied)

    def hold_writes(self) -> None:
        """Call it before the vectors change: the device waits until the last snapshot has read them."""
        if self._copied is not None:
            torch.cuda.current_stream().wait_event(self._copied)
            self._copied = None
