"""Times each part of one Qwen3-30B-A3B layer alone, on one GPU: `python -m perf.train.parts --out DIR`.

Writes DIR/parts.json: milliseconds, and TFLOP/s or GB/s from the operations or the fewest bytes of the part.
"""

from __future__ import annotations

import argparse
import json
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from perf.train.shapes import (
    batch_of,
    copy_bytes_per_second,
    equal_lengths,
    machine,
    matmul_flops_per_second,
    mixed_lengths,
    seconds_of,
)
from workloads.train.kernels import attention, cross_entropy, grouped, moe_permute, norms, swiglu
from workloads.train.kernels.fused_lora import AugmentedWeight

H, INNER, EXPERTS, TOP_K, HEADS, KV_HEADS, HEAD, RANK, VOCABULARY = 2048, 768, 128, 8, 32, 4, 128, 32, 151_936
SCALE = HEAD**-0.5
results: dict[str, dict[str, float]] = {}


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)


def measure(name: str, function: Callable[[], object], flops: float = 0.0, bytes_moved: float = 0.0) -> None:
    try:
        seconds = seconds_of(function)
    except Exception:
        print(f"{name:62} FAILED {traceback.format_exc().strip().splitlines()[-1][:300]}", flush=True)
        return
    results[name] = {"ms": seconds * 1e3}
    rate = ""
    if flops:
        results[name]["tflops"] = flops / seconds / 1e12
        rate = f"{flops / seconds / 1e12:7.0f} TFLOP/s"
    if bytes_moved:
        results[name]["gbytes_per_second"] = bytes_moved / seconds / 1e9
        rate += f"{bytes_moved / seconds / 1e9:7.0f} GB/s"
    print(f"{name:62} {seconds * 1e3:8.3f} ms {rate}", flush=True)


def elementwise(tokens: int) -> None:
    x, w, g = random(tokens, H), random(H), random(tokens, H)
    row = x.numel() * 2
    measure("rms_norm", lambda: norms.rms_norm(x, w, 1e-6), bytes_moved=2 * row)
    measure("rms_norm_backward + residual", lambda: norms.rms_norm_backward(g, x, w, 1e-6, g), bytes_moved=4 * row)
    q, gq, hw = random(tokens, HEADS, HEAD), random(tokens, HEADS, HEAD), random(HEAD)
    cos, sin = random(tokens, HEAD), random(tokens, HEAD)
    measure("norm_rope q", lambda: norms.norm_rope(q, hw, cos, sin, 1e-6), bytes_moved=4 * q.numel())
    measure(
        "norm_rope_backward q", lambda: norms.norm_rope_backward(gq, q, hw, cos, sin, 1e-6), bytes_moved=6 * q.numel()
    )


def routing(tokens: int) -> grouped.Routes:
    x, router = random(tokens, H), random(EXPERTS, H) * 0.02
    logits = x @ router.T
    measure("router product", lambda: x @ router.T)
    measure("softmax + topk", lambda: torch.topk(torch.softmax(logits, -1, dtype=torch.float32), TOP_K, -1))
    measure("choose_experts", lambda: grouped.choose_experts(logits, TOP_K))
    experts = grouped.choose_experts(logits, TOP_K)
    measure("routes_of (sort)", lambda: grouped.routes_of(experts, EXPERTS))
    routes = grouped.routes_of(experts, EXPERTS)
    m = tokens * TOP_K
    measure(
        "spread_rows", lambda: moe_permute.spread_rows(x, routes.position, 2 * RANK), bytes_moved=2.0 * H * (m + tokens)
    )
    y = random(m, H)
    measure(
        "combine_rows", lambda: moe_permute.combine_rows(y, routes.position, x), bytes_moved=2.0 * H * (m + 2 * tokens)
    )
    gate_up, weight, grad = random(m, 2 * INNER), torch.rand(m, device="cuda"), random(m, INNER)
    measure("weighted_swiglu", lambda: swiglu.weighted_swiglu(gate_up, weight, RANK), bytes_moved=6.0 * INNER * m)
    measure(
        "weighted_swiglu_backward",
        lambda: swiglu.weighted_swiglu_backward(grad, gate_up, weight, 2 * RANK, True),
        bytes_moved=12.0 * INNER * m,
    )
    counts = torch.diff(routes.ends, prepend=routes.ends.new_zeros(1))
    print(f"rows of an expert: {int(counts.min())} to {int(counts.max())}")
    return routes


