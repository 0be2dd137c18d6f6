"""The packed forward and its hand-written backward agree with the model's own forward, one document after another."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from transformers import Qwen3ForCausalLM, Qwen3MoeForCausalLM

from tests.train.kernels.models import random_batch, randomise_adapter, small_dense, small_moe
from workloads.train.kernels.decoder import packed_loss_sum
from workloads.train.patch import add_lora, lora_parameters, per_document_loss_sum

Model = Qwen3MoeForCausalLM | Qwen3ForCausalLM
MOE, DENSE = partial(small_moe, 0), partial(small_dense, 0)
CASES: dict[str, tuple[Callable[[torch.dtype], Model], tuple[str, ...]]] = {
    "mixture, attention and experts": (MOE, ("attention", "experts")),
    "mixture, attention only": (MOE, ("attention",)),
    "mixture, experts only": (MOE, ("experts",)),
    "mixture, weights not normalised": (partial(MOE, norm_topk_prob=False), ("attention", "experts")),
    "dense, attention and mlp": (DENSE, ("attention", "mlp")),
    "dense, attention only": (DENSE, ("attention",)),
    "dense, mlp only": (DENSE, ("mlp",)),
}


def gradients(loss: torch.Tensor, model: Model) -> dict[str, torch.Tensor]:
    parameters = lora_parameters(model)
    return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("rank", [4, 8])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("lengths", [(9,), (7, 1 + 1, 12, 5), (6, 6, 6)])
def test_packed_equals_unpacked_in_loss_and_gradients(case: str, lengths: tuple[int, ...], rank: int) -> None:
    make, target = CASES[case]
    model = make(torch.float64)
    add_lora(model, rank=rank, alpha=6.0, target=target, dtype=torch.float64, seed=1)
    randomise_adapter(model)
    batch = random_batch(lengths)
    reference = per_document_loss_sum(model, batch)
    expected = gradients(reference, model)
    loss = packed_loss_sum(model, batch)
    # transformers computes its norms and router in float32 even for a float64 model
    torch.testing.assert_close(loss, reference, rtol=1e-6, atol=1e-6)
    actual = gradients(loss, model)
    for name, gradient in expected.items():
        torch.testing.assert_close(actual[name], gradient, rtol=1e-4, atol=1e-5, msg=partial("{}: {}".format, name))
        assert gradient.abs().max() > 1e-3
