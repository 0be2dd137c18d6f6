"""Checks the training operators on a CUDA device against float64: `python -m tests.gpu.check_train`.

Needs torch, transformers and Triton only. Prints one line for each comparison and ends with status 1 if one failed.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from tests.train.kernels import triton_checks
from tests.train.kernels.models import in_dtype, random_batch, randomise_adapter, randomise_norms
from workloads.train.kernels import attention, grouped
from workloads.train.kernels.decoder import packed_loss_sum
from workloads.train.kernels.fused_lora import AugmentedWeight
from workloads.train.patch import add_lora, lora_parameters

failures: list[str] = []


def compare(name: str, actual: Tensor, expected: Tensor, tolerance: float) -> None:
    error = triton_checks.relative_error(actual, expected)
    good = error <= tolerance
    if not good:
        failures.append(name)
    print(f"{'ok  ' if good else 'FAIL'} {name:60} {tuple(actual.shape)!s:22} {error:.2e}", flush=True)


def check_grouped(counts: list[int], out_size: int, in_size: int, rank: int) -> None:
    torch.manual_seed(0)
    experts, rows = len(counts), sum(counts)
    ends = torch.tensor(counts, device="cuda").cumsum(0).to(torch.int32)
    weight = AugmentedWeight(
        torch.randn(experts, out_size + rank, in_size + rank, device="cuda", dtype=torch.bfloat16), rank
    )
    label = f"grouped {out_size}x{in_size}+{rank} of {counts if experts < 9 else experts}"
    for name, product, width, matrix in (
        ("weight and B", grouped.rows_by_weight, in_size + rank, weight.weight_and_b),
        ("A", grouped.rows_by_weight, in_size, weight.a),
        ("weight and A, transposed", grouped.rows_by_weight_transposed, out_size + rank, weight.weight_and_a),
        ("B, transposed", grouped.rows_by_weight_transposed, out_size, weight.b),
    ):
        x = torch.randn(rows, width + 24, device="cuda", dtype=torch.bfloat16)[:, :width]
        expected = product(x.double().cpu(), matrix.double().cpu(), ends.cpu())
        compare(f"{label}: {name}", product(x, matrix, ends), expected, 6e-3)
    left = torch.randn(rows, rank, device="cuda", dtype=torch.bfloat16)
    right = torch.randn(rows, in_size + 8, device="cuda", dtype=torch.bfloat16)[:, :in_size]
    expected = grouped.reference_outer_by_expert(left.double().cpu(), right.double().cpu(), ends.cpu())
    compare(f"{label}: outer, narrow by wide", grouped.outer_by_expert(left, right, ends), expected, 6e-3)
    compare(f"{label}: outer, wide by narrow", grouped.outer_by_expert(right, left, ends), expected.mT, 6e-3)


def check_attention(backend: attention.Backend, lengths: tuple[int, ...], heads: int, kv_heads: int) -> None:
    torch.manual_seed(0)
    documents = attention.documents_of(random_batch(lengths).to("cuda"), torch.bfloat16, backend)
    tokens, size = sum(lengths), 128
    q, grad = (torch.randn(tokens, heads, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    k, v = (torch.randn(tokens, kv_heads, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    scale = size**-0.5
    out, saved = attention.attend(q, k, v, documents, scale)
    grads = attention.attend_backward(grad, q, k, v, out, saved, documents, scale)
    leaves = tuple(x.double().requires_grad_() for x in (q, k, v))
    wide_q, wide_k, wide_v = leaves
    expected = attention.reference_attend(wide_q, wide_k, wide_v, lengths, scale)
    label = f"attention by {backend} {lengths if len(lengths) < 6 else len(lengths)} {heads}/{kv_heads}"
    compare(f"{label}: output", out, expected.detach(), 1e-2)
    for name, actual, want in zip("qkv", grads, torch.autograd.grad(expected, leaves, grad.double()), strict=True):
        compare(f"{label}: gradient of {name}", actual, want, 2e-2)


def check_model(
    make: type[Qwen3MoeForCausalLM] | type[Qwen3ForCausalLM],
    config: Qwen3MoeConfig | Qwen3Config,
    target: tuple[str, ...],
    lengths: tuple[int, ...],
    rank: int = 8,
) -> None:
    """bfloat16 on the GPU against float64 on the CPU, the same experts chosen in both."""
    torch.manual_seed(0)
    model = in_dtype(randomise_norms(make(config)), torch.bfloat16)
    add_lora(model, rank=rank, alpha=16.0, target=target, seed=1)
    randomise_adapter(model)
    batch = random_batch(lengths)
    generator = torch.Generator().manual_seed(3)
    pinned = None
    if isinstance(config, Qwen3MoeConfig) and "experts" in target:
        scores = torch.rand(config.num_hidden_layers, batch.tokens, config.num_experts, generator=generator)
        pinned = list(scores.topk(config.num_experts_per_tok, dim=-1).indices.to(torch.int32))
    wide = in_dtype(make(config), torch.float64)
    add_lora(wide, rank=rank, alpha=16.0, target=target, dtype=torch.float64)
    wide.load_state_dict(model.state_dict())
    expected_loss = packed_loss_sum(wide, batch, pinned)
    expected = torch.autograd.grad(expected_loss, list(lora_parameters(wide).values()))
    nn.Module.cuda(model)
    loss = packed_loss_sum(model, batch.to("cuda"), None if pinned is None else [x.cuda() for x in pinned])
    names = lora_parameters(model)
    label = f"{make.__name__} {'+'.join(target)} {lengths}"
    compare(f"{label}: loss", loss.detach(), expected_loss.detach(), 1e-2)
    for name, actual, want in zip(names, torch.autograd.grad(loss, list(names.values())), expected, strict=True):
        if ".layers.0." in name or "gate_up" in name:
            compare(f"{name.removeprefix('model.layers.')}", actual, want, 5e-2)


def main() -> int:
    kernels_failed = triton_checks.main("cuda")
    check_grouped([100, 0, 3, 411, 0, 1], out_size=192, in_size=64, rank=16)
    check_grouped([300, 5, 0, 700], out_size=1536, in_size=2048, rank=64)
    check_grouped([0, 0, 40], out_size=2048, in_size=768, rank=32)
    check_attention("cudnn", (256, 256, 256), 8, 2)
    check_attention("cudnn", (1024, 1024), 32, 4)
    check_attention("cudnn", (333,), 32, 4)
    varied: list[attention.Backend] = ["flash", "cudnn-packed"] if find_spec("cudnn") else ["flash"]
    for backend in varied:
        check_attention(backend, (300, 64, 1, 513), 8, 2)
        check_attention(backend, (1000, 300, 748), 32, 4)
        check_attention(backend, (2,) * 20 + (129, 127, 128), 32, 4)
    shared: dict[str, Any] = {"hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
              "head_dim": 128, "vocab_size": 512, "initializer_range": 0.05}  # fmt: skip
    moe = Qwen3MoeConfig(**shared, num_experts=16, num_experts_per_tok=4, moe_intermediate_size=64)
    dense = Qwen3Config(**shared, intermediate_size=512)
    check_model(Qwen3MoeForCausalLM, moe, ("attention", "experts"), (128, 128))
    check_model(Qwen3MoeForCausalLM, moe, ("attention", "experts"), (128, 128), rank=4)
    check_model(Qwen3MoeForCausalLM, moe, ("attention", "experts"), (200, 31, 96))
    check_model(Qwen3ForCausalLM, dense, ("attention", "mlp"), (200, 31, 96))
    print(f"{len(failures)} comparisons failed" if failures or kernels_failed else "everything agrees")
    return 1 if failures or kernels_failed else 0


if __name__ == "__main__":
    sys.exit(main())
