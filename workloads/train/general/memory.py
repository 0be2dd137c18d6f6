"""Finds the largest micro-batch by measuring: a first step of the largest kind runs before the training begins.

It first tries without gradient checkpointing, because that costs a second forward: at full size, then halved until it
fits; then the same with checkpointing. This works for any architecture, and a size that fits here also fits later in
the run.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor

from workloads.models.memory import usable_bytes
from workloads.train.general.batches import PaddedBatch, largest_batch
from workloads.train.memory import MICRO_BATCH_TOKENS
from workloads.train.model import BadModel

logger = logging.getLogger("potstill")


@dataclass(frozen=True)
class BatchPlan:
    """`tokens`: the size of a padded micro-batch. `peak_bytes`: the measured memory of its step; None: not measured."""

    tokens: int
    checkpointing: bool
    peak_bytes: int | None = None


class DeviceMemory(Protocol):
    """The limit and the measured memory of a step. `limit_bytes`: None if steps are not measured on this device."""

    limit_bytes: int | None

    def peak_bytes(self, step: Callable[[], None]) -> int:
        """Runs `step`. Raises OutOfMemory if the device has too little memory."""


class OutOfMemory(Exception):
    """A step does not fit the device."""


class CudaMemory:
    """Measures the allocator's peak within `usable_bytes` of a device; `limit_bytes` may be set lower."""

    def __init__(self, device: torch.device, ranks: int, limit_bytes: int | None = None) -> None:
        self._device = device
        self.limit_bytes: int | None = limit_bytes or usable_bytes(torch.cuda.mem_get_info(device)[1], ranks)

    def peak_bytes(self, step: Callable[[], None]) -> int:
        torch.cuda.reset_peak_memory_stats(self._device)
        try:
            step()
            torch.cuda.synchronize(self._device)
            return torch.cuda.max_memory_allocated(self._device)
        except RuntimeError as error:
            if not (isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)):
                raise
        finally:
            clear_device_cache(garbage_collection=True)
        raise OutOfMemory


class HostMemory:
    """On a CPU: the bytes that autograd saves for the backward pass. Unlimited unless `limit_bytes` is stated."""

    def __init__(self, limit_bytes: int | None = None) -> None:
        self.limit_bytes = limit_bytes

    def peak_bytes(self, step: Callable[[], None]) -> int:
        with _saved_bytes() as count:
            step()
        return count()


@contextmanager
def _saved_bytes() -> Iterator[Callable[[], int]]:
    """Gives a function that returns the most bytes of different storages that were saved at one time."""
    alive: dict[int, tuple[int, int]] = {}
    most = 0

    def pack(tensor: Tensor) -> "_Saved":
        nonlocal most
        saved = _Saved(tensor, alive)
        most = max(most, sum(size for size, _ in alive.values()))
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved.tensor):
        yield lambda: most


class _Saved:
    """A saved tensor, counted by its storage while it exists. Weights do not count, because they exist anyway."""

    def __init__(self, tensor: Tensor, alive: dict[int, tuple[int, int]]) -> None:
        self.tensor, self._alive = tensor, alive
        self._key = 0 if isinstance(tensor, torch.nn.Parameter) else tensor.untyped_storage().data_ptr()
        if self._key:
            size, uses = alive.get(self._key, (tensor.untyped_storage().nbytes(), 0))
            alive[self._key] = (size, uses + 1)

    def __del__(self) -> None:
        if self._key:
            size, uses = self._alive[self._key]
            self._alive[self._key] = (size, uses - 1)
            if uses == 1:
                del self._alive[self._key]


def check_memory(needed: int, usable: int | None) -> None:
    """Raises BadModel if `needed` bytes of weights, gradients and moments do not fit a device (None: unknown).

    It does not include activations, which are measured afterwards.
    """
    if usable is not None and needed > usable:
        raise BadModel(
            f"weights, gradients and AdamW's moments need {needed / 2**30:.1f} GiB of each device, which has "
            f"{usable / 2**30:.1f} GiB usable: take more GPUs (sharding: auto), a smaller base, or method: lora"
        )


def choices(longest_tokens: int, largest_tokens: int) -> list[BatchPlan]:
    """Returns plans in the order in which they are tried: from `largest_tokens`, halved down to `longest_tokens`."""
    sizes = []
    size = max(largest_tokens, longest_tokens)
    while size > longest_tokens:
        sizes.append(size)
        size //= 2
    return [BatchPlan(tokens, checkpointing) for checkpointing in (False, True) for tokens in (*sizes, longest_tokens)]


def plan_micro_batches(
    memory: DeviceMemory,
    longest_tokens: int,
    run: Callable[[PaddedBatch, bool], None],
    largest_tokens: int = MICRO_BATCH_TOKENS,
    agree: Callable[[int], int] = lambda choice: choice,
    *,
    together: bool = False,
) -> BatchPlan:
    """Returns the first of `choices` whose step fits. `run` makes a step, with or without checkpointing, and discards
    it.

    `agree` returns the largest choice of all ranks. `together`: whether all ranks must run each step, so that they
    agree on each. Raises BadModel if none fits.
    """
    tried = choices(longest_tokens, largest_tokens)
    if memory.limit_bytes is None:
        return tried[0]
    found: dict[int, int] = {}
    for number, plan in enumerate(tried):
        peak = _peak(memory, plan, longest_tokens, run)
        fits = peak is not None and peak <= memory.limit_bytes
        if together:
            fits = not agree(int(not fits))
        if fits and peak is not None:
            found[number] = peak
            break
        logger.info("micro-batches of %s tokens do not fit, checkpointing %s", plan.tokens, plan.checkpointing)
    number = agree(min(found, default=len(tried)))
    if number == len(tried):
        raise BadModel(
            f"a sample of {longest_tokens} tokens does not fit this device ({memory.limit_bytes / 2**30:.1f} GiB "
            "usable), with gradient checkpointing too: lower sequenceTokens, the lora rank or its targets"
        )
    return BatchPlan(tried[number].tokens, tried[number].checkpointing, found.get(number))


def _peak(
    memory: DeviceMemory, plan: BatchPlan, longest_tokens: int, run: Callable[[PaddedBatch, bool], None]
) -> int | None:
    """Returns the peak of the largest steps with a micro-batch of this size; None if one does not fit."""
    peaks = []
    for documents, width in probes(plan.tokens, longest_tokens):
        batch = largest_batch(documents, width)
        try:
            peaks.append(memory.peak_bytes(lambda batch=batch: run(batch, plan.checkpointing)))  # type: ignore[misc]
        except OutOfMemory:
            return None
    return max(peaks)


def probes(tokens: int, longest_tokens: int) -> Sequence[tuple[int, int]]:
    """Returns (documents, width) of representative batches of `tokens`: the longest documents, and the most tokens."""
    longest = (max(1, tokens // longest_tokens), longest_tokens)
    rows = -(-tokens // longest_tokens)
    fullest = (rows, max(2, tokens // rows))
    return (longest,) if longest == fullest else (longest, fullest)
