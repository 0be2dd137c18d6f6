"""Training with this package's LoRA is training with plain peft: same loss and same adapter gradients, step by step.

peft has no per-expert LoRA on fused experts with the keys that vLLM loads, so its mixture has its experts as plain
linear layers, with the same weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from torch import Tensor, nn
from transformers import Qwen3ForCausalLM, Qwen3MoeForCausalLM

from tests.train.kernels.models import random_batch, randomise_adapter, small_dense, small_moe
from workloads.train.kernels.decoder import packed_loss_sum
from workloads.train.kernels.expert_block import routing_weights
from workloads.train.packed import PackedBatch
from workloads.train.patch import adapter_state, adapter_views, add_lora, lora_parameters

Model = Qwen3MoeForCausalLM | Qwen3ForCausalLM
RANK, ALPHA, STEPS = 4, 8.0, 20
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]


class UnfusedExpert(nn.Module):
    def __init__(self, gate_up: Tensor, down: Tensor) -> None:
        super().__init__()
        inner, hidden = gate_up.shape[0] // 2, gate_up.shape[1]
        self.gate_proj = nn.Linear(hidden, inner, bias=False, dtype=gate_up.dtype)
        self.up_proj = nn.Linear(hidden, inner, bias=False, dtype=gate_up.dtype)
        self.down_proj = nn.Linear(inner, hidden, bias=False, dtype=gate_up.dtype)
        self.gate_proj.weight.data, self.up_proj.weight.data = gate_up[:inner].clone(), gate_up[inner:].clone()
        self.down_proj.weight.data = down.clone()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class UnfusedExperts(nn.ModuleList):
    def forward(self, hidden: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        out = torch.zeros_like(hidden)
        for expert, module in enumerate(self):
            token, slot = torch.where(index == expert)
            out = out.index_add(0, token, module(hidden[token]) * weights[token, slot, None])
        return out


def with_plain_peft(model: Model, modules: list[str]) -> PeftModel:
    model = copy.deepcopy(model)
    for layer in model.model.layers:
        if hasattr(layer.mlp, "experts"):
            fused = layer.mlp.experts
            pairs = zip(fused.gate_up_proj.data, fused.down_proj.data, strict=True)
            layer.mlp.experts = UnfusedExperts(UnfusedExpert(gate_up, down) for gate_up, down in pairs)
    model.config.update(
        {"model_type": "unfused"}
    )  # else peft redirects gate_proj to the fused parameters, which were removed
    return get_peft_model(model, LoraConfig(r=RANK, lora_alpha=int(ALPHA), target_modules=modules, lora_dropout=0.0))


def peft_gradients(model: PeftModel) -> dict[str, Tensor | None]:
    return {
        name.replace(".default.", "."): parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def peft_loss_sum(model: PeftModel, batch: PackedBatch) -> Tensor:
    total = torch.zeros(())
    for start, end in pairwise(batch.cu_seqlens.tolist()):
        ids = batch.input_ids[start:end]
        targets = batch.target_positions
        mine = targets[(targets >= start) & (targets < end)] - start
        logits = model(input_ids=ids[None]).logits[0].float()
        total = total + nn.functional.cross_entropy(logits[mine - 1], ids[mine], reduction="sum")
    return total


def pin_routes(model: Any, pinned: list[Tensor]) -> None:
    """Makes the routers of the transformers model choose `pinned`, for the document that runs next."""

    def choose(router: Any, experts: Tensor) -> None:
        def forward(hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            logits = nn.functional.linear(hidden.reshape(-1, router.hidden_dim), router.weight)
            return logits, routing_weights(logits, experts, router.norm_topk_prob), experts.long()

        router.forward = forward

    for layer, experts in zip(model.model.layers, pinned, strict=True):
        choose(layer.mlp.gate, experts)


def relative(actual: Tensor, expected: Tensor) -> float:
    return float((actual.float() - expected.float()).norm() / expected.float().norm())


def train_side_by_side(
    base: Model,
    target: tuple[str, ...],
    modules: list[str],
    lengths: tuple[int, ...],
    pinned: list[Tensor] | None = None,
) -> Iterator[tuple[float, float, float, float]]:
    """Yields our loss, peft's loss, the largest relative difference of one gradient and that of all, for 20 AdamW
    steps.
    """
    reference = with_plain_peft(base, modules)
    ours = copy.deepcopy(base)
    add_lora(ours, RANK, ALPHA, target, seed=3)
    randomise_adapter(ours, seed=4)
    state = {key: value.clone() for key, value in adapter_state(ours).items()}
    assert set(state) == set(peft_gradients(reference))
    set_peft_model_state_dict(reference, state)
    if pinned is not None:
        pin_routes(reference.base_model.model, pinned)
    parameters = lora_parameters(ours)
    optimizers = [
        torch.optim.AdamW(list(parameters.values()), lr=2e-3),
        torch.optim.AdamW([p for p in reference.parameters() if p.requires_grad], lr=2e-3),
    ]
    for step in range(STEPS):
        batch = random_batch(lengths, seed=step)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = packed_loss_sum(ours, batch, pinned) / batch.supervised_tokens
        expected = peft_loss_sum(reference, batch) / batch.supervised_tokens
        loss.backward()
        expected.backward()
        ours_by_name = {name: p.grad for name, p in parameters.items() if p.grad is not None}
        gradients, theirs = adapter_views(ours_by_name), peft_gradients(reference)
        pairs = [(gradients[key], grad) for key, grad in theirs.items() if grad is not None and grad.any()]
        whole = relative(*(torch.cat([gradient.flatten() for gradient in side]) for side in zip(*pairs, strict=True)))
        yield loss.item(), expected.item(), max(relative(*pair) for pair in pairs), whole
        for optimizer in optimizers:
            optimizer.step()


CASES: dict[str, tuple[Callable[[], Model], tuple[str, ...], list[str]]] = {
    "mixture": (small_moe, ("attention", "experts"), ATTENTION + MLP),
    "mixture, attention only": (small_moe, ("attention",), ATTENTION),
    "dense": (small_dense, ("attention", "mlp"), ATTENTION + MLP),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_twenty_steps_equal_plain_peft_in_float32(case: str) -> None:
    make, target, modules = CASES[case]
    for loss, expected, largest, _ in train_side_by_side(make(), target, modules, lengths=(24, 9, 33)):
        assert loss == pytest.approx(expected, rel=1e-6)
        assert largest < 1e-5


@pytest.mark.slow
def test_twenty_steps_stay_close_to_plain_peft_in_bfloat16_with_pinned_routes() -> None:
    base = small_moe(dtype=torch.bfloat16)
    generator = torch.Generator().manual_seed(5)
    layers, experts, top_k = base.config.num_hidden_layers, base.config.num_experts, base.config.num_experts_per_tok
    length = 64
    pinned = list(torch.rand(layers, length, experts, generator=generator).topk(top_k, dim=-1).indices.to(torch.int32))
    steps = train_side_by_side(base, ("attention", "experts"), ATTENTION + MLP, (length,), pinned)
    for loss, expected, _, whole in steps:
        assert loss == pytest.approx(expected, rel=5e-3)
        assert whole < 0.08
