"""Micro-batches of the general trainer: documents of similar length, padded on the right.

Padding on the right needs no mask, because no token of a causal model sees later tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

from workloads.data.tokens import TokenisedRows
from workloads.train.batches import shares


@dataclass(frozen=True)
class PaddedBatch:
    """D documents, W tokens wide. Only logits of the last `width - first` positions are needed.

    input_ids: (D, W) int64. documents, positions: (S,) int64, of every supervised token; it is predicted from the
    position before it. `first`: the smallest position that predicts one. `dropout_seed`: the seed of the
    adapters' dropout.
    """

    input_ids: Tensor
    documents: Tensor
    positions: Tensor
    first: int
    dropout_seed: int = 0

    @property
    def supervised_tokens(self) -> int:
        return self.positions.shape[0]

    @property
    def padded_tokens(self) -> int:
        return self.input_ids.numel()

    def to(self, device: torch.device | str) -> "PaddedBatch":
        return replace(
            self,
            input_ids=self.input_ids.to(device, non_blocking=True),
            documents=self.documents.to(device, non_blocking=True),
            positions=self.positions.to(device, non_blocking=True),
        )


def groups(lengths: Sequence[int], limit_tokens: int) -> list[list[int]]:
    """Returns positions of `lengths`, the longest first, in groups of at most `limit_tokens` when padded to their
    longest.

    A length above the limit is a group by itself.
    """
    found: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        width = lengths[found[-1][0]] if found else 0
        if found and (len(found[-1]) + 1) * width <= limit_tokens:
            found[-1].append(position)
        else:
            found.append([position])
    return found


def padded_micro_batches(
    rows: TokenisedRows,
    indices: Sequence[int],
    limit_tokens: int,
    rank: int,
    ranks: int,
    seed: str = "",
    *,
    together: bool = False,
) -> list[PaddedBatch]:
    """Returns the rank's part of the rows `indices`. Empty if there are fewer rows than ranks.

    `together`: all ranks get the same number of batches; the last ones may be empty.
    """
    parts = shares([int(rows.kept[index]) for index in indices], ranks)
    owned = [[indices[position] for position in part] for part in parts]
    found = [
        pad_rows(rows, [owned[rank][position] for position in group], _dropout_seed(f"{seed}/{rank}/{number}"))
        for number, group in enumerate(_groups_of(rows, owned[rank], limit_tokens))
    ]
    if together:
        most = max(len(_groups_of(rows, part, limit_tokens)) for part in owned)
        found += [EMPTY] * (most - len(found))
    return found


def _groups_of(rows: TokenisedRows, indices: Sequence[int], limit_tokens: int) -> list[list[int]]:
    return groups([int(rows.kept[index]) for index in indices], limit_tokens)


def pad_rows(rows: TokenisedRows, indices: Sequence[int], dropout_seed: int = 0) -> PaddedBatch:
    lengths = [int(rows.kept[index]) for index in indices]
    prompts = [int(rows.prompt_lengths[index]) for index in indices]
    ids = np.zeros((len(indices), max(lengths)), dtype=np.int64)
    for row, index in enumerate(indices):
        ids[row, : lengths[row]] = rows.array(index)
    spans = [rows.targets(index) for index in indices]
    return PaddedBatch(
        input_ids=torch.from_numpy(ids),
        documents=torch.from_numpy(np.repeat(np.arange(len(indices)), [len(span) for span in spans])),
        positions=torch.from_numpy(np.concatenate(spans).astype(np.int64)),
        first=min(prompts) - 1,
        dropout_seed=dropout_seed,
    )


def largest_batch(documents: int, width: int) -> PaddedBatch:
    """Returns the batch of this size that needs the most memory: every token but the first of each document is
    supervised.
    """
    positions = torch.arange(1, width).repeat(documents)
    return PaddedBatch(
        input_ids=torch.zeros((documents, width), dtype=torch.int64),
        documents=torch.arange(documents).repeat_interleave(width - 1),
        positions=positions,
        first=0,
    )


EMPTY = PaddedBatch(
    input_ids=torch.zeros((1, 2), dtype=torch.int64),
    documents=torch.zeros(0, dtype=torch.int64),
    positions=torch.zeros(0, dtype=torch.int64),
    first=0,
)
"""A batch without supervised tokens: a rank computes it while others compute their last batch of a step."""


def _dropout_seed(text: str) -> int:
    return int.from_bytes(sha256(text.encode()).digest()[:7])
