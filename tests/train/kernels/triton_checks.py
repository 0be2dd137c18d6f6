"""Compares every Triton kernel with its plain PyTorch reference: `python -m tests.train.kernels.triton_checks DEVICE`.

On cpu, with TRITON_INTERPRET=1, at small sizes in float32; on cuda, in float32 and bfloat16, at odd sizes and at those
of Qwen3-30B-A3B. The reference runs in float64 on the same (rounded) inputs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from workloads.train.general import loss, loss_triton
from workloads.train.kernels import cross_entropy_triton, moe_permute_triton, norms_triton
from workloads.train.kernels.cross_entropy import cross_entropy_in_place
from workloads.train.kernels.norms import reference_norm_rope, reference_rms_norm, reference_rms_norm_backward
from workloads.train.kernels.swiglu import reference_weighted_swiglu

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 6e-3}
EPS = 1e-6


def relative_error(actual: Tensor, expected: Tensor) -> float:
    return float((actual.double().cpu() - expected.double().cpu()).norm() / expected.double().norm().cpu())


class Checks:
    def __init__(self, device: str, dtype: torch.dtype) -> None:
        self.device, self.dtype, self.failures = device, dtype, 0

    def random(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        return torch.randn(*shape, device=self.device).to(dtype or self.dtype)

    def compare(self, name: str, actual: Tensor, expected: Tensor) -> None:
        error = relative_error(actual, expected)
        good = error <= TOLERANCE[self.dtype]
        self.failures += not good
        print(f"{'ok  ' if good else 'FAIL'} {name:34} {self.dtype!s:15} {tuple(actual.shape)!s:20} {error:.2e}")

    def hold(self, name: str, good: bool) -> None:
        self.failures += not good
        print(f"{'ok  ' if good else 'FAIL'} {name:34} {self.dtype!s:15}")


def gradient(function: Callable[..., Tensor], grad: Tensor, *inputs: Tensor) -> list[Tensor]:
    leaves = [x.double().requires_grad_() for x in inputs]
    return list(torch.autograd.grad(function(*leaves), leaves, grad.double()))


def check_norms(checks: Checks, tokens: int, width: int, heads: int, size: int) -> None:
    x, w, g, residual = (checks.random(*s) for s in ((tokens, width), (width,), (tokens, width), (tokens, width)))
    checks.compare("rms_norm", norms_triton.rms_norm(x, w, EPS), reference_rms_norm(x.double(), w.double(), EPS))
    (expected,) = gradient(lambda a: reference_rms_norm(a, w.double(), EPS), g, x)
    actual = norms_triton.rms_norm_backward(g, x, w, EPS, residual)
    checks.compare("rms_norm_backward", actual, expected + residual.double())
    plain = reference_rms_norm_backward(g.double(), x.double(), w.double(), EPS)
    checks.compare("reference_rms_norm_backward", plain.to(x.dtype), expected)
    wide = checks.random(tokens, heads + 2, size)
    q, w, g = wide[:, :heads], checks.random(size), checks.random(tokens, heads, size)
    angle = torch.rand(tokens, size // 2, device=checks.device).repeat(1, 2) * 6
    cos, sin = angle.cos().to(checks.dtype), angle.sin().to(checks.dtype)
    tables = (w.double(), cos.double(), sin.double(), EPS)
    checks.compare("norm_rope", norms_triton.norm_rope(q, w, cos, sin, EPS), reference_norm_rope(q.double(), *tables))
    (expected,) = gradient(lambda a: reference_norm_rope(a, *tables), g, q)
    checks.compare("norm_rope_backward", norms_triton.norm_rope_backward(g, q, w, cos, sin, EPS), expected)


def check_rows(checks: Checks, tokens: int, top_k: int, width: int, inner: int) -> None:
    rows = tokens * top_k
    x, residual = checks.random(tokens, width), checks.random(tokens, width)
    order = torch.randperm(rows, device=checks.device).to(torch.int32)
    token, position = order // top_k, torch.argsort(order).to(torch.int32).view(tokens, top_k)
    spread = moe_permute_triton.spread_rows(x, position, 8)
    checks.compare("spread_rows", spread[:, :width], x[token.long()])
    logits = checks.random(tokens, 12)
    chosen = moe_permute_triton.choose_experts(logits, top_k).long()
    checks.compare("choose_experts", logits.gather(1, chosen), torch.topk(logits.float(), top_k, dim=-1).values)
    y = checks.random(rows, width)
    total = y.double()[position.long()].sum(1)
    checks.compare("combine_rows", moe_permute_triton.combine_rows(y, position, None), total)
    checks.compare(
        "combine_rows + residual", moe_permute_triton.combine_rows(y, position, residual), total + residual.double()
    )
    gate_up, weight, g = (
        checks.random(rows, 2 * inner),
        torch.rand(rows, device=checks.device),
        checks.random(rows, inner),
    )
    checks.compare(
        "weighted_swiglu",
        moe_permute_triton.weighted_swiglu(gate_up, weight, 8)[:, :inner],
        reference_weighted_swiglu(gate_up.double(), weight.double()),
    )
    grad_gate_up, grad_weight = gradient(reference_weighted_swiglu, g, gate_up, weight)
    actual = moe_permute_triton.weighted_swiglu_backward(g, gate_up, weight, 16, need_output=True)
    checks.compare("weighted_swiglu_backward: gate_up", actual[0][:, : 2 * inner], grad_gate_up)
    checks.compare("weighted_swiglu_backward: weight", actual[1], grad_weight)
    assert actual[2] is not None
    checks.compare(
        "weighted_swiglu_backward: output", actual[2], reference_weighted_swiglu(gate_up.double(), weight.double())
    )


def check_cross_entropy(checks: Checks, rows: int, vocabulary: int) -> None:
    logits = checks.random(rows, vocabulary) * 4
    targets = torch.randint(0, vocabulary, (rows,), device=checks.device)
    expected_gradient = logits.double().cpu()
    expected = cross_entropy_in_place(expected_gradient, targets.cpu())
    losses = cross_entropy_triton.cross_entropy_in_place(logits, targets)
    checks.compare("cross_entropy: losses", losses, expected)
    checks.compare("cross_entropy: gradient", logits, expected_gradient)


def check_loss(checks: Checks, documents: int, width: int, vocabulary: int, first: int = 0, share: float = 0.6) -> None:
    """The general trainer's loss of a part of the rows, of logits that begin at column `first` of a wider tensor."""
    whole = checks.random(documents, first + width, vocabulary) * 4
    logits = whole[:, first:]
    before = logits.clone()
    rows = (torch.rand(documents * width, device=checks.device) < share).nonzero()[:, 0]
    rows = rows[torch.randperm(len(rows), device=checks.device)]
    targets = torch.randint(0, vocabulary, rows.shape, device=checks.device)
    wide = logits.reshape(-1, vocabulary)[rows].double().cpu()
    scale = torch.tensor(0.3, device=checks.device)
    *kept, losses = loss_triton.cross_entropy(logits, rows, targets)
    gradient = loss_triton.cross_entropy_backward(scale, logits, rows, targets, *kept)
    expected = functional.cross_entropy(wide, targets.cpu(), reduction="none")
    probabilities = wide.softmax(-1)
    probabilities[torch.arange(len(rows)), targets.cpu()] -= 1
    expected_gradient = torch.zeros(documents * width, vocabulary, dtype=torch.float64)
    expected_gradient[rows.cpu()] = probabilities * 0.3
    if share:
        checks.compare("summed_cross_entropy: losses", losses, expected)
        checks.compare("summed_cross_entropy: gradient", gradient.flatten(0, 1), expected_gradient)
    is_other = torch.ones(documents * width, dtype=torch.bool, device=checks.device).scatter(0, rows, False)
    others = gradient.flatten(0, 1)[is_other]
    checks.hold("summed_cross_entropy: other rows", len(others) > 0 and not others.any())
    checks.hold("summed_cross_entropy: logits unchanged", torch.equal(logits, before))