def products(name: str, n: int, k: int, r: int, routes: grouped.Routes) -> None:
    """The grouped products of one weight (n, k) with its LoRA of r columns, forward and backward."""
    m, ends = routes.position.numel(), routes.ends
    flops, by_k, by_n = 2.0 * m * n * k, 2.0 * m * (k + r), 2.0 * m * (n + r)
    x, dy, low = random(m, k), random(m, n), random(m, r)
    plain = random(EXPERTS, n, k)
    measure(f"{name} forward, plain", lambda: grouped.rows_by_weight(x, plain, ends), flops)
    measure(f"{name} input gradient, plain", lambda: grouped.rows_by_weight_transposed(dy, plain, ends), flops)
    w = AugmentedWeight(random(EXPERTS, n + r, k + r), r)
    xr, dyr = random(m, k + r), random(m, n + r)
    xs, dys = xr[:, :k], dyr[:, :n]
    measure(f"{name} forward with B", lambda: grouped.rows_by_weight(xr, w.weight_and_b, ends), flops)
    measure(
        f"{name} input gradient with A", lambda: grouped.rows_by_weight_transposed(dyr, w.weight_and_a, ends), flops
    )
    measure(f"{name} A x", lambda: grouped.rows_by_weight(xs, w.a, ends), bytes_moved=by_k)
    measure(f"{name} B^T dy", lambda: grouped.rows_by_weight_transposed(dys, w.b, ends), bytes_moved=by_n)
    measure(f"{name} gradient of A", lambda: grouped.outer_by_expert(low, x, ends), bytes_moved=by_k)
    measure(f"{name} gradient of A, transposed", lambda: grouped.outer_by_expert(x, low, ends), bytes_moved=by_k)
    measure(f"{name} gradient of B", lambda: grouped.outer_by_expert(dys, low, ends), bytes_moved=by_n)
    measure(f"{name} gradient of B, transposed", lambda: grouped.outer_by_expert(low, dys, ends), bytes_moved=by_n)
    measure(
        f"{name} gradient of A in float32",
        lambda: torch._grouped_mm(low.T, x, offs=ends, out_dtype=torch.float32),
        bytes_moved=by_k,
    )


def dense(tokens: int) -> None:
    x, wq, g = random(tokens, H), random(HEADS * HEAD, H), random(tokens, HEADS * HEAD)
    wk, low, b = random(KV_HEADS * HEAD, H), random(tokens, RANK), random(HEADS * HEAD, RANK)
    flops = 2.0 * tokens * H * HEADS * HEAD
    measure("q projection", lambda: x @ wq.T, flops)
    measure("k projection", lambda: x @ wk.T, flops / 8)
    measure("q input gradient", lambda: g @ wq, flops)
    y = x @ wq.T
    measure("q += B low", lambda: y.addmm_(low, b.T))
    measure("A x", lambda: x @ wk[:RANK].T)
    measure("gradient of B of q", lambda: g.T @ low)
    measure("gradient of A of q", lambda: low.T @ x)
    n = 4096
    rows_, head = random(n, H), random(VOCABULARY, H) * 0.02
    logits = rows_ @ head.T
    targets = torch.randint(0, VOCABULARY, (n,), device="cuda")
    flops = 2.0 * n * H * VOCABULARY
    measure("head, 4096 rows", lambda: rows_ @ head.T, flops)
    measure(
        "cross-entropy in place, 4096 rows",
        lambda: cross_entropy.cross_entropy_in_place(logits, targets),
        bytes_moved=6.0 * logits.numel(),
    )
    measure("head input gradient, 4096 rows", lambda: logits @ head, flops)


def attentions(name: str, lengths: tuple[int, ...]) -> None:
    tokens, batch = sum(lengths), batch_of(lengths, VOCABULARY, 0).to("cuda")
    q, g = random(tokens, HEADS, HEAD), random(tokens, HEADS, HEAD)
    k, v = random(tokens, KV_HEADS, HEAD), random(tokens, KV_HEADS, HEAD)
    flops = 4.0 * sum(length * (length + 1) / 2 for length in lengths) * HEADS * HEAD
    backends: list[attention.Backend] = ["flash", "cudnn-packed"]
    for backend in [*backends, "cudnn"] if len(set(lengths)) == 1 else backends:
        documents = attention.documents_of(batch, torch.bfloat16, backend)
        started = time.perf_counter()
        try:
            out, saved = attention.attend(q, k, v, documents, SCALE)
            attention.attend_backward(g, q, k, v, out, saved, documents, SCALE)
        except Exception:
            print(f"attention {name}, {backend} FAILED {traceback.format_exc().strip().splitlines()[-1][:400]}")
            continue
        torch.cuda.synchronize()
        print(f"    first call of {backend}, forward and backward: {time.perf_counter() - started:.2f} s")
        label = f"attention {name}, {backend}"
        measure(f"{label}, forward", partial(attention.attend, q, k, v, documents, SCALE), flops)
        backward = partial(attention.attend_backward, g, q, k, v, out, saved, documents, SCALE)
        measure(f"{label}, backward", backward, 2.5 * flops)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=16_384)
    parser.add_argument("--commit", default="")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    report = {
        "machine": machine(), "commit": args.commit, "tokens": args.tokens,
        "matmul_tflops": matmul_flops_per_second() / 1e12, "copy_terabytes_per_second": copy_bytes_per_second() / 1e12,
        "parts": results,
    }  # fmt: skip
    print(json.dumps({key: value for key, value in report.items() if key != "parts"}))
    torch.manual_seed(0)
    attentions("4 x 4096", equal_lengths(args.tokens, 4096))
    attentions("packed 1.5K", mixed_lengths(args.tokens, seed=0))
    elementwise(args.tokens)
    routes = routing(args.tokens)
    products("W1", 2 * INNER, H, 2 * RANK, routes)
    products("W2", H, INNER, RANK, routes)
    dense(args.tokens)
    (args.out / "parts.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
