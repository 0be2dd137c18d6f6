"""Causal attention within each document of a packed row, forward and backward, with grouped key and value heads.

q (T, heads, D), k and v (T, kv_heads, D). On a CUDA device in bfloat16 or float16 one of
- cuDNN through PyTorch, when the documents have one length;
- cuDNN's packed layout, when the package nvidia-cudnn-frontend is installed (1.5 times the speed of the next);
- FlashAttention 2's variable-length kernels, which come with PyTorch.
Elsewhere, and as the reference: PyTorch's scaled_dot_product_attention, one document after another.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from workloads.train.packed import PackedBatch

Backend = Literal["reference", "cudnn", "cudnn-packed", "flash"]
DOCUMENTS_STEP = 16  # documents are counted up to a multiple, so that few cuDNN graphs are built


@dataclass(frozen=True)
class Documents:
    """The positions of the documents in a packed row, and the attention's implementation.

    cu_seqlens (D + 1,) int32 on the device; lengths on the host; for cuDNN's packed layout also `lengths_padded` (D',)
    int32 and `ends_padded` (D' + 1,) int64 with documents of length 0 at the end.
    """

    cu_seqlens: Tensor
    lengths: tuple[int, ...]
    backend: Backend
    lengths_padded: Tensor | None = None
    ends_padded: Tensor | None = None

    @property
    def longest(self) -> int:
        return max(self.lengths)


def documents_of(batch: PackedBatch, dtype: torch.dtype, backend: Backend | None = None) -> Documents:
    """Returns the documents of a batch, for attention in `dtype` by `backend`, or by the fastest that its device and
    dtype have.
    """
    backend = backend or _fastest(batch, dtype)
    if backend != "cudnn-packed":
        return Documents(batch.cu_seqlens, batch.document_lengths, backend)
    room = -(-len(batch.document_lengths) // DOCUMENTS_STEP) * DOCUMENTS_STEP
    missing = room + 1 - batch.cu_seqlens.shape[0]
    ends = torch.cat([batch.cu_seqlens, batch.cu_seqlens[-1:].expand(missing)]).to(torch.int64)
    return Documents(batch.cu_seqlens, batch.document_lengths, backend, ends.diff().to(torch.int32), ends)


def _fastest(batch: PackedBatch, dtype: torch.dtype) -> Backend:
    if not batch.input_ids.is_cuda or dtype not in (torch.bfloat16, torch.float16):
        return "reference"
    if min(batch.document_lengths) == max(batch.document_lengths):
        return "cudnn"
    return "cudnn-packed" if dtype == torch.bfloat16 and _has_cudnn_frontend() else "flash"


@cache
def _has_cudnn_frontend() -> bool:
    return find_spec("cudnn") is not None


def attend(q: Tensor, k: Tensor, v: Tensor, documents: Documents, scale: float) -> tuple[Tensor, list[Tensor]]:
    """Returns the output (T, heads, D) and tensors that `attend_backward` needs in addition to q, k, v and the
    output.
    """
    match documents.backend:
        case "cudnn":
            return _cudnn(q, k, v, documents, scale)
        case "cudnn-packed":
            from workloads.train.kernels import attention_cudnn

            return attention_cudnn.attend(q, k, v, documents, scale)
        case "flash":
            return _flash(q, k, v, documents, scale)
        case "reference":
            return reference_attend(q, k, v, documents.lengths, scale), []


def attend_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, saved: list[Tensor], documents: Documents, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the gradients of q, k and v."""
    match documents.backend:
        case "cudnn":
            return _cudnn_backward(grad, q, k, v, out, saved, documents, scale)
        case "cudnn-packed":
            from workloads.train.kernels import attention_cudnn

            return attention_cudnn.attend_backward(grad, q, k, v, out, saved, documents, scale)
        case "flash":
            return _flash_backward(grad, q, k, v, out, saved, documents, scale)
        case "reference":
            with torch.enable_grad():
                q, k, v = (tensor.detach().requires_grad_() for tensor in (q, k, v))
                again = reference_attend(q, k, v, documents.lengths, scale)
            grad_q, grad_k, grad_v = torch.autograd.grad(again, (q, k, v), grad)
            return grad_q, grad_k, grad_v


def reference_attend(q: Tensor, k: Tensor, v: Tensor, lengths: tuple[int, ...], scale: float) -> Tensor:
    by_head = ([piece.transpose(0, 1)[None] for piece in torch.split(x, list(lengths))] for x in (q, k, v))
    outputs = [
        scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale, enable_gqa=True)
        for query, key, value in zip(*by_head, strict=True)
    ]
    return torch.cat([output[0].transpose(0, 1) for output in outputs])


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