def check_loss_of_all(checks: Checks, documents: int, width: int, vocabulary: int) -> None:
    """The size of a real micro-batch, against the plain path on the same device, with no wait of the host."""
    logits = checks.random(documents, width, vocabulary)
    rows = torch.arange(documents * width, device=checks.device).view(documents, width)[:, :-1].flatten()
    targets = torch.randint(0, vocabulary, rows.shape, device=checks.device)
    scale = torch.tensor(1 / len(rows), device=checks.device)
    torch.cuda.set_sync_debug_mode("error")
    *kept, losses = loss_triton.cross_entropy(logits, rows, targets)
    gradient = loss_triton.cross_entropy_backward(scale, logits, rows, targets, *kept)
    torch.cuda.set_sync_debug_mode("default")
    *kept, expected = loss.cross_entropy(logits, rows, targets)
    checks.compare("summed_cross_entropy: losses", losses, expected)
    expected_gradient = loss.cross_entropy_backward(scale, logits, rows, targets, *kept)
    apart = max(float((a.float() - b.float()).norm()) for a, b in zip(gradient, expected_gradient, strict=True))
    size = max(float(b.float().norm()) for b in expected_gradient)
    checks.hold(f"summed_cross_entropy: gradient {apart / size:.2e}", apart <= TOLERANCE[checks.dtype] * size)


