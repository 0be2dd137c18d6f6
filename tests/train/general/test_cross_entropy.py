"""The general trainer's cross-entropy is PyTorch's own on the supervised rows, and keeps no copy of the logits."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from workloads.train.general import cross_entropy
from workloads.train.general.cross_entropy import summed_cross_entropy

SUPERVISED = [(0, 1), (0, 2), (1, 0), (1, 4), (2, 3), (2, 1), (2, 0)]


def drawn(dtype: torch.dtype, rows: int = len(SUPERVISED)) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits (3, 5, 11), and the place and target of each supervised row."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 11, generator=generator).to(dtype).requires_grad_()
    places = torch.tensor(SUPERVISED[:rows], dtype=torch.int64).reshape(-1, 2)
    targets = torch.randint(0, 11, (rows,), generator=generator)
    return logits, places[:, 0], places[:, 1], targets


def plain(logits: Tensor, documents: Tensor, positions: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits[documents, positions].float(), targets, reduction="sum")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_loss_and_gradient_are_those_of_autograd(
    dtype: torch.dtype, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross_entropy, "CHUNK_ROWS", chunk)
    logits, *rest = drawn(dtype)
    ours, theirs = summed_cross_entropy(logits, *rest), plain(logits, *rest)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0.0)
    (gradient,) = torch.autograd.grad(ours / 3, logits)
    (wanted,) = torch.autograd.grad(theirs / 3, logits)
    assert torch.equal(gradient, wanted)


def test_without_a_supervised_row_the_loss_and_the_gradient_are_0() -> None:
    logits, *rest = drawn(torch.bfloat16, rows=0)
    loss = summed_cross_entropy(logits, *rest)
    assert loss.item() == 0.0
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.equal(gradient, torch.zeros_like(logits))


def test_of_floating_point_tensors_only_the_logits_themselves_are_kept() -> None:
    logits, *rest = drawn(torch.bfloat16)
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        summed_cross_entropy(logits, *rest)
    assert {tensor.data_ptr() for tensor in kept if tensor.is_floating_point()} == {logits.data_ptr()}
