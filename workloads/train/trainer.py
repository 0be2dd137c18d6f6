"""What the training loop needs of a model: the protocol of the fast and the general trainer."""

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
    """A micro-batch. Its trainer alone knows what is in it."""

    def to(self, device: torch.device | str, /) -> Any:
        """The same batch on a device."""


class ParameterSnapshots(Protocol):
    """Copies of values and moments on the host."""

    def take(self) -> StepSnapshot:
        """Every rank calls it; only rank 0's has vectors."""

    def hold_writes(self) -> None:
        """Call before the parameters are changed."""


class TrainedParameters(Protocol):
    """The parameters that are trained, with gradient and AdamW's moments: in one piece, or sharded over the ranks.

    `tail`: (3,) float32, which is summed over the ranks with each gradient.
    """

    tail: Tensor

    @property
    def state_bytes(self) -> int:
        """Of a resume state."""

    def clear(self) -> None:
        """Before a step: gradient and tail are 0."""

    def reduce(self, ranks: Ranks) -> None:
        """Sums gradient and tail over the ranks."""

    def clip(self, largest_norm: float) -> Tensor:
        """Scales the gradient down to `largest_norm` (0: does not scale). Returns its norm before, a scalar."""

    def adamw(self, weight_decay: float, steps_taken: int = 0) -> torch.optim.AdamW:
        """Returns AdamW, whose state is the moments, after `steps_taken` steps."""

    def named(self, flat: Tensor) -> dict[str, Tensor]:
        """Views of a snapshot's vector, by parameter name."""

    def snapshots(self, ranks: Ranks) -> ParameterSnapshots:
        """Of values and moments."""

    def restore(self, state: Mapping[str, Tensor] | None, ranks: Ranks) -> None:
        """Sets values and moments from rank 0's `state`; the other ranks give None. Every rank must call it.

        Raises ValueError if a vector is missing or has another size.
        """


class Trainer(Protocol):
    """A base on this rank's device, and after `add_parameters` the parameters that are trained."""

    def log_probs_at(self, ids: Sequence[int], positions: Sequence[int]) -> list[float]:
        """Natural log-probabilities of the tokens ids[position], each given those before it. No position is 0."""

    def log_probs(self, sequences: Sequence[tuple[int, ...]]) -> list[tuple[float, ...]]:
        """Natural log-probabilities of each sequence's tokens after its first, as the training computes them."""

    def token_matrices(self) -> tuple[Tensor, Tensor]:
        """The weights of the embedding and of the head, (vocabulary, hidden) each."""

    def add_parameters(self) -> TrainedParameters:
        """The parameters that are trained: an adapter put on the frozen base, or the base's own. Raises BadModel."""

    def micro_batch_tokens(self, data: TrainingData, parameters: Any) -> int:
        """Returns how many tokens a micro-batch may have. Raises BadModel if one sample does not fit the device.

        `parameters`: what `add_parameters` returned.
        """

    def micro_batches(
        self, rows: TokenisedRows, indices: Sequence[int], limit_tokens: int, rank: int, ranks: int, step: int
    ) -> Sequence[Batch]:
        """The rank's part of the rows `indices`, for optimizer step `step`."""

    def loss_sum(self, batch: Any) -> Tensor:
        """The sum of the cross-entropy over a micro-batch's supervised tokens, a float32 scalar."""

    def write_checkpoint(self, values: Mapping[str, Tensor], folder: Path) -> dict[str, Path]:
        """Writes the adapter or the model to `folder`. Returns the paths by file name.

        `values`: trained parameters by name, in host memory, in float32.
        """

    @property
    def warnings(self) -> Sequence[str]:
        """What a user should know of how this base is trained, each `Name: text`."""

    @property
    def packages(self) -> Sequence[str]:
        """Python packages beside the program's own whose releases belong in the record."""