def check_loss_of_extremes(checks: Checks, vocabulary: int) -> None:
    """Infinite and undefined logits have the losses and gradients of functional.cross_entropy."""
    infinity, undefined = float("inf"), float("nan")
    logits = checks.random(1, 8, vocabulary)
    logits[0, 0, 3] = -infinity
    logits[0, 1, 0] = infinity
    logits[0, 2, -1] = infinity
    logits[0, 3] = -infinity
    logits[0, 4, 5] = undefined
    logits[0, 5] = undefined
    logits[0, 6] = infinity
    logits[0, 7, 1:] = -infinity
    rows = torch.arange(8, device=checks.device)
    for target in (0, 3, vocabulary - 1):
        targets = torch.full((8,), target, device=checks.device)
        *kept, losses = loss_triton.cross_entropy(logits, rows, targets)
        gradient = loss_triton.cross_entropy_backward(losses.new_ones(()), logits, rows, targets, *kept)
        leaf = logits[0].float().detach().cpu().requires_grad_()
        expected = functional.cross_entropy(leaf, targets.cpu(), reduction="none")
        (expected_gradient,) = torch.autograd.grad(expected.sum(), leaf)
        name = f"summed_cross_entropy: extremes, target {target}"
        same = TOLERANCE[checks.dtype]
        checks.hold(name, torch.allclose(losses.cpu(), expected.detach(), same, same, equal_nan=True))
        good = torch.allclose(gradient[0].float().cpu(), expected_gradient, same, same, equal_nan=True)
        checks.hold(f"{name}, gradient", good)


def main(device: str) -> int:
    torch.manual_seed(0)
    failures = 0
    for dtype in [torch.float32] if device == "cpu" else [torch.float32, torch.bfloat16]:
        checks = Checks(device, dtype)
        check_norms(checks, tokens=5, width=48, heads=3, size=16)
        check_rows(checks, tokens=7, top_k=3, width=40, inner=24)
        check_cross_entropy(checks, rows=5, vocabulary=100)
        check_loss(checks, documents=2, width=5, vocabulary=100)
        check_loss(checks, documents=3, width=4, vocabulary=103, first=3)
        check_loss(checks, documents=1, width=3, vocabulary=100, share=0.0)
        check_loss_of_extremes(checks, vocabulary=100)
        if device == "cuda":
            check_norms(checks, tokens=515, width=2048, heads=32, size=128)
            check_rows(checks, tokens=515, top_k=8, width=2048, inner=768)
            check_cross_entropy(checks, rows=67, vocabulary=151_936)
            check_loss(checks, documents=3, width=31, vocabulary=151_936)
            check_loss(checks, documents=3, width=31, vocabulary=50_257, first=7)
            check_loss_of_extremes(checks, vocabulary=50_257)
            check_loss_of_all(checks, documents=4, width=4096, vocabulary=151_936)
        else:
            check_cross_entropy(checks, rows=3, vocabulary=9000)
            check_loss(checks, documents=1, width=3, vocabulary=9000)
            check_loss_of_extremes(checks, vocabulary=9000)
        failures += checks.failures
    print("all kernels agree" if failures == 0 else f"{failures} comparisons failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
