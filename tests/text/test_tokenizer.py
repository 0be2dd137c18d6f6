import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from workloads.api.units import Template
from workloads.text.samples import encode_prompt, encode_sample
from workloads.text.tokenizer import BadTokenizer, TextTokenizer, load_tokenizer


def byte_tokenizer() -> Tokenizer:
    """Bytes, one merge across a possible border, and Qwen's special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: number for number, symbol in enumerate(alphabet)}
    vocabulary["ĊĊ"] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("Ċ", "Ċ")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    return tokenizer


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("base")
    byte_tokenizer().save(str(directory / "tokenizer.json"))
    return directory


@pytest.fixture(scope="module")
def tokenizer(directory: Path) -> TextTokenizer:
    return load_tokenizer(directory)


@given(prompt=st.text(max_size=40), response=st.text(max_size=40), name=st.sampled_from(["chatml", "plain"]))
def test_a_generation_starts_from_exactly_the_training_prefix(
    tokenizer: TextTokenizer, prompt: str, response: str, name: str
) -> None:
    template = Template(name=name)
    sample = encode_sample(tokenizer, template, prompt, response, end_token_id=0)
    assert encode_prompt(tokenizer, template, prompt) == sample.prompt
    whole = tokenizer.decode(sample.prompt + sample.response[:-1])
    if "<|" not in prompt + response:
        assert whole.endswith(response)


def test_no_token_spans_the_border(tokenizer: TextTokenizer) -> None:
    sample = encode_sample(tokenizer, Template(name="plain"), "a\n", "\nb", end_token_id=0)
    assert sample.prompt + sample.response[:-1] != tuple(tokenizer.encode("a\n\nb"))
    assert tokenizer.decode(sample.prompt) == "a\n"


@given(st.text(max_size=60).filter(lambda text: "<|" not in text))
def test_decoding_gives_the_text_back(tokenizer: TextTokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_both_of_qwens_ends_stop_a_generation_whatever_the_base_declares(directory: Path) -> None:
    end, turn_end = (byte_tokenizer().token_to_id(token) for token in ("<|endoftext|>", "<|im_end|>"))
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, end]}))
    (directory / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "<|endoftext|>"}}))
    loaded = load_tokenizer(directory)
    assert loaded.declared_end_token_ids == (7, end)
    assert loaded.end_token_ids == (7, end, turn_end)


def test_a_directory_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadTokenizer, match=r"no tokenizer\.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BadTokenizer, match="is not a tokenizer"):
        load_tokenizer(tmp_path)
