"""The memory prediction: it equals the tensors that autograd saves, is near the measured peak, and a refusal states
numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from tests.train.kernels.models import random_batch, small_dense, small_moe
from workloads.train.kernels.decoder import packed_hidden_states
from workloads.train.memory import check_sequence_fits, largest_micro_batch, micro_batch_tokens, predict, sizes_of
from workloads.train.patch import add_lora, lora_parameters

SHAPES: dict[str, Any] = dict(  # noqa: C408
    vocab_size=151_936, hidden_size=2048, moe_intermediate_size=768, num_hidden_layers=48, num_attention_heads=32,
    num_key_value_heads=4, head_dim=128, num_experts=128, num_experts_per_tok=8, tie_word_embeddings=False,
)  # fmt: skip
QWEN3_30B_A3B = Qwen3MoeConfig(**SHAPES)
Model = Qwen3MoeForCausalLM | Qwen3ForCausalLM
GIB = 2**30
H200_BYTES = 150_109_880_320
BESIDE_PYTORCH_GIB_OF_TWO_RANKS = 1.58


@pytest.mark.parametrize(
    ("make", "target"),
    [(small_moe, ("attention", "experts")), (small_moe, ("attention",)), (small_dense, ("attention", "mlp"))],
)
def test_kept_per_token_is_what_autograd_saves(make: Callable[[], Model], target: tuple[str, ...]) -> None:
    model = make()
    add_lora(model, rank=4, alpha=4.0, target=target)
    batch = random_batch((40, 24))
    saved: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    packed_hidden_states(model, batch)  # moves the expert weights into their buffers
    model_storages = {tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = packed_hidden_states(model, batch)
    kept = sum(size for pointer, size in saved.items() if pointer not in model_storages)
    del hidden
    predicted = predict(sizes_of(model.config), 4, target, element_bytes=4)
    log_sums = 4 * model.config.num_attention_heads * model.config.num_hidden_layers  # the CPU's attention saves none
    assert kept / batch.tokens == pytest.approx(predicted.kept_per_token - log_sums, rel=0.02)


@pytest.mark.parametrize(("make", "target"), [(small_moe, ("attention", "experts")), (small_dense, ("mlp",))])
def test_model_and_adapter_bytes_are_those_of_the_model(make: Callable[[], Model], target: tuple[str, ...]) -> None:
    model = make()
    add_lora(model, rank=4, alpha=4.0, target=target)
    packed_hidden_states(model, random_batch((5,)))
    predicted = predict(sizes_of(model.config), 4, target, element_bytes=4)
    lora = lora_parameters(model)
    assert predicted.adapter == 16 * sum(parameter.numel() for parameter in lora.values())
    frozen = [p.untyped_storage() for name, p in model.named_parameters() if name not in lora]
    storages = {storage.data_ptr(): storage.nbytes() for storage in frozen}
    assert predicted.model == pytest.approx(sum(storages.values()), rel=0.02)


def test_the_peak_measured_on_an_h200_is_predicted_within_three_percent() -> None:
    memory = predict(sizes_of(QWEN3_30B_A3B), 32, ("attention", "experts"))
    assert memory.total(16_384) / GIB == pytest.approx(127.6, rel=0.03)
    assert 16_384 <= largest_micro_batch(memory, H200_BYTES) < 20_000


def test_a_sequence_that_cannot_fit_is_refused_with_the_numbers() -> None:
    memory = predict(sizes_of(QWEN3_30B_A3B), 32, ("attention", "experts"))
    assert check_sequence_fits(memory, H200_BYTES, 16_384) >= 16_384
    with pytest.raises(ValueError, match=r"sequence of 32768 tokens does not fit.*up to \d+ would fit"):
        check_sequence_fits(memory, H200_BYTES, 32_768)
    with pytest.raises(ValueError, match="up to 0 would fit"):
        check_sequence_fits(memory, 80 * GIB, 1024)


def test_a_longer_micro_batch_never_needs_less() -> None:
    memory = predict(sizes_of(QWEN3_30B_A3B), 32, ("attention",))
    totals = [memory.total(tokens) for tokens in range(0, 40_000, 1000)]
    assert totals == sorted(totals)
    largest = largest_micro_batch(memory, H200_BYTES)
    usable = 0.97 * H200_BYTES - GIB
    assert memory.total(largest) <= usable < memory.total(largest + 256)


@pytest.mark.parametrize("target", [("attention", "experts"), ("attention",)])
@pytest.mark.parametrize("ranks", [1, 2, 8])
def test_micro_batches_are_as_long_as_those_measured_and_longer_only_for_one_sequence(
    target: tuple[str, ...], ranks: int
) -> None:
    memory = predict(sizes_of(QWEN3_30B_A3B), 32, target)
    assert micro_batch_tokens(memory, H200_BYTES, 4096, ranks) == 16_384
    assert micro_batch_tokens(memory, H200_BYTES, 17_000, ranks) == 17_000


def test_micro_batches_are_shorter_where_those_do_not_fit() -> None:
    memory = predict(sizes_of(QWEN3_30B_A3B), 32, ("attention",))
    tokens = micro_batch_tokens(memory, 80 * GIB, 1024)
    assert 1024 < tokens < 16_384
    assert tokens == largest_micro_batch(memory, 80 * GIB)


@pytest.mark.parametrize("device_bytes", [24 * GIB, 80 * GIB, H200_BYTES])
def test_the_memory_beside_pytorch_measured_with_two_ranks_is_left_free_on_a_device_of_any_size(
    device_bytes: int,
) -> None:
    config = Qwen3MoeConfig(**(QWEN3_30B_A3B.to_dict() | {"num_hidden_layers": 4}))
    memory = predict(sizes_of(config), 32, ("attention",))
    left = device_bytes - memory.total(largest_micro_batch(memory, device_bytes, ranks=2))
    assert left >= (BESIDE_PYTORCH_GIB_OF_TWO_RANKS + 1) * GIB
    alone = largest_micro_batch(memory, device_bytes)
    with pytest.raises(ValueError, match=rf"sequence of {alone} tokens does not fit.*up to \d+ would fit"):
        check_sequence_fits(memory, device_bytes, alone, ranks=2)
