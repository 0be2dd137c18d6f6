"""One optimizer step over a packed batch, and its reading: results of the device, read without stopping it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Flag, auto
from typing import Any

import torch
from torch import Tensor

from workloads.train.ranks import Ranks
from workloads.train.trainer import Batch, TrainedParameters


class RankRequest(Flag):
    """Flags that a step's all-reduce sends to all ranks: save a resume state, or end."""

    NOTHING = 0
    SAVE = auto()
    END = auto()


@dataclass(frozen=True)
class StepReading:
    """Loss sum, gradient norm and the ranks' flags of a step, on their way to the host. `host` is (4,) float32."""

    host: Tensor
    arrived: torch.cuda.Event | None

    @property
    def on_its_way(self) -> bool:
        """Returns whether reading it now could stop the device; launch the next step first in that case."""
        return self.arrived is not None

    def wait(self) -> tuple[float, float, RankRequest]:
        """Returns (sum of the loss over the step's supervised tokens, gradient norm before clipping, the flags of any
        rank).
        """
        if self.arrived is not None:
            self.arrived.synchronize()
        loss_sum, norm, to_end, to_save = self.host.tolist()
        request = (RankRequest.END if to_end > 0 else RankRequest.NOTHING) | (
            RankRequest.SAVE if to_save > 0 else RankRequest.NOTHING
        )
        return loss_sum, norm, request


def moment(device: torch.device) -> torch.cuda.Event | None:
    """Returns the current position in a GPU's queue, for time measurements; None on a CPU, which has no queue."""
    if device.type != "cuda":
        return None
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def optimizer_step(
    loss_sum_of: Callable[[Any], Tensor],
    adapter: TrainedParameters,
    optimizer: torch.optim.AdamW,
    batches: Sequence[Batch],
    supervised_tokens: int,
    learning_rate: float,
    gradient_clip: float,
    ranks: Ranks,
    told_to_end: bool,
    hold_writes: Callable[[], None],
    state_is_due: bool = False,
) -> StepReading:
    """Gradient of (sum of CE over supervised tokens) / `supervised_tokens` of the whole step, then clip, then AdamW.

    `loss_sum_of` gives the sum of CE over a micro-batch's supervised tokens (`Trainer.loss_sum`). `batches`: this
    rank's micro-batches; the result covers all ranks' and does not depend on their division. `hold_writes` is called
    before the adapter changes. `told_to_end` and `state_is_due` become the flags for all ranks.
    """
    adapter.clear()
    for batch in batches:
        loss_sum = loss_sum_of(batch.to(ranks.device))
        torch.autograd.backward(loss_sum / supervised_tokens)
        adapter.tail[0] += loss_sum.detach()
    if told_to_end:
        adapter.tail[1] += 1
    if state_is_due:
        adapter.tail[2] += 1
    adapter.reduce(ranks)
    norm = adapter.clip(gradient_clip)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    hold_writes()
    optimizer.step()
    return _read(torch.stack([adapter.tail[0], norm, adapter.tail[1], adapter.tail[2]]))


def mean_loss(
    loss_sum_of: Callable[[Any], Tensor], batches: Sequence[Batch], supervised_tokens: int, ranks: Ranks
) -> float:
    """Computes without gradients: a validation loss, nats for each supervised token over all ranks."""
    total = torch.zeros(1, device=ranks.device)
    with torch.no_grad():
        for batch in batches:
            total += loss_sum_of(batch.to(ranks.device))
    ranks.sum(total)
    return float(total) / supervised_tokens


def _read(values: Tensor) -> StepReading:
    if not values.is_cuda:
        return StepReading(values, None)
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    return StepReading(host, moment(values.device))
