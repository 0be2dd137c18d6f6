from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.train.world import END_OF_TEXT, IM_END, inputs, sums, write_base, write_rows, write_tokenizer
from workloads.api.units import TrainInputs
from workloads.data.end_token import EndToken, end_token
from workloads.data.files import BadData
from workloads.data.order import consumption, hold_out, permutation
from workloads.data.rendered import render
from workloads.data.samples import TrainingData, prepare
from workloads.text.tokenizer import BadTokenizer, load_tokenizer

END = EndToken(END_OF_TEXT, "<|endoftext|>", "test")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", sums(40))


def prepared(base: Path, rows: Path, **changes: object) -> TrainingData:
    return prepare(rows, stated(base, rows, **changes), load_tokenizer(base), END)


def stated(base: Path, rows: Path, **changes: object) -> TrainInputs:
    return inputs(base, rows, **changes)


def test_each_sample_is_another_row_and_the_order_follows_from_the_seed_alone(base: Path, rows: Path) -> None:
    data = prepared(base, rows)
    assert len(data.order) == len(set(data.order)) == 24
    assert prepared(base, rows).order == data.order
    assert prepared(base, rows, seed=17).order != data.order
    assert prepared(base, rows, samples=12, checkpoints=()).order == data.order[:12]


def test_dropping_rows_leaves_the_order_of_the_others(base: Path, rows: Path) -> None:
    whole = prepared(base, rows, samples=40)
    filtered = prepared(base, rows, samples=10, overlong="drop", sequence_tokens=62)
    kept = [index for index in whole.order if whole.rows.lengths[index] <= 62]
    assert 10 < len(kept) < 40
    assert list(filtered.order) == kept[:10]


def test_too_few_rows_are_refused_with_the_numbers_or_repeated(base: Path, rows: Path) -> None:
    with pytest.raises(BadData) as caught:
        prepared(base, rows, samples=41)
    assert "samples is 41 but 40 rows are left of 40" in str(caught.value)
    repeated = prepared(base, rows, samples=100, on_short="repeat")
    assert sorted(repeated.order[:40]) == sorted(repeated.order[40:80]) == list(range(40))
    assert repeated.order[:40] != repeated.order[40:80]
    assert repeated.statistics.distinct_consumed == 40
    assert "DataRepeated: 100 samples from 40 rows: 2.5 passes" in repeated.warnings


def test_a_filter_that_leaves_nothing_is_refused(base: Path, rows: Path) -> None:
    with pytest.raises(BadData, match="nothing is left to train on: 40 longer than sequenceTokens 20"):
        prepared(base, rows, overlong="drop", sequence_tokens=20)


def test_a_filter_that_drops_most_rows_is_warned_of_with_lengths_before_and_after(base: Path, rows: Path) -> None:
    data = prepared(base, rows, overlong="drop", sequence_tokens=60, samples=8, checkpoints=())
    dropped = sum(length > 60 for length in data.rows.lengths)
    assert data.statistics.dropped == dropped >= 20
    assert data.statistics.kept == 40 - dropped
    assert data.statistics.kept_length_percentiles["max"] <= 60 < data.statistics.length_percentiles["max"]
    assert any(warning.startswith(f"MostlyDropped: {dropped} of 40 rows") for warning in data.warnings)


def test_held_out_rows_are_never_consumed(base: Path, rows: Path) -> None:
    data = prepared(base, rows, samples=72, on_short="repeat", validation_share=0.1, checkpoints=())
    assert len(data.validation) == 4
    assert set(data.order) | set(data.validation) == set(range(40))
    assert not set(data.order) & set(data.validation)


def test_the_loss_by_truncation_is_counted_over_the_consumed_samples(base: Path, rows: Path) -> None:
    data = prepared(base, rows, sequence_tokens=62)
    cut = [index for index in data.order if data.rows.lengths[index] > 62]
    assert data.statistics.supervises_end == pytest.approx(1 - len(cut) / 24)
    assert data.statistics.supervises_think_close <= 1
    assert any(warning.startswith(f"EndNotTaught: {len(cut)} of 24 samples") for warning in data.warnings)
    total = sum(min(62, data.rows.lengths[index]) for index in data.order)
    assert data.statistics.total_tokens == total


def test_rows_without_a_supervised_token_are_left_out_by_their_lines(base: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "d.jsonl", [*sums(3), {"prompt": "why", "response": ""}, *sums(1)])
    data = prepared(base, path, samples=4, checkpoints=())
    assert data.statistics.without_supervision == 1
    assert any("NothingSupervised: 1 row left out" in warning and "(line 4)" in warning for warning in data.warnings)
    assert 3 not in data.order


def test_rendered_samples_are_the_tokens_trained_on(base: Path, rows: Path) -> None:
    tokenizer = load_tokenizer(base)
    data = prepared(base, rows, sequence_tokens=60)
    first = render(data, tokenizer, 3)[0]
    assert first.context.startswith("<|im_start|>user\nWhat is")
    assert first.context.endswith("<|im_start|>assistant\n")
    assert first.tokens == 60 < first.full_tokens
    assert first.truncated
    assert tokenizer.encode(first.context + first.supervised) == data.rows.ids(data.order[0])


def test_the_end_token_is_the_one_that_the_base_declares_not_that_of_the_template(tmp_path: Path) -> None:
    directory = write_tokenizer(tmp_path)
    tokenizer = load_tokenizer(directory)
    found = end_token(directory, tokenizer)
    assert (found.token_id, found.text) == (END_OF_TEXT, "<|endoftext|>")
    (directory / "tokenizer_config.json").unlink()
    with pytest.raises(BadTokenizer, match="declares no end token"):
        end_token(directory, tokenizer)
    (directory / "generation_config.json").write_text(f'{{"eos_token_id": [{IM_END}, {END_OF_TEXT}]}}')
    assert end_token(directory, tokenizer).token_id == IM_END
    (directory / "generation_config.json").write_text('{"eos_token_id": 99999}')
    with pytest.raises(BadTokenizer, match="99999"):
        end_token(directory, tokenizer)


lines = st.lists(st.integers(1, 10_000), unique=True, min_size=1, max_size=60).map(sorted)


@given(seed=st.integers(), lines=lines)
def test_a_permutation_is_one_and_keeps_the_order_of_what_is_left(seed: int, lines: list[int]) -> None:
    whole = permutation(seed, "pass 0", lines)
    assert sorted(whole) == list(range(len(lines)))
    fewer = lines[::2]
    assert [fewer[index] for index in permutation(seed, "pass 0", fewer)] == [
        lines[index] for index in whole if lines[index] in fewer
    ]


@given(seed=st.integers(), lines=lines, share=st.floats(0.001, 0.9))
def test_holding_out_splits_the_rows_in_two(seed: int, lines: list[int], share: float) -> None:
    training, validation = hold_out(seed, lines, share)
    assert sorted(training + validation) == list(range(len(lines)))
    assert len(validation) == max(1, round(share * len(lines)))


@given(seed=st.integers(), lines=lines, samples=st.integers(1, 200))
def test_every_row_is_consumed_equally_often_but_for_the_last_pass(seed: int, lines: list[int], samples: int) -> None:
    order = consumption(seed, lines, samples)
    assert len(order) == samples
    counts = [order.count(index) for index in range(len(lines))]
    assert max(counts) - min(counts) <= 1
