"""The place of each token in a text is the same by the tokens' bytes and by the tokenizer's own offsets."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from workloads.data.encoded_text import EncodedText, TextEncoder, token_bytes

TEXTS = [
    "the theory of the thing\n",
    "naïve café, über 3 + 4 = 7",
    "日本語のテキスト",
    "a\u0301 e\u0301",
    "🙂🙃 <think>",
]
KINDS = ("plain", "normalized", "stripping")


@cache
def byte_level(kind: str) -> Tokenizer:
    """`normalized` composes characters (NFC); `stripping` has an added token that removes spaces around it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if kind == "normalized":
        tokenizer.normalizer = normalizers.NFC()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet))
    strips = kind == "stripping"
    tokenizer.add_special_tokens([AddedToken("</think>", lstrip=strips, rstrip=strips, normalized=False), "<|end｜>"])
    tokenizer.post_processor = None
    return tokenizer


def by_offsets(tokenizer: Tokenizer, text: str) -> EncodedText:
    return EncodedText(text, tokenizer.encode(text, add_special_tokens=False), tokenizer, None)


texts = st.lists(
    st.sampled_from([*TEXTS, "</think>", " </think>\n", "<|end｜>", "\u0301", "é", "e", " ", "🙂"])
    | st.text(max_size=6),
    max_size=8,
).map("".join)


@pytest.mark.parametrize("kind", KINDS)
@given(text=texts.filter(lambda text: not any("\ud800" <= character <= "\udfff" for character in text)))
def test_places_are_those_of_the_tokenizers_offsets(kind: str, text: str) -> None:
    tokenizer = byte_level(kind)
    found, expected = TextEncoder(tokenizer).encode([text])[0], by_offsets(tokenizer, text)
    assert found.ids == expected.ids
    assert [found.border(place) for place in range(len(text) + 1)] == [
        expected.border(place) for place in range(len(text) + 1)
    ]
    closes = [place + 8 for place in range(len(text)) if text.startswith("</think>", place)]
    assert [found.tokens_until(place) for place in closes] == [expected.tokens_until(place) for place in closes]


def test_a_border_within_a_token_is_none() -> None:
    text = TextEncoder(byte_level("plain")).encode(["a</think>b"])[0]
    assert [text.border(place) for place in (0, 1, 5, 9, 10)] == [0, 1, None, 2, 3]
    assert text.tokens_until(9) == 2


def test_tokens_of_a_byte_level_vocabulary_are_the_bytes_of_the_text() -> None:
    tokenizer = byte_level("plain")
    known = token_bytes(tokenizer)
    assert known is not None
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert b"".join(known.texts[token] for token in ids) == text.encode()


def test_a_vocabulary_of_other_characters_keeps_the_tokenizers_offsets() -> None:
    tokenizer = Tokenizer(models.WordLevel({"▁a": 0, "▁b": 1, "?": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    assert token_bytes(tokenizer) is None
    text = TextEncoder(tokenizer).encode(["a b"])[0]
    assert (text.ids, text.border(1), text.tokens_until(3)) == ([0, 1], 1, 2)
