"""Causal attention within documents by cuDNN's packed ("THD") layout, through the package nvidia-cudnn-frontend.

PyTorch uses cuDNN only for documents of one length. A graph is built for each (number of documents, longest, tokens)
seen, all three rounded up so that few are built; unused documents have length 0. Source of the layout:
https://docs.nvidia.com/deeplearning/cudnn/frontend/latest/operations/Attention.html
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import cudnn
import torch
from torch import Tensor

from workloads.train.kernels.attention import Documents

TOKENS_STEP = 4096


@dataclass(frozen=True)
class Shape:
    """All sizes on which a graph depends: at most `documents` of up to `longest` tokens, `tokens` in total."""

    documents: int
    longest: int
    tokens: int
    heads: int
    kv_heads: int
    size: int
    scale: float


@dataclass(frozen=True)
class Graph:
    graph: Any
    tensors: dict[str, Any]
    workspace_bytes: int


@cache
def _handle(device: torch.device) -> Any:
    with torch.cuda.device(device):
        return cudnn.create_handle()


class _Builder:
    def __init__(self, shape: Shape, device: torch.device) -> None:
        self.shape = shape
        self.graph = cudnn.pygraph(
            io_data_type=cudnn.data_type.BFLOAT16,
            intermediate_data_type=cudnn.data_type.FLOAT,
            compute_data_type=cudnn.data_type.FLOAT,
            handle=_handle(device),
        )
        self.tensors: dict[str, Any] = {}
        for name in ("lengths_q", "lengths_kv"):
            self.tensors[name] = self._index(name, shape.documents, cudnn.data_type.INT32)
        for name in ("offset_q", "offset_kv", "offset_stats"):
            self.tensors[name] = self._index(name, shape.documents + 1, cudnn.data_type.INT64)

    def _index(self, name: str, count: int, kind: Any) -> Any:
        return self.graph.tensor(name=name, dim=[count, 1, 1, 1], stride=[1, 1, 1, 1], data_type=kind)

    def dims(self, heads: int) -> tuple[list[int], list[int]]:
        s = self.shape
        return [s.documents, heads, s.longest, s.size], [s.longest * heads * s.size, s.size, heads * s.size, 1]

    def rows(self, name: str, heads: int, offset: str) -> Any:
        dim, stride = self.dims(heads)
        tensor = self.graph.tensor(name=name, dim=dim, stride=stride, data_type=cudnn.data_type.BFLOAT16)
        tensor.set_ragged_offset(self.tensors[offset])
        self.tensors[name] = tensor
        return tensor

    def output(self, name: str, tensor: Any, heads: int, offset: str) -> None:
        dim, stride = self.dims(heads)
        tensor.set_output(True).set_dim(dim).set_stride(stride).set_data_type(cudnn.data_type.BFLOAT16)
        tensor.set_ragged_offset(self.tensors[offset])
        self.tensors[name] = tensor

    def stats_dims(self) -> tuple[list[int], list[int]]:
        s = self.shape
        return [s.documents, s.heads, s.longest, 1], [s.heads * s.longest, 1, s.heads, 1]

    def finish(self) -> Graph:
        graph = self.graph
        graph.validate()
        graph.build_operation_graph()
        graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
        graph.check_support()
        graph.build_plans()
        return Graph(graph, self.tensors, graph.get_workspace_size())


def _forward_builder(shape: Shape, device: torch.device) -> _Builder:
    build = _Builder(shape, device)
    q = build.rows("q", shape.heads, "offset_q")
    k, v = build.rows("k", shape.kv_heads, "offset_kv"), build.rows("v", shape.kv_heads, "offset_kv")
    out, stats = build.graph.sdpa(
        name="attention",
        q=q,
        k=k,
        v=v,
        generate_stats=True,
        attn_scale=shape.scale,
        use_causal_mask=True,
        use_padding_mask=True,
        seq_len_q=build.tensors["lengths_q"],
        seq_len_kv=build.tensors["lengths_kv"],
    )
    build.output("out", out, shape.heads, "offset_q")
    dim, stride = build.stats_dims()
    stats.set_output(True).set_dim(dim).set_stride(stride).set_data_type(cudnn.data_type.FLOAT)
    stats.set_ragged_offset(build.tensors["offset_stats"])
    build.tensors["stats"] = stats
    return build


def _backward_builder(shape: Shape, device: torch.device) -> _Builder:
    build = _Builder(shape, device)
    q = build.rows("q", shape.heads, "offset_q")
    k, v = build.rows("k", shape.kv_heads, "offset_kv"), build.rows("v", shape.kv_heads, "offset_kv")
    out, grad = build.rows("out", shape.heads, "offset_q"), build.rows("grad", shape.heads, "offset_q")
    dim, stride = build.stats_dims()
    stats = build.graph.tensor(name="stats", dim=dim, stride=stride, data_type=cudnn.data_type.FLOAT)
    stats.set_ragged_offset(build.tensors["offset_stats"])
    build.tensors["stats"] = stats
    grads = build.graph.sdpa_backward(
        name="attention_backward",
        q=q,
        k=k,
        v=v,
        o=out,
        dO=grad,
        stats=stats,
        attn_scale=shape.scale,
        use_causal_mask=True,
        use_padding_mask=True,
        seq_len_q=build.tensors["lengths_q"],
        seq_len_kv=build.tensors["lengths_kv"],
        max_total_seq_len_q=shape.tokens,
        max_total_seq_len_kv=shape.tokens,
    )
    for name, tensor, heads, offset in zip(
        ("grad_q", "grad_k", "grad_v"),
        grads,
        (shape.heads, shape.kv_heads, shape.kv_heads),
        ("offset_q", "offset_kv", "offset_kv"),
        strict=True,
    ):
        build.output(name, tensor, heads, offset)
    return build


@cache
def forward_graph(shape: Shape, device: torch.device) -> Graph:
    return _forward_builder(shape, device).finish()


@cache
def backward_graph(shape: Shape, device: torch.device) -> Graph:
    return _backward_builder(shape, device).finish()


def _shape(q: Tensor, k: Tensor, documents: Documents, scale: float) -> Shape:
    assert documents.lengths_padded is not None
    return Shape(
        documents=documents.lengths_padded.shape[0],
        longest=max(128, 1 << (documents.longest - 1).bit_length()),
        tokens=-(-q.shape[0] // TOKENS_STEP) * TOKENS_STEP,
        heads=q.shape[1],
        kv_heads=k.shape[1],
        size=q.shape[2],
        scale=scale,
    )


def _run(built: Graph, values: dict[str, Tensor], documents: Documents, shape: Shape) -> None:
    lengths, ends = documents.lengths_padded, documents.ends_padded
    assert lengths is not None
    assert ends is not None
    values = {
        **values,
        "lengths_q": lengths,
        "lengths_kv": lengths,
        "offset_q": ends * (shape.heads * shape.size),
        "offset_kv": ends * (shape.kv_heads * shape.size),
        "offset_stats": ends * shape.heads,
    }
    device = lengths.device
    handle = _handle(device)
    cudnn.set_stream(handle=handle, stream=torch.cuda.current_stream(device).cuda_stream)
    workspace = torch.empty(built.workspace_bytes, dtype=torch.uint8, device=device)
    built.graph.execute({built.tensors[name]: value for name, value in values.items()}, workspace, handle=handle)


def attend(q: Tensor, k: Tensor, v: Tensor, documents: Documents, scale: float) -> tuple[Tensor, list[Tensor]]:
    """Q (T, heads, D), k and v (T, kv_heads, D), contiguous -> the output (T, heads, D) and the log-sums (T, heads)."""
    shape = _shape(q, k, documents, scale)
    out = torch.empty_like(q)
    stats = torch.empty(q.shape[0], q.shape[1], dtype=torch.float32, device=q.device)
    _run(forward_graph(shape, q.device), {"q": q, "k": k, "v": v, "out": out, "stats": stats}, documents, shape)
    return out, [stats]


def attend_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, saved: list[Tensor], documents: Documents, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    shape = _shape(q, k, documents, scale)
    grads = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    values = {"q": q, "k": k, "v": v, "out": out, "grad": grad, "stats": saved[0]}
    values |= dict(zip(("grad_q", "grad_k", "grad_v"), grads, strict=True))
    _run(backward_graph(shape, q.device), values, documents, shape)
    return grads
