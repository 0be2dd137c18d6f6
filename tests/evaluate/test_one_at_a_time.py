"""Merging engines: adapters are merged into a real transformers engine from outside."""

from pathlib import Path

import pytest
import torch

from tests.evaluate.models import edit_adapter, write_adapter
from tests.evaluate.test_transformers_engine import GREEDY, PROMPTS, adapter_at, ask, engine_for
from workloads.engines.base import Adapter, BadAdapter, Engine, Finished, Request
from workloads.engines.merged_engine import MergedEngine
from workloads.engines.transformers.engine import TransformersEngine
from workloads.text.tokenizer import load_tokenizer


class MergedFromOutside(TransformersEngine):
    """An engine that treats the merged weights as its base."""

    def __init__(self, base: Path) -> None:
        super().__init__(base, load_tokenizer(base), "float32", {})
        self.merged: list[str | None] = []

    def merge(self, adapter: Adapter | None) -> None:
        assert not self.pending
        self.merged.append(adapter.name if adapter else None)
        self._merged._restore()
        self._merged.merge(adapter)
        self._merged.merged = None


@pytest.fixture
def two(dense: Path, adapters: list[Path]) -> list[Adapter]:
    return [adapter_at(dense, path) for path in adapters[:2]]


def submit(engine: MergedEngine | TransformersEngine, adapter: Adapter | None, prompt: str) -> None:
    name = adapter.name if adapter else "base"
    engine.submit(Request(f"{name}/{prompt}", name, tuple(prompt.encode()), adapter, GREEDY, 1))


def test_mixed_requests_are_answered_as_by_an_engine_that_knows_adapters(dense: Path, two: list[Adapter]) -> None:
    inner = MergedFromOutside(dense)
    engine, plain = MergedEngine(inner), engine_for(dense)
    for prompt in PROMPTS:
        for adapter in (None, *two):
            submit(engine, adapter, prompt)
            submit(plain, adapter, prompt)
    found: dict[str, tuple[int, ...]] = {}
    expected: dict[str, tuple[int, ...]] = {}
    both: tuple[tuple[Engine, dict[str, tuple[int, ...]]], ...] = ((engine, found), (plain, expected))
    for one, into in both:
        while one.pending:
            into |= {finished.id: finished.token_ids for finished in one.step()}
    assert found == expected
    assert len(set(found.values())) > len(PROMPTS)
    assert inner.merged == [adapter.name for adapter in two], "each is merged once, the base needs nothing"


def test_requests_for_the_merged_adapter_go_first(dense: Path, two: list[Adapter]) -> None:
    inner = MergedFromOutside(dense)
    engine = MergedEngine(inner)
    submit(engine, two[0], PROMPTS[0])
    engine.step()
    submit(engine, two[1], PROMPTS[0])
    submit(engine, two[0], PROMPTS[1])
    while engine.pending:
        engine.step()
    assert inner.merged == [adapter.name for adapter in two]


def test_log_probs_merge_the_adapter_but_not_under_running_requests(dense: Path, two: list[Adapter]) -> None:
    engine, plain = MergedEngine(MergedFromOutside(dense)), engine_for(dense)
    sequences = [list(prompt.encode()) for prompt in PROMPTS if len(prompt) > 1]
    for adapter in (None, *two, None):
        for ours, theirs in zip(engine.log_probs(sequences, adapter), plain.log_probs(sequences, adapter), strict=True):
            assert ours == pytest.approx(theirs, abs=1e-6)
    submit(engine, two[0], PROMPTS[0])
    engine.step()
    assert engine.pending
    with pytest.raises(RuntimeError, match="under way"):
        engine.log_probs(sequences, two[1])


def test_an_adapter_that_cannot_be_merged_fails_its_own_requests(
    dense: Path, two: list[Adapter], tmp_path: Path
) -> None:
    directory = write_adapter(tmp_path / "poison", dense, seed=9)
    edit_adapter(directory, lambda tensors: next(iter(tensors.values())).fill_(torch.nan))
    poison = Adapter("poison", directory, 4)
    engine = MergedEngine(MergedFromOutside(dense))
    with pytest.raises(BadAdapter):
        engine.load(poison)
    for adapter in (two[0], poison, two[1]):
        submit(engine, adapter, PROMPTS[0])
    found: dict[str, Finished] = {}
    while engine.pending:
        found |= {finished.id: finished for finished in engine.step()}
    assert found.pop(f"poison/{PROMPTS[0]}").finish_reason == "error"
    assert len(found) == 2
    assert {finished.finish_reason for finished in found.values()} <= {"stop", "length"}
    assert ask(engine, PROMPTS[:1], GREEDY)
