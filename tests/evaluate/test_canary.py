"""Canaries: the trainer's side is LoRA by hooks on the base; the engine's side is the engine with a spoiled adapter."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.evaluate.models import edit_adapter, edit_config, with_adapter_by_hooks, write_adapter
from workloads.api.records import Canary
from workloads.engines.base import Adapter
from workloads.engines.transformers.engine import TransformersEngine
from workloads.evaluate.canary import TOLERANCE, CanaryResult, check_canaries
from workloads.text.tokenizer import load_tokenizer

SEQUENCES = [list(b"A canary is a small bird."), list(b"1, 2, 3, 4")]


@torch.inference_mode()
def scores(model: Any, token_ids: list[int]) -> tuple[float, ...]:
    logits = model(input_ids=torch.tensor([token_ids])).logits[0, :-1]
    return tuple(torch.log_softmax(logits, -1).gather(-1, torch.tensor(token_ids[1:])[:, None])[:, 0].tolist())


def canaries_of(base: Path, trained: Any) -> list[Canary]:
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return [
        Canary(token_ids=tuple(ids), log_probs=scores(trained, ids), base_log_probs=scores(plain, ids))
        for ids in SEQUENCES
    ]


def check(base: Path, directory: Path | None, canaries: list[Canary]) -> CanaryResult:
    engine = TransformersEngine(base, load_tokenizer(base), "float32", {})
    adapter = Adapter(directory.name, directory, 4) if directory else None
    found = engine.log_probs([canary.token_ids for canary in canaries], adapter)
    return check_canaries(canaries, found, "float32")


@pytest.fixture
def directory(dense: Path, tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "adapter", dense, seed=5, size=0.05)


def test_the_adapter_that_was_trained_passes(dense: Path, directory: Path) -> None:
    result = check(dense, directory, canaries_of(dense, with_adapter_by_hooks(dense, directory)))
    assert result.passed
    assert result.differs_from_base
    assert result.error < result.tolerance / 10


def double_scale(directory: Path) -> None:
    edit_config(directory, lora_alpha=16.0)


def slightly_wrong_scale(directory: Path) -> None:
    edit_config(directory, lora_alpha=8.0 * 1.1)


def rank_for_scale(directory: Path) -> None:
    edit_config(directory, lora_alpha=8.0, r=4, use_rslora=True)


def swapped_rows_of_b(tensors: dict[str, Any]) -> None:
    for key in tensors:
        if "o_proj.lora_B" in key:
            tensors[key] = tensors[key].reshape(tensors[key].shape[::-1]).T


def missing_layer(tensors: dict[str, Any]) -> None:
    for key in tensors:
        if ".layers.2." in key:
            tensors[key] = torch.zeros_like(tensors[key])


def exchanged_layers(tensors: dict[str, Any]) -> None:
    for key in [key for key in tensors if ".layers.0." in key]:
        other = key.replace(".layers.0.", ".layers.1.")
        tensors[key], tensors[other] = tensors[other], tensors[key]


def base_instead(tensors: dict[str, Any]) -> None:
    for key in tensors:
        tensors[key] = torch.zeros_like(tensors[key])


def not_a_number(tensors: dict[str, Any]) -> None:
    for key in tensors:
        tensors[key] = torch.full_like(tensors[key], 1e30)


@pytest.mark.parametrize("spoil", [double_scale, slightly_wrong_scale, rank_for_scale])
def test_a_wrong_scale_is_caught(dense: Path, directory: Path, spoil: Callable[[Path], None]) -> None:
    canaries = canaries_of(dense, with_adapter_by_hooks(dense, directory))
    spoil(directory)
    assert not check(dense, directory, canaries).passed


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [swapped_rows_of_b, missing_layer, exchanged_layers, base_instead, not_a_number])
def test_wrong_factors_are_caught(dense: Path, directory: Path, spoil: Callable[[dict[str, Any]], None]) -> None:
    canaries = canaries_of(dense, with_adapter_by_hooks(dense, directory))
    edit_adapter(directory, spoil)
    assert not check(dense, directory, canaries).passed


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["experts.3", "layers.1.mlp.experts", "mlp.experts"])
def test_missing_experts_are_caught(moe: Path, tmp_path: Path, missing: str) -> None:
    directory = write_adapter(tmp_path / "adapter", moe, seed=6, size=0.1)
    engine = TransformersEngine(moe, load_tokenizer(moe), "float32", {})
    engine.load(Adapter("whole", directory, 4))
    canaries = canaries_of(moe, engine._model)
    assert check(moe, directory, canaries).passed

    def drop(tensors: dict[str, Any]) -> None:
        for key in [key for key in tensors if missing in key]:
            del tensors[key]

    edit_adapter(directory, drop)
    assert not check(moe, directory, canaries).passed


def half_of_the_experts(tensors: dict[str, Any]) -> None:
    for key in tensors:
        if ".experts.0." in key or ".experts.1." in key:
            tensors[key] = torch.zeros_like(tensors[key])


def without_feed_forward(tensors: dict[str, Any]) -> None:
    for key in tensors:
        if ".mlp." in key:
            tensors[key] = torch.zeros_like(tensors[key])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.long
def test_in_16_bits_no_right_adapter_is_refused_and_no_spoiled_one_passes(
    moe: Path, tmp_path: Path, dtype: str
) -> None:
    """Over many canaries of the trainer's size: in some of them a router selects another expert."""
    canaries = 40
    generator = torch.Generator().manual_seed(0)
    sequences = torch.randint(0, 256, (canaries * 4, 48), generator=generator).tolist()

    def make(name: str, spoil: Callable[[Path], None] = lambda directory: None) -> Adapter:
        directory = write_adapter(tmp_path / name, moe, seed=8, size=0.08)
        spoil(directory)
        return Adapter(name, directory, 4)

    exact, engine = (TransformersEngine(moe, load_tokenizer(moe), kind, {}) for kind in ("float32", dtype))
    right = make("right")
    trained, base = exact.log_probs(sequences, right), exact.log_probs(sequences, None)
    stated = [
        Canary(token_ids=tuple(ids), log_probs=one, base_log_probs=other)
        for ids, one, other in zip(sequences, trained, base, strict=True)
    ]
    spoiled = [
        make("scale", lambda directory: edit_config(directory, lora_alpha=11.0)),
        make("experts", lambda directory: edit_adapter(directory, half_of_the_experts)),
        make("feed-forward", lambda directory: edit_adapter(directory, without_feed_forward)),
        make("layer", lambda directory: edit_adapter(directory, missing_layer)),
    ]

    def results(adapter: Adapter) -> list[CanaryResult]:
        found = engine.log_probs(sequences, adapter)
        return [check_canaries(stated[at : at + 4], found[at : at + 4], dtype) for at in range(0, len(found), 4)]

    of_right = results(right)
    assert max(one.largest for one in of_right) > 3 * TOLERANCE[dtype], "no router took another expert"
    assert [one.passed for one in of_right] == [True] * canaries
    for adapter in spoiled:
        assert not any(one.passed for one in results(adapter)), adapter.name


def test_an_adapter_too_close_to_the_base_to_tell_is_held_to_the_tolerance_only() -> None:
    canary = Canary(token_ids=(1, 2, 3), log_probs=(-1.0, -2.0), base_log_probs=(-1.0001, -2.0001))
    near_base = check_canaries([canary], [(-1.0001, -2.0001)], "float32")
    assert near_base.passed
    assert not near_base.differs_from_base
    assert not check_canaries([canary], [(-1.1, -2.1)], "float32").passed
