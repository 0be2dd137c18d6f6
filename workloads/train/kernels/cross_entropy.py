"""Head and cross-entropy on the supervised positions only, a chunk of rows at a time, in float32."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from workloads.train.packed import PackedBatch


def supervised_loss_sum(hidden: Tensor, head_weight: Tensor, batch: PackedBatch) -> Tensor:
    """The sum of CE(logits[t - 1], input_ids[t]) over the targets, float32; hidden (T, H), head_weight (V, H)."""
    rows = hidden.index_select(0, batch.target_positions - 1)
    targets = batch.input_ids.index_select(0, batch.target_positions)
    return reference_loss_sum(rows, head_weight, targets)


def reference_loss_sum(rows: Tensor, head_weight: Tensor, targets: Tensor) -> Tensor:
    """The summed cross-entropy of rows (S, H) against targets (S,), all logits at once."""
    logits = functional.linear(rows, head_weight).float()
    return functional.cross_entropy(logits, targets, reduction="sum")
