"""The interface that the training loop uses: the protocol of the fast and the general trainer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from workloads.data.samples import TrainingData
from workloads.data.tokens import TokenisedRows
from workloads.train.ranks import Ranks
from workloads.train.snapshot import StepSnapshot


class Batch(Protocol):
    """A micro-batch. Only its trainer knows its content."""

    def to(self, device: torch.device | str, /) -> Any:
        """The same batch on a device."""


class ParameterSnapshots(Protocol):
    """Copies of values and moments on the host."""

    def take(self) -> StepSnapshot:
        """Every rank must call it; only the snapshot of rank 0 has vectors."""

    def hold_writes(self) -> None:
        """Call it before the parameters change."""


class TrainedParameters(Protocol):
    """The trained parameters, with gradient and AdamW's moments: in one piece, or sharded over the ranks.

    `tail`: (3,) float32, the loss sum and two flags (see `flat_parameters.TAIL`), which are summed over the ranks with
    each gradient.
    """

    tail: Tensor

    @property
    def state_bytes(self) -> int:
        """Bytes of a resume state."""

    def clear(self) -> None:
        """Call it before a step: gradient and tail become 0."""

    def reduce(self, ranks: Ranks) -> None:
        """Sums gradient and tail over the ranks."""

    def clip(self, largest_norm: float) -> Tensor:
        """Scales the gradient down to `largest_norm` (0: does not scale). Returns its norm before, a scalar."""

    def adamw(self, weight_decay: float, steps_taken: int = 0) -> torch.optim.AdamW:
        """Returns AdamW, whose state is the moments, after `steps_taken` steps."""

    def named(self, flat: Tensor) -> dict[str, Tensor]:
        """Returns views of a snapshot's vector, by parameter name."""

    def snapshots(self, ranks: Ranks) -> ParameterSnapshots:
        """Makes snapshots of values and moments."""

    def restore(self, state: Mapping[str, Tensor] | None, ranks: Ranks) -> None:
        """Sets values and moments from rank 0's `state`; the other ranks give None. Every rank must call it.

        Raises ValueError if a vector is missing or has another size.
        """


class Trainer(Protocol):
    """A base on this rank's device, and after `add_parameters` the trained parameters."""

    def log_probs_at(self, ids: Sequence[int], positions: Sequence[int]) -> list[float]:
        """Returns natural log-probabilities of the tokens ids[position], each given the tokens before it.

        No position is 0.
        """

    def log_probs(self, sequences: Sequence[tuple[int, ...]]) -> list[tuple[float, ...]]:
        """Returns natural log-probabilities of each sequence's tokens after its first, as the training computes
        them.
        """

    def token_matrices(self) -> tuple[Tensor, Tensor]:
        """Returns the weights of the embedding and of the head, (vocabulary, hidden) each."""

    def add_parameters(self) -> TrainedParameters:
        """Returns the trained parameters: an adapter on the frozen base, or the base's own. Raises BadModel."""

    def micro_batch_tokens(self, data: TrainingData, parameters: Any) -> int:
        """Returns how many tokens a micro-batch may have. Raises BadModel if one sample does not fit the device.

        `parameters`: the result of `add_parameters`.
        """

    def micro_batches(
        self, rows: TokenisedRows, indices: Sequence[int], limit_tokens: int, rank: int, ranks: int, step: int
    ) -> Sequence[Batch]:
        """Returns the rank's part of the rows `indices`, for optimizer step `step`."""

    def loss_sum(self, batch: Any) -> Tensor:
        """Returns the sum of the cross-entropy over a micro-batch's supervised tokens, a float32 scalar."""

    def write_checkpoint(self, values: Mapping[str, Tensor], folder: Path) -> dict[str, Path]:
        """Writes the adapter or the model to `folder`. Returns the paths by file name.

        `values`: trained parameters by name, in host memory, in float32.
        """

    @property
    def warnings(self) -> Sequence[str]:
        """Warnings about the training of this base, each `Name: text`."""

    @property
    def packages(self) -> Sequence[str]:
        """Python packages whose versions belong in the record, in addition to the program's own."""
