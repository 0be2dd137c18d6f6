"""Divides the samples of an optimizer step into the micro-batches of a rank: deterministic, and balanced by tokens."""

from collections.abc import Sequence

import numpy as np
import torch

from workloads.data.tokens import TokenisedRows
from workloads.train.packed import PackedBatch


def shares(lengths: Sequence[int], ranks: int) -> list[list[int]]:
    """Returns positions of `lengths` for each rank: the longest first, each to the rank with the fewest tokens
    so far.
    """
    loads = [0] * ranks
    parts: list[list[int]] = [[] for _ in range(ranks)]
    for position in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        rank = loads.index(min(loads))
        loads[rank] += lengths[position]
        parts[rank].append(position)
    return [sorted(part) for part in parts]


def bins(lengths: Sequence[int], limit_tokens: int) -> list[list[int]]:
    """Returns positions of `lengths` in few bins of at most `limit_tokens`, by first fit on the longest first.

    A single length above the limit has a separate bin.
    """
    loads: list[int] = []
    found: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        length = lengths[position]
        place = next((index for index, load in enumerate(loads) if load + length <= limit_tokens), None)
        if place is None:
            loads.append(length)
            found.append([position])
        else:
            loads[place] += length
            found[place].append(position)
    return [sorted(part) for part in found]


def micro_batches(
    rows: TokenisedRows, indices: Sequence[int], limit_tokens: int, rank: int = 0, ranks: int = 1
) -> list[PackedBatch]:
    """Returns the rank's part of the rows `indices`, packed without padding.

    Empty if there are fewer rows than ranks.
    """
    mine = [indices[position] for position in shares([int(rows.kept[index]) for index in indices], ranks)[rank]]
    return [
        pack_rows(rows, [mine[position] for position in part])
        for part in bins([int(rows.kept[index]) for index in mine], limit_tokens)
    ]


def pack_rows(rows: TokenisedRows, indices: Sequence[int]) -> PackedBatch:
    """Returns the same as `pack` for the same documents, without a Python list of every token."""
    lengths = [int(rows.kept[index]) for index in indices]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    targets = [offset + rows.targets(index) for index, offset in zip(indices, offsets, strict=False)]
    tokens = [rows.array(index) for index in indices]
    return PackedBatch(
        input_ids=torch.from_numpy(np.concatenate(tokens).astype(np.int64)),
        position_ids=torch.from_numpy(np.concatenate([np.arange(length) for length in lengths])),
        cu_seqlens=torch.from_numpy(offsets.astype(np.int32)),
        target_positions=torch.from_numpy(np.concatenate(targets).astype(np.int64)),
        document_lengths=tuple(lengths),
    )


def supervised_tokens(rows: TokenisedRows, indices: Sequence[int]) -> int:
    """Returns the tokens of the whole step: the loss's denominator, which every rank computes without communication."""
    return int(rows.learned[np.asarray(indices)].sum())
