from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.train.world import END_OF_TEXT, inputs
from workloads.data.end_token import EndToken
from workloads.data.samples import TrainingData, prepare
from workloads.text.tokenizer import load_tokenizer
from workloads.train.batches import bins, micro_batches, pack_rows, shares, supervised_tokens
from workloads.train.packed import pack

lengths = st.lists(st.integers(1, 50), max_size=40)


@pytest.fixture(scope="module")
def data(dense: Path, rows: Path) -> TrainingData:
    return prepare(rows, inputs(dense, rows), load_tokenizer(dense), EndToken(END_OF_TEXT, "<|endoftext|>", "test"))


@given(lengths=lengths, ranks=st.integers(1, 8))
def test_shares_hold_every_sample_once_and_differ_by_less_than_one_sample(lengths: list[int], ranks: int) -> None:
    parts = shares(lengths, ranks)
    assert sorted(position for part in parts for position in part) == list(range(len(lengths)))
    loads = [sum(lengths[position] for position in part) for part in parts]
    assert max(loads) - min(loads) <= max(lengths, default=0)


@given(lengths=lengths, limit=st.integers(1, 120))
def test_bins_hold_every_sample_once_within_the_limit(lengths: list[int], limit: int) -> None:
    found = bins(lengths, limit)
    assert sorted(position for part in found for position in part) == list(range(len(lengths)))
    loads = [sum(lengths[position] for position in part) for part in found]
    assert all(load <= limit or len(part) == 1 for load, part in zip(loads, found, strict=True))
    # First fit: no two bins can be merged.
    assert all(loads[a] + loads[b] > limit for a in range(len(loads)) for b in range(a))


def test_packed_rows_are_what_pack_makes_of_the_same_documents(data: TrainingData) -> None:
    indices = data.order[:5]
    ours = pack_rows(data.rows, indices)
    reference = pack([(data.rows.ids(index), data.rows.supervised(index)) for index in indices])
    for name in ("input_ids", "position_ids", "cu_seqlens", "target_positions"):
        mine, theirs = getattr(ours, name), getattr(reference, name)
        assert mine.dtype == theirs.dtype
        assert torch.equal(mine, theirs)
    assert ours.document_lengths == reference.document_lengths


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_the_ranks_micro_batches_supervise_exactly_the_steps_tokens(data: TrainingData, ranks: int) -> None:
    indices = data.order[:5]
    batches = [batch for rank in range(ranks) for batch in micro_batches(data.rows, indices, 150, rank, ranks)]
    assert sum(batch.supervised_tokens for batch in batches) == supervised_tokens(data.rows, indices)
    assert all(batch.tokens <= 150 for batch in batches)
