"""A measured first step decides the size of micro-batches and gradient checkpointing, before the run begins."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.tiny import write_tiny_base
from tests.train.world import END_OF_TEXT, inputs, sums, write_rows
from workloads.api.units import GENERAL_NUMERICS
from workloads.data.end_token import EndToken
from workloads.data.samples import TrainingData, prepare
from workloads.models import FAMILIES
from workloads.text.tokenizer import load_tokenizer
from workloads.train.batches import supervised_tokens
from workloads.train.flat_parameters import FlatParameters
from workloads.train.general.batches import groups
from workloads.train.general.memory import BatchPlan, HostMemory, OutOfMemory, choices, plan_micro_batches, probes
from workloads.train.general.trainer import GeneralTrainer
from workloads.train.model import BadModel
from workloads.train.ranks import Ranks
from workloads.train.step import optimizer_step

ALONE = Ranks(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("llama"), FAMILIES["LlamaForCausalLM"])


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data") / "rows.jsonl", sums(40))


def open_trainer(
    base: Path, rows: Path, memory: HostMemory | None = None
) -> tuple[GeneralTrainer, FlatParameters, TrainingData]:
    stated = inputs(base, rows, trainer="general", numerics=GENERAL_NUMERICS)
    data = prepare(rows, stated, load_tokenizer(base), EndToken(END_OF_TEXT, "<|endoftext|>", "test"))
    trainer = GeneralTrainer(base, stated, ALONE, memory=memory)
    adapter = trainer.add_parameters()
    assert isinstance(adapter, FlatParameters)
    return trainer, adapter, data


def gradient_of(trainer: GeneralTrainer, adapter: FlatParameters, data: TrainingData, tokens: int) -> torch.Tensor:
    indices = data.order[:8]
    batches = trainer.micro_batches(data.rows, indices, tokens, 0, 1, 1)
    count = supervised_tokens(data.rows, indices)
    optimizer_step(trainer.loss_sum, adapter, adapter.adamw(0.0), batches, count, 0.0, 0.0, ALONE, False, lambda: None)
    return adapter.gradients.clone()


@pytest.mark.slow
def test_less_memory_gives_smaller_micro_batches_then_checkpointing_then_a_refusal(base: Path, rows: Path) -> None:
    memory = HostMemory(limit_bytes=1 << 40)
    trainer, adapter, data = open_trainer(base, rows, memory)
    seen: list[BatchPlan] = []

    def go_down() -> None:
        for _ in range(20):
            tokens = trainer.micro_batch_tokens(data, adapter)
            plan = trainer.plan
            assert plan is not None
            assert plan.tokens == tokens
            assert plan.peak_bytes is not None
            assert memory.limit_bytes is not None
            assert plan.peak_bytes <= memory.limit_bytes
            seen.append(plan)
            memory.limit_bytes = plan.peak_bytes - 1

    with pytest.raises(BadModel, match="does not fit this device"):
        go_down()
    assert seen[0].tokens == 4096
    assert len(seen) > 4
    plain = [plan.tokens for plan in seen if not plan.checkpointing]
    checkpointed = [plan.tokens for plan in seen if plan.checkpointing]
    assert plain == sorted(plain, reverse=True)
    assert checkpointed == sorted(checkpointed, reverse=True)
    longest = int(max(data.rows.kept[index] for index in data.order))
    assert checkpointed[-1] == longest


@pytest.mark.slow
@pytest.mark.parametrize("share", [1.0, 0.4, pytest.param(0.05, marks=pytest.mark.slow)])
def test_no_micro_batch_of_the_run_takes_more_than_the_limit(base: Path, rows: Path, share: float) -> None:
    memory = HostMemory(limit_bytes=1 << 40)
    trainer, adapter, data = open_trainer(base, rows, memory)
    trainer.micro_batch_tokens(data, adapter)
    assert trainer.plan is not None
    assert trainer.plan.peak_bytes is not None
    memory.limit_bytes = int(share * trainer.plan.peak_bytes)
    tokens = trainer.micro_batch_tokens(data, adapter)
    for batch in trainer.micro_batches(data.rows, data.order, tokens, 0, 1, 1):
        taken = memory.peak_bytes(lambda batch=batch: trainer.loss_sum(batch).backward())  # type: ignore[misc]
        assert taken <= memory.limit_bytes


@pytest.mark.slow
def test_neither_checkpointing_nor_the_size_of_micro_batches_changes_the_gradient(base: Path, rows: Path) -> None:
    memory = HostMemory()
    trainer, adapter, data = open_trainer(base, rows, memory)
    assert trainer.plan_memory(100, adapter) == BatchPlan(4096, checkpointing=False)
    adapter.values += 0.05 * torch.randn(adapter.values.shape, generator=torch.Generator().manual_seed(0))
    whole = gradient_of(trainer, adapter, data, 4096)
    torch.testing.assert_close(gradient_of(trainer, adapter, data, 1), whole, rtol=1e-4, atol=1e-6)
    memory.limit_bytes = 1 << 40
    everything = trainer.plan_memory(100, adapter).peak_bytes
    assert everything is not None
    memory.limit_bytes = everything // 100
    assert trainer.plan_memory(100, adapter).checkpointing
    torch.testing.assert_close(gradient_of(trainer, adapter, data, 200), whole, rtol=1e-4, atol=1e-6)


def test_measuring_leaves_the_adapter_as_it_was(base: Path, rows: Path) -> None:
    trainer, adapter, data = open_trainer(base, rows, HostMemory(limit_bytes=1 << 40))
    before = {name: vector.clone() for name, vector in adapter.state().items()}
    trainer.micro_batch_tokens(data, adapter)
    for name, vector in adapter.state().items():
        assert torch.equal(vector, before[name])
    assert not adapter.reduced.any()


class NoRoom:
    """A device on which a batch of more than `tokens` tokens ends in an out-of-memory error."""

    limit_bytes: int | None = 1 << 40

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def peak_bytes(self, step: object) -> int:
        raise OutOfMemory


def test_an_out_of_memory_error_is_an_answer_and_all_ranks_take_the_smallest() -> None:
    with pytest.raises(BadModel, match="100 tokens does not fit"):
        plan_micro_batches(NoRoom(0), 100, lambda batch, checkpointing: None, 400)
    memory = HostMemory(limit_bytes=1 << 40)
    other = plan_micro_batches(memory, 100, lambda batch, checkpointing: None, 400, agree=lambda mine: max(mine, 4))
    assert other == choices(100, 400)[4]


@given(st.integers(2, 5000), st.integers(1, 20000))
def test_sizes_halve_down_to_one_longest_document_and_start_again_with_checkpointing(longest: int, first: int) -> None:
    tried = choices(longest, first)
    half = len(tried) // 2
    assert [plan.checkpointing for plan in tried] == [False] * half + [True] * half
    assert [plan.tokens for plan in tried[:half]] == [plan.tokens for plan in tried[half:]]
    assert tried[-1].tokens == longest
    assert all(plan.tokens >= longest for plan in tried)


@settings(max_examples=50)
@given(st.lists(st.integers(2, 300), min_size=1, max_size=30), st.integers(1, 2000))
def test_the_measured_batches_are_as_large_as_any_of_the_run(lengths: list[int], limit: int) -> None:
    """Large in tokens and in the squares of their widths: masks and scores grow with these squares."""
    longest = max(lengths)
    limit = max(limit, longest)
    measured = probes(limit, longest)
    for group in groups(lengths, limit):
        documents, width = len(group), max(lengths[index] for index in group)
        assert documents * width <= limit
        assert documents * width**2 <= max(d * w**2 for d, w in measured) + limit * longest
        assert documents * width <= max(d * w for d, w in measured) + longest
