"""The processes that train together: one adapter on every device, gradients summed once for each step."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed

PATIENCE = timedelta(hours=6)
"""How long a rank waits for another in a collective operation. Rank 0 may be late, because before a checkpoint it waits
for the upload before it, and before the first step it reads a state of tens of GB; NCCL's default of 600 s would then
end all ranks. A hang is ended by the experiment's `limits.noProgressSeconds`, or with its launcher.
"""


@dataclass(frozen=True)
class Ranks:
    """The process is `rank` of `count`, with its own `device`. Only rank 0 writes to the store."""

    rank: int
    count: int
    device: torch.device

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def sum(self, tensor: Tensor) -> None:
        """Sums in place over all ranks: the same bits on every rank."""
        if self.count > 1:
            distributed.all_reduce(tensor)

    def share(self, tensor: Tensor) -> None:
        """Copies rank 0's tensor to every rank, in place."""
        if self.count > 1:
            distributed.broadcast(tensor, src=0)

    def largest(self, number: int) -> int:
        """Returns the largest number of all ranks."""
        if self.count == 1:
            return number
        found = torch.tensor([number], device=self.device)
        distributed.all_reduce(found, op=distributed.ReduceOp.MAX)
        return int(found)

    def share_text(self, text: str) -> str:
        """Returns rank 0's text on every rank."""
        if self.count == 1:
            return text
        box: list[str] = [text]
        distributed.broadcast_object_list(box, src=0)
        return box[0]


@contextmanager
def join_ranks(environment: Mapping[str, str] = os.environ) -> Iterator[Ranks]:
    """Makes one process, or ranks from torchrun's RANK, WORLD_SIZE, LOCAL_RANK and MASTER_*.

    NCCL on GPUs, gloo on CPUs.
    """
    count = int(environment.get("WORLD_SIZE", "1"))
    rank = int(environment.get("RANK", "0"))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(environment.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if count == 1:
        yield Ranks(0, 1, device)
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, rank=rank, world_size=count, timeout=PATIENCE)
    try:
        yield Ranks(rank, count, device)
    finally:
        distributed.destroy_process_group()
