"""LoRA layers and the adapter's file form: vLLM's keys and shapes, the transformers forward, refusals, the fallback
with a warning.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
import transformers
from transformers import Qwen3ForCausalLM, Qwen3MoeForCausalLM

import workloads.train.patch as patch
from tests.train.kernels.models import random_batch, randomise_adapter, small_dense, small_moe
from workloads.train.packed import pack
from workloads.train.patch import (
    adapter_state,
    adapter_views,
    add_lora,
    load_adapter_state,
    lora_parameters,
    loss_sum_and_count,
    per_document_loss_sum,
)

Model = Qwen3MoeForCausalLM | Qwen3ForCausalLM
EXPERT_KEY = re.compile(
    r"base_model\.model\.model\.layers\.(\d+)\.mlp\.experts\.(\d+)\.(gate|up|down)_proj\.lora_([AB])\.weight"
)


def test_every_expert_has_its_own_two_dimensional_pair_for_each_projection() -> None:
    model = small_moe()
    add_lora(model, rank=4, alpha=4.0, target=("attention", "experts"))
    state = adapter_state(model)
    experts = {key: tensor for key, tensor in state.items() if ".experts." in key}
    assert len(experts) == 2 * 8 * 3 * 2
    for key, tensor in experts.items():
        match = EXPERT_KEY.fullmatch(key)
        assert match
        hidden, inner = (24, 32) if match[3] == "down" else (32, 24)
        assert tuple(tensor.shape) == ((4, hidden) if match[4] == "A" else (inner, 4))
    assert len(state) - len(experts) == 2 * 4 * 2


def test_a_fresh_adapter_changes_nothing_and_a_trained_one_equals_the_merged_weights() -> None:
    plain, model = small_moe(), small_moe()
    add_lora(model, rank=4, alpha=6.0, target=("attention", "experts"))
    batch = random_batch((11, 6))
    torch.testing.assert_close(per_document_loss_sum(model, batch), per_document_loss_sum(plain, batch))
    randomise_adapter(model)
    state = adapter_state(model)
    for index, layer in enumerate(plain.model.layers):
        prefix = f"base_model.model.model.layers.{index}"

        def delta(name: str, prefix: str = prefix) -> torch.Tensor:
            found: torch.Tensor = (
                1.5 * state[f"{prefix}.{name}.lora_B.weight"] @ state[f"{prefix}.{name}.lora_A.weight"]
            )
            return found

        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            getattr(layer.self_attn, name).weight.data += delta(f"self_attn.{name}")
        for expert in range(8):
            gate, up = delta(f"mlp.experts.{expert}.gate_proj"), delta(f"mlp.experts.{expert}.up_proj")
            layer.mlp.experts.gate_up_proj.data[expert] += torch.cat([gate, up])
            layer.mlp.experts.down_proj.data[expert] += delta(f"mlp.experts.{expert}.down_proj")
    merged = per_document_loss_sum(plain, batch)
    torch.testing.assert_close(per_document_loss_sum(model, batch), merged, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(loss_sum_and_count(model, batch)[0], merged, rtol=1e-5, atol=1e-4)


def test_an_adapter_survives_its_file_form() -> None:
    first, second = small_moe(), small_moe()
    for model, seed in ((first, 1), (second, 2)):
        add_lora(model, rank=4, alpha=4.0, target=("attention", "experts"), seed=seed)
    randomise_adapter(first)
    load_adapter_state(second, {key: tensor.clone() for key, tensor in adapter_state(first).items()})
    for name, parameter in lora_parameters(first).items():
        assert torch.equal(parameter, lora_parameters(second)[name])
    copies = {name: parameter.detach().clone() for name, parameter in lora_parameters(first).items()}
    views, state = adapter_views(copies), adapter_state(first)
    assert views.keys() == state.keys()
    assert all(torch.equal(views[key], state[key]) for key in state)


def test_an_adapter_of_another_shape_is_refused() -> None:
    model = small_moe()
    add_lora(model, rank=4, alpha=4.0, target=("attention",))
    state = {key: tensor.clone() for key, tensor in adapter_state(model).items()}
    missing = dict(list(state.items())[1:])
    with pytest.raises(ValueError, match="1 keys missing"):
        load_adapter_state(model, missing)
    key = next(iter(state))
    with pytest.raises(ValueError, match="has shape"):
        load_adapter_state(model, {**state, key: state[key][:, :-1]})


def test_the_seed_decides_the_adapter_and_nothing_else_is_trainable() -> None:
    models = [small_dense() for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        add_lora(model, rank=4, alpha=4.0, target=("attention", "mlp"), seed=seed)
    first, same, other = ([p.detach() for p in lora_parameters(model).values()] for model in models)
    assert all(torch.equal(a, b) for a, b in zip(first, same, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    trainable = {name for name, parameter in models[0].named_parameters() if parameter.requires_grad}
    assert trainable == set(lora_parameters(models[0]))


@pytest.mark.parametrize(
    ("make", "target"),
    [(small_dense, "experts"), (small_moe, "mlp"), (small_dense, "atention")],  # codespell:ignore
)
def test_a_target_that_the_model_does_not_have_is_refused(make: Callable[[], Model], target: str) -> None:
    with pytest.raises(ValueError, match=f"lora target '{target}'"):
        add_lora(make(), rank=4, alpha=4.0, target=(target,))


def test_an_unknown_transformers_release_runs_by_document_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_moe()
    add_lora(model, rank=4, alpha=4.0, target=("attention", "experts"))
    randomise_adapter(model)
    batch = random_batch((7, 4))
    packed, _ = loss_sum_and_count(model, batch)
    monkeypatch.setattr(transformers, "__version__", "6.0.1")
    with pytest.warns(RuntimeWarning, match=r"document by document, much slower: transformers 6\.0\.1"):
        slow, count = loss_sum_and_count(model, batch)
    assert count == batch.supervised_tokens
    torch.testing.assert_close(slow, packed, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("attention_bias", True, "biases"),
        ("hidden_act", "gelu", "gelu"),
        ("sliding_window", 128, "sliding window"),
        ("head_dim", 24, "no power of two"),
    ],
)
def test_a_variant_that_the_operators_do_not_compute_runs_by_document(name: str, value: object, reason: str) -> None:
    model = small_moe()
    assert patch.why_not_packed(model) is None
    setattr(model.config, name, value)
    assert reason in str(patch.why_not_packed(model))


def test_a_model_that_moved_to_another_dtype_gets_new_buffers() -> None:
    model = small_moe()
    add_lora(model, rank=4, alpha=4.0, target=("experts",))
    randomise_adapter(model)
    batch = random_batch((7, 4))
    loss, _ = loss_sum_and_count(model, batch)
    wide, _ = loss_sum_and_count(model.double(), batch)
    torch.testing.assert_close(wide.float(), loss, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([], "at least one document"),
        ([([], [])], "document 0 of the batch has no token"),
        ([([1, 2], [False])], "2 tokens but 1 supervised flags"),
        ([([1, 2], [False, True]), ([3], [True])], "document 1 supervises its first token"),
    ],
)
def test_a_batch_that_cannot_be_trained_on_is_refused(
    documents: list[tuple[list[int], list[bool]]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pack(documents)


def test_a_batch_without_supervised_tokens_has_no_loss() -> None:
    model = small_dense()
    add_lora(model, rank=4, alpha=4.0, target=("attention",))
    with pytest.raises(ValueError, match="no supervised token"):
        loss_sum_and_count(model, pack([([1, 2, 3], [False] * 3)]))
