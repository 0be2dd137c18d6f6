from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.train.world import END_OF_TEXT, IM_END, THINK_CLOSE, write_tokenizer
from workloads.api.units import Template
from workloads.data.files import BadData
from workloads.data.rows import DataRow
from workloads.data.tokens import TokenisedRows, tokenise
from workloads.text.samples import encode_prompt
from workloads.text.tokenizer import TextTokenizer, load_tokenizer

CHATML, PLAIN = Template(name="chatml"), Template(name="plain")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    return load_tokenizer(write_tokenizer(tmp_path_factory.mktemp("tokenizer")))


def one(
    tokenizer: TextTokenizer,
    response: str,
    limit: int = 100,
    overlong: Literal["truncate", "drop"] = "truncate",
    prompt: str = "ab",
    template: Template = PLAIN,
) -> TokenisedRows:
    return tokenise([DataRow(1, prompt, response)], tokenizer, template, END_OF_TEXT, limit, overlong)


def test_the_response_follows_the_templated_prompt_verbatim_and_then_the_end_token(tokenizer: TextTokenizer) -> None:
    rows = one(tokenizer, "<think>a</think>b", template=CHATML)
    ids = rows.ids(0)
    text = "<|im_start|>user\nab<|im_end|>\n<|im_start|>assistant\n<think>a</think>b<|endoftext|>"
    assert tokenizer.decode(ids) == text
    prompt = int(rows.prompt_lengths[0])
    assert tuple(ids[:prompt]) == encode_prompt(tokenizer, CHATML, "ab")
    assert tokenizer.decode(ids[prompt:]) == "<think>a</think>b<|endoftext|>"
    assert ids.count(THINK_CLOSE) == 1


def test_the_loss_is_on_the_response_only(tokenizer: TextTokenizer) -> None:
    assert one(tokenizer, "xyz").supervised(0) == [False, False, True, True, True, True]


def test_a_response_that_ends_with_the_end_token_gets_no_second_one(tokenizer: TextTokenizer) -> None:
    assert one(tokenizer, "x<|endoftext|>").ids(0) == one(tokenizer, "x").ids(0)


def test_another_end_token_in_the_text_does_not_stand_for_the_bases_own(tokenizer: TextTokenizer) -> None:
    assert one(tokenizer, "x<|im_end|>").ids(0)[-2:] == [IM_END, END_OF_TEXT]


def test_truncation_loses_the_end_and_perhaps_the_closing_tag(tokenizer: TextTokenizer) -> None:
    def facts(limit: int) -> tuple[int, bool, bool, bool]:
        rows = one(tokenizer, "<think>x</think>y", limit)
        return int(rows.kept[0]), bool(rows.truncated[0]), bool(rows.closes_think[0]), bool(rows.ends[0])

    assert facts(7) == (7, False, True, True)
    assert facts(6) == (6, True, True, False)
    assert facts(5) == (5, True, True, False)
    assert facts(4) == (4, True, False, False)


def test_a_closing_tag_of_several_tokens_counts_when_its_last_one_is_kept(tmp_path: Path) -> None:
    bare = load_tokenizer(write_tokenizer(tmp_path))
    from tokenizers import Tokenizer

    plain = Tokenizer.from_str(bare.inner.to_str().replace("think>", "thunk>"))
    tokenizer = TextTokenizer(plain, bare.path, bare.sha256, bare.declared_end_token_ids)
    tag = len("</think>")
    assert one(tokenizer, "</think>x", 2 + tag).closes_think[0]
    assert not one(tokenizer, "</think>x", 2 + tag - 1).closes_think[0]


def test_overlong_rows_are_cut_or_dropped_at_the_limit_and_not_before(tokenizer: TextTokenizer) -> None:
    assert one(tokenizer, "xyz", 6, "drop").kept[0] == 6
    assert one(tokenizer, "xyz", 5, "drop").overlong[0]
    assert one(tokenizer, "xyz", 5, "truncate").kept[0] == 5


@pytest.mark.parametrize(("response", "limit"), [("", 100), ("<|endoftext|>", 100), ("xyz", 2), ("xyz", 1)])
def test_a_row_without_a_supervised_token_is_left_out(tokenizer: TextTokenizer, response: str, limit: int) -> None:
    rows = one(tokenizer, response, limit)
    assert rows.unsupervised[0]
    assert rows.kept[0] == 0
    assert rows.ids(0) == []


def test_a_prompt_without_a_token_is_refused_by_its_line(tokenizer: TextTokenizer) -> None:
    with pytest.raises(BadData, match="line 1: the prompt has no token"):
        one(tokenizer, "x", prompt="")


def test_an_end_token_within_a_response_is_noticed(tokenizer: TextTokenizer) -> None:
    assert one(tokenizer, "x<|endoftext|>y").ends_within[0]
    assert not one(tokenizer, "x<|endoftext|>").ends_within[0]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(
    rows=st.lists(st.tuples(texts.filter(bool), texts), min_size=1, max_size=8),
    limit=st.integers(1, 60),
    overlong=st.sampled_from(["truncate", "drop"]),
)
def test_every_row_is_kept_whole_cut_or_left_out_for_one_stated_reason(
    tokenizer: TextTokenizer,
    rows: list[tuple[str, str]],
    limit: int,
    overlong: Literal["truncate", "drop"],
) -> None:
    listed = [DataRow(line, prompt, response) for line, (prompt, response) in enumerate(rows, start=1)]
    found = tokenise(listed, tokenizer, PLAIN, END_OF_TEXT, limit, overlong)
    for index, row in enumerate(listed):
        whole = [*tokenizer.encode(row.prompt), *tokenizer.encode(row.response), END_OF_TEXT]
        ids = found.ids(index)
        assert len(ids) == found.kept[index] <= limit
        assert ids == whole[: len(ids)]
        assert (len(ids) == 0) == (found.overlong[index] or found.unsupervised[index])
        assert not (found.overlong[index] and found.unsupervised[index])
        assert found.truncated[index] == (0 < len(ids) < len(whole))
        assert found.ends[index] == (ids == whole)
        if ids:
            assert sum(found.supervised(index)) == len(ids) - len(tokenizer.encode(row.prompt)) > 0
