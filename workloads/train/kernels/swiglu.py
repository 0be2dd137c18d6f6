"""SwiGLU with each row's routing weight: y = weight * silu(gate) * up, and its backward pass from gate and up alone.

The routing weight is applied here, before the down projection, so that its gradient needs no saved expert output:
W (w a) = w (W a) (silu, SwiGLU: Shazeer 2020, https://arxiv.org/abs/2002.05202).
"""

from __future__ import annotations

import torch
from torch import Tensor

from workloads.train.kernels.device import has_triton


def weighted_swiglu(gate_up: Tensor, weight: Tensor, spare: int) -> Tensor:
    """gate_up (M, 2 I), weight (M,) float32 -> (M, I + spare); the last `spare` columns are not initialised."""
    if has_triton(gate_up):
        from workloads.train.kernels import moe_permute_triton

        return moe_permute_triton.weighted_swiglu(gate_up, weight, spare)
    out = gate_up.new_empty(gate_up.shape[0], gate_up.shape[1] // 2 + spare)
    out[:, : gate_up.shape[1] // 2] = reference_weighted_swiglu(gate_up, weight)
    return out


def reference_weighted_swiglu(gate_up: Tensor, weight: Tensor) -> Tensor:
    gate, up = gate_up.to(torch.promote_types(gate_up.dtype, torch.float32)).chunk(2, dim=-1)
    return (torch.nn.functional.silu(gate) * up * weight[:, None]).to(gate_up.dtype)


def weighted_swiglu_backward(
    grad: Tensor, gate_up: Tensor, weight: Tensor, spare: int, need_output: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Returns the gradients of gate_up and weight, and with `need_output` the forward's output (M, I) again.

    grad: (M, I). gate_up: (M, 2 I). weight: (M,). The gradient of gate_up is (M, 2 I + spare), whose last columns are
    not initialised; that of weight is (M,) in float32.
    """
    if has_triton(gate_up):
        from workloads.train.kernels import moe_permute_triton

        return moe_permute_triton.weighted_swiglu_backward(grad, gate_up, weight, spare, need_output)
    wide = torch.promote_types(gate_up.dtype, torch.float32)
    gate, up = gate_up.to(wide).chunk(2, dim=-1)
    inner = grad.to(wide)
    sigmoid = torch.sigmoid(gate)
    silu = gate * sigmoid
    weighted = inner * weight[:, None]
    width = gate_up.shape[1]
    grad_gate_up = gate_up.new_empty(gate_up.shape[0], width + spare)
    grad_gate_up[:, : width // 2] = weighted * up * (sigmoid * (1 + gate * (1 - sigmoid)))
    grad_gate_up[:, width // 2 : width] = weighted * silu
    output = (silu * up * weight[:, None]).to(gate_up.dtype) if need_output else None
    return grad_gate_up, (inner * silu * up).sum(-1), output
