"""A micro-batch: whole documents concatenated, without padding and without attention across documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor


@dataclass(frozen=True)
class PackedBatch:
    """D documents of T tokens in all, in one row.

    A label is a token's own position: token t of a document is a target when it is supervised, and is predicted from
    token t - 1 of the same document, so the loss of the batch is the sum over `target_positions` of
    CE(logits[t - 1], input_ids[t]). The first token of a document is never a target; so no label crosses a border.

    input_ids: (T,) int64.
    position_ids: (T,) int64, from 0 in every document.
    cu_seqlens: (D + 1,) int32; document d holds tokens cu_seqlens[d] to cu_seqlens[d + 1].
    target_positions: (S,) int64, rising: the positions t of the supervised tokens.
    document_lengths: the D lengths again, on the host, so that no kernel launch waits for the device.
    """

    input_ids: Tensor
    position_ids: Tensor
    cu_seqlens: Tensor
    target_positions: Tensor
    document_lengths: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return self.input_ids.shape[0]

    @property
    def supervised_tokens(self) -> int:
        return self.target_positions.shape[0]

    @property
    def max_document_tokens(self) -> int:
        return max(self.document_lengths)

    def to(self, device: torch.device | str) -> PackedBatch:
        """The same batch on another device; asynchronous from pinned memory."""
        return replace(
            self,
            input_ids=self.input_ids.to(device, non_blocking=True),
            position_ids=self.position_ids.to(device, non_blocking=True),
            cu_seqlens=self.cu_seqlens.to(device, non_blocking=True),
            target_positions=self.target_positions.to(device, non_blocking=True),
        )

    def pin_memory(self) -> PackedBatch:
        return replace(
            self,
            input_ids=self.input_ids.pin_memory(),
            position_ids=self.position_ids.pin_memory(),
            cu_seqlens=self.cu_seqlens.pin_memory(),
            target_positions=self.target_positions.pin_memory(),
        )


def pack(documents: Sequence[tuple[Sequence[int], Sequence[bool]]]) -> PackedBatch:
    """Concatenates documents of (token ids, supervised flags), on the CPU.

    Raises ValueError for no document, an empty document, flags of another length, or a supervised first token.
    """
    if not documents:
        raise ValueError("a packed batch needs at least one document")
    for index, (ids, supervised) in enumerate(documents):
        if not ids:
            raise ValueError(f"document {index} of the batch has no token")
        if len(ids) != len(supervised):
            raise ValueError(f"document {index} has {len(ids)} tokens but {len(supervised)} supervised flags")
        if supervised[0]:
            raise ValueError(f"document {index} supervises its first token, which no token of the document predicts")
    lengths = tuple(len(ids) for ids, _ in documents)
    offsets = [0, *accumulate(lengths)]
    flags = torch.tensor([flag for _, supervised in documents for flag in supervised], dtype=torch.bool)
    return PackedBatch(
        input_ids=torch.tensor([token for ids, _ in documents for token in ids], dtype=torch.int64),
        position_ids=torch.cat([torch.arange(length) for length in lengths]),
        cu_seqlens=torch.tensor(offsets, dtype=torch.int32),
        target_positions=flags.nonzero().flatten(),
        document_lengths=lengths,
    )
