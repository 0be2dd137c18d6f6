"""The general trainer's loss and gradient are those of functional.cross_entropy, in place and without changing the logits.

Here PyTorch's path; Triton's kernels are compared in tests/train/kernels.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from workloads.train.general import loss
from workloads.train.general.loss import summed_cross_entropy

INFINITY, UNDEFINED = float("inf"), float("nan")


def expected_loss(logits: Tensor, rows: Tensor, targets: Tensor) -> Tensor:
    wide = torch.promote_types(logits.dtype, torch.float32)
    return functional.cross_entropy(logits.flatten(0, 1)[rows].to(wide), targets, reduction="sum")


def both(whole: Tensor, view: Callable[[Tensor], Tensor], rows: Tensor, targets: Tensor, scale: float) -> list[Tensor]:
    """Returns loss and gradient of `whole` by summed_cross_entropy, then by functional.cross_entropy."""
    found = []
    for function in (summed_cross_entropy, expected_loss):
        leaf = whole.clone().requires_grad_()
        value = function(view(leaf), rows, targets)
        found += [value.detach(), *torch.autograd.grad(value * scale, leaf)]
    return found


def unchanged(logits: Tensor) -> Tensor:
    return logits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 1 / 77, -3.0, 0.0])
def test_loss_and_gradient_are_those_of_cross_entropy(
    dtype: torch.dtype, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any order of the rows, several chunks of them."""
    monkeypatch.setattr(loss, "CHUNK_ROWS", 7)
    torch.manual_seed(0)
    logits = (torch.randn(3, 10, 101) * 4).to(dtype)
    rows = torch.randperm(30)[:19]
    targets = torch.randint(0, 101, (19,))
    value, gradient, expected, expected_gradient = both(logits, unchanged, rows, targets, scale)
    assert value.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(value, expected, rtol=3e-7, atol=0)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0.01 if dtype == torch.bfloat16 else 1e-5, atol=1e-7)
    others = torch.ones(30, dtype=torch.bool).scatter(0, rows, False)
    assert not gradient.flatten(0, 1)[others].any()


@pytest.mark.parametrize("view", [lambda x: x[:, 3:], lambda x: x.transpose(1, 2), lambda x: x[:, :, ::2]])
def test_logits_may_be_a_view(view: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    whole = torch.randn(2, 12, 12)
    documents, width, vocabulary = view(whole).shape
    rows = torch.arange(0, documents * width, 2)
    targets = torch.randint(0, vocabulary, rows.shape)
    value, gradient, expected, expected_gradient = both(whole, view, rows, targets, 0.5)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, expected_gradient)


@pytest.mark.parametrize("target", [0, 3, 9])
def test_infinite_and_undefined_logits_give_what_cross_entropy_gives(target: int) -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 7, 10)
    logits[0, 0, 3] = -INFINITY
    logits[0, 1, 0] = INFINITY
    logits[0, 2, -1] = UNDEFINED
    logits[0, 3] = -INFINITY
    logits[0, 4] = INFINITY
    logits[0, 5, 1:] = -INFINITY
    for row in range(7):
        found = both(logits, unchanged, torch.tensor([row]), torch.tensor([target]), 1.0)
        torch.testing.assert_close(found[:2], found[2:], equal_nan=True)


def test_a_loss_near_zero_has_the_precision_of_cross_entropy() -> None:
    logits = torch.tensor([[[1000.0, 986.0, 985.0]]])
    found = both(logits, unchanged, torch.tensor([0]), torch.tensor([0]), 1.0)
    assert 1e-6 < float(found[0]) < 2e-6
    torch.testing.assert_close(found[:2], found[2:], rtol=1e-5, atol=0)


def test_without_rows_the_loss_is_zero_and_so_is_the_gradient() -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    value, gradient, *_ = both(torch.full((1, 2, 5), UNDEFINED), unchanged, nothing, nothing, 1.0)
    assert float(value) == 0
    assert not gradient.any()


def test_the_logits_stay_as_they_are_and_may_be_needed_again() -> None:
    """A layer that keeps its output for its own gradient, such as soft-capping."""
    torch.manual_seed(0)
    rows, targets = torch.arange(4), torch.randint(0, 9, (4,))
    inputs = torch.randn(1, 4, 9).requires_grad_()
    capped = inputs.tanh()
    before = capped.detach().clone()
    (gradient,) = torch.autograd.grad(summed_cross_entropy(capped, rows, targets), inputs)
    assert torch.equal(capped, before)
    (expected,) = torch.autograd.grad(expected_loss(inputs.tanh(), rows, targets), inputs)
    torch.testing.assert_close(gradient, expected)


def test_without_gradients_the_loss_is_the_same() -> None:
    torch.manual_seed(0)
    logits, rows, targets = torch.randn(1, 4, 9).requires_grad_(), torch.arange(4), torch.randint(0, 9, (4,))
    with torch.no_grad():
        value = summed_cross_entropy(logits, rows, targets)
    assert not value.requires_grad
    assert torch.equal(value, summed_cross_entropy(logits, rows, targets))
