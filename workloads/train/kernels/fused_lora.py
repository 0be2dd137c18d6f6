"""Frozen expert weights in buffers with extra rows and columns for the LoRA factors, so that LoRA needs no second pass.

With low = A x, W x + s B low is one product of [x, low] with [W, s B]; its input gradient is one product of
[dy, s B^T dy] with [W; A]. Both read one buffer of each weight, (E, N + r, K + r):

    [ W   s B ]
    [ A    -  ]

The products over rows grow by r / K and r / N (3-4% for rank 32 on Qwen3-30B-A3B), where separate ones would read and
write the (M, N) output again. gate and up share a buffer, with their two A stacked (2 r) and their B block-diagonal.
The model's own weight parameter becomes a view of the buffer: nothing is stored twice. r is rounded up to a multiple of
8 elements, 16 bytes, which the grouped products require of every row; the extra columns stay zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workloads.train.kernels.lora import LoraExperts

ROW_ELEMENTS = 8


@dataclass(frozen=True)
class AugmentedWeight:
    """buffer (E, N + r, K + r); `rank` is r, 0 for a weight without LoRA."""

    buffer: Tensor
    rank: int

    @property
    def out_size(self) -> int:
        return self.buffer.shape[1] - self.rank

    @property
    def in_size(self) -> int:
        return self.buffer.shape[2] - self.rank

    @property
    def weight(self) -> Tensor:
        return self.buffer[:, : self.out_size, : self.in_size]

    @property
    def weight_and_b(self) -> Tensor:
        """(E, N, K + r): [W, s B]."""
        return self.buffer[:, : self.out_size]

    @property
    def weight_and_a(self) -> Tensor:
        """(E, N + r, K): [W; A]."""
        return self.buffer[:, :, : self.in_size]

    @property
    def a(self) -> Tensor:
        """(E, r, K)."""
        return self.buffer[:, self.out_size :, : self.in_size]

    @property
    def b(self) -> Tensor:
        """(E, N, r), with the LoRA scale in it."""
        return self.buffer[:, : self.out_size, self.in_size :]


@dataclass(frozen=True)
class ExpertWeights:
    """gate_up: (E, 2 I, H) and down: (E, H, I), each with extra columns for LoRA."""

    gate_up: AugmentedWeight
    down: AugmentedWeight


def expert_weights(experts: Any) -> ExpertWeights:
    """Returns the buffers of a layer's experts, made on first use and made again if the model moved.

    They do not have LoRA values yet.
    """
    if not isinstance(experts, LoraExperts):
        return ExpertWeights(AugmentedWeight(experts.gate_up_proj, 0), AugmentedWeight(experts.down_proj, 0))
    base: Any = experts.base
    return ExpertWeights(
        _augment(base.gate_up_proj, room_for(2 * experts.rank)), _augment(base.down_proj, room_for(experts.rank))
    )


def room_for(rank: int) -> int:
    """Returns the number of a buffer's columns for factors of `rank`."""
    return -(-rank // ROW_ELEMENTS) * ROW_ELEMENTS


def _augment(parameter: nn.Parameter, rank: int) -> AugmentedWeight:
    """Returns the buffer that the parameter is a view of. The first call makes it and moves the parameter into it."""
    experts, out_size, in_size = parameter.shape
    shape = (experts, out_size + rank, in_size + rank)
    stride = (shape[1] * shape[2], shape[2], 1)
    if parameter.stride() != stride:
        buffer = torch.zeros(shape, dtype=parameter.dtype, device=parameter.device)
        buffer[:, :out_size, :in_size] = parameter.data
        parameter.data = buffer[:, :out_size, :in_size]
        if parameter.is_cuda:
            torch.cuda.empty_cache()  # the memory block of the old weight is too small for the next layer's buffer
    return AugmentedWeight(parameter.data.as_strided(shape, stride), rank)


def fill_factors(weights: ExpertWeights, factors: Sequence[Tensor], scale: float) -> None:
    """Copies the four LoRA parameters, in the order and shapes of LoraExperts, into the buffers in their dtype."""
    gate_up_a, gate_up_b, down_a, down_b = factors
    rank, inner = gate_up_a.shape[2], gate_up_b.shape[2]
    weights.gate_up.a[:, : 2 * rank].copy_(gate_up_a.flatten(1, 2))
    weights.gate_up.b[:, :inner, :rank].copy_(gate_up_b[:, 0] * scale if scale != 1 else gate_up_b[:, 0])
    weights.gate_up.b[:, inner:, rank : 2 * rank].copy_(gate_up_b[:, 1] * scale if scale != 1 else gate_up_b[:, 1])
    weights.down.a[:, :rank].copy_(down_a)
    weights.down.b[:, :, :rank].copy_(down_b * scale if scale != 1 else down_b)
