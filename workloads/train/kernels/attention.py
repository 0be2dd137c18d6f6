"""Causal attention within each document of a packed row, forward and backward, with grouped key and value heads.

q (T, heads, D), k and v (T, kv_heads, D). On a CUDA device in bfloat16: cuDNN when the documents have one length,
FlashAttention 2's variable-length kernels otherwise. Elsewhere, and as the reference: PyTorch's
scaled_dot_product_attention, one document after another.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from workloads.train.packed import PackedBatch


@dataclass(frozen=True)
class Documents:
    """Where the documents of a packed row lie: cu_seqlens (D + 1,) int32 on the device, lengths on the host."""

    cu_seqlens: Tensor
    lengths: tuple[int, ...]

    @property
    def longest(self) -> int:
        return max(self.lengths)

    @property
    def equal(self) -> bool:
        return min(self.lengths) == max(self.lengths)


def documents_of(batch: PackedBatch) -> Documents:
    return Documents(batch.cu_seqlens, batch.document_lengths)


def attend(q: Tensor, k: Tensor, v: Tensor, documents: Documents, scale: float) -> tuple[Tensor, list[Tensor]]:
    """The output (T, heads, D) and what `attend_backward` needs beside q, k, v and the output."""
    if _has_fused(q):
        return _cudnn(q, k, v, documents, scale) if documents.equal else _flash(q, k, v, documents, scale)
    return reference_attend(q, k, v, documents, scale), []


def attend_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, saved: list[Tensor], documents: Documents, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v."""
    if _has_fused(q):
        backward = _cudnn_backward if documents.equal else _flash_backward
        return backward(grad, q, k, v, out, saved, documents, scale)
    with torch.enable_grad():
        q, k, v = (tensor.detach().requires_grad_() for tensor in (q, k, v))
        again = reference_attend(q, k, v, documents, scale)
    grad_q, grad_k, grad_v = torch.autograd.grad(again, (q, k, v), grad)
    return grad_q, grad_k, grad_v


def reference_attend(q: Tensor, k: Tensor, v: Tensor, documents: Documents, scale: float) -> Tensor:
    lengths = list(documents.lengths)
    by_head = ([piece.transpose(0, 1)[None] for piece in torch.split(x, lengths)] for x in (q, k, v))
    outputs = [
        scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale, enable_gqa=True)
        for query, key, value in zip(*by_head, strict=True)
    ]
    return torch.cat([output[0].transpose(0, 1) for output in outputs])


def _has_fused(x: Tensor) -> bool:
    return x.is_cuda and x.dtype in (torch.bfloat16, torch.float16)


def _by_document(x: Tensor, documents: Documents) -> Tensor:
    """(T, heads, D) -> (documents, heads, length, D), a view."""
    return x.view(len(documents.lengths), documents.longest, x.shape[1], x.shape[2]).transpose(1, 2)


def _cudnn(q: Tensor, k: Tensor, v: Tensor, documents: Documents, scale: float) -> tuple[Tensor, list[Tensor]]:
    out, log_sum, _, _, _, _, seed, offset, _ = torch.ops.aten._scaled_dot_product_cudnn_attention(
        *(_by_document(tensor, documents) for tensor in (q, k, v)), None, True, 0.0, True, False, scale=scale
    )
    return out.transpose(1, 2).reshape(q.shape), [log_sum, seed, offset]


def _cudnn_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, saved: list[Tensor], documents: Documents, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    log_sum, seed, offset = saved
    q4, k4, v4, out4, grad4 = (_by_document(tensor, documents) for tensor in (q, k, v, out, grad))
    longest = documents.longest
    grads = torch.ops.aten._scaled_dot_product_cudnn_attention_backward(
        grad4, q4, k4, v4, out4, log_sum, seed, offset, None, None, None, longest, longest, 0.0, True, scale=scale
    )
    grad_q, grad_k, grad_v = (g.transpose(1, 2).reshape(x.shape) for g, x in zip(grads, (q, k, v), strict=True))
    return grad_q, grad_k, grad_v


def _flash(q: Tensor, k: Tensor, v: Tensor, documents: Documents, scale: float) -> tuple[Tensor, list[Tensor]]:
    ends, longest = documents.cu_seqlens, documents.longest
    out, log_sum, seed, offset, _ = torch.ops.aten._flash_attention_forward(
        q, k, v, ends, ends, longest, longest, 0.0, True, False, scale=scale
    )
    return out, [log_sum, seed, offset]


def _flash_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, saved: list[Tensor], documents: Documents, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    log_sum, seed, offset = saved
    ends, longest = documents.cu_seqlens, documents.longest
    grad_q, grad_k, grad_v = torch.ops.aten._flash_attention_backward(
        grad, q, k, v, out, log_sum, ends, ends, longest, longest, 0.0, True, seed, offset, scale=scale
    )
    return grad_q, grad_k, grad_v
