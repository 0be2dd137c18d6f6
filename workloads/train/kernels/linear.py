"""A linear layer with or without LoRA as plain functions, for operators with their own backward pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from workloads.train.kernels.lora import LoraLinear


@dataclass(frozen=True)
class Projection:
    """weight (N, K) frozen; a (r, K) and b (N, r) in float32 or None; scale of the update."""

    weight: Tensor
    a: Tensor | None
    b: Tensor | None
    scale: float

    def low_rank(self, x: Tensor) -> Tensor | None:
        """X (T, K) -> A x (T, r)."""
        return None if self.a is None else x @ self.a.to(x.dtype).T

    def forward(self, x: Tensor, low: Tensor | None, residual: Tensor | None = None) -> Tensor:
        """Residual + W x + s B low: x (T, K), low (T, r) -> (T, N)."""
        y = x @ self.weight.T if residual is None else torch.addmm(residual, x, self.weight.T)
        return y if low is None else y.addmm_(low, self._scaled_b(x.dtype).T)

    def backward(
        self, grad: Tensor, x: Tensor, low: Tensor | None, into: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Grad (T, N) -> the gradient of x (T, K), added to `into` if given, and those of a and b in float32."""
        grad_x = grad @ self.weight if into is None else into.addmm_(grad, self.weight)
        if self.a is None or self.b is None or low is None:
            return grad_x, None, None
        grad_low = grad @ self._scaled_b(grad.dtype)
        grad_x.addmm_(grad_low, self.a.to(grad.dtype))
        grad_a = (grad_low.T @ x).to(self.a.dtype)
        grad_b = (grad.T @ low).to(self.b.dtype)
        return grad_x, grad_a, grad_b if self.scale == 1 else grad_b * self.scale

    def _scaled_b(self, dtype: torch.dtype) -> Tensor:
        assert self.b is not None
        return (self.b if self.scale == 1 else self.b * self.scale).to(dtype)


def weights_of(layer: nn.Module) -> tuple[Tensor, Tensor | None, Tensor | None, float]:
    """Returns the weight, A, B and scale of a LoraLinear, or the weight of an nn.Linear without LoRA."""
    if isinstance(layer, LoraLinear):
        return layer.base.weight, layer.lora_A, layer.lora_B, layer.scale
    assert isinstance(layer, nn.Linear)
    return layer.weight, None, None, 1.0
