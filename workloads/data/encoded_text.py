"""Texts as token ids, with the place of each token in the text. Avoids the tokenizer's own slow offsets if possible."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer


@dataclass(frozen=True)
class TokenBytes:
    """The UTF-8 bytes of each token id, and their number: (ids,)."""

    texts: Sequence[bytes]
    lengths: NDArray[np.int64]


class EncodedText:
    """`ids` of `text`, without beginning or end tokens. Places count the characters of `text` from 0."""

    def __init__(self, text: str, encoding: Encoding, inner: Tokenizer, token_bytes: TokenBytes | None) -> None:
        """`token_bytes`: the bytes of each id, if `encoding` was made without offsets; None if it has offsets."""
        self.text, self.ids = text, encoding.ids
        self._encoding, self._inner, self._token_bytes = encoding, inner, token_bytes

    def tokens_until(self, place: int) -> int:
        """Returns how many tokens the text up to `place` has."""
        wanted = self._position(place)
        return min(self._first(lambda token: self._span(token)[1] >= wanted) + 1, len(self.ids))

    def border(self, place: int) -> int | None:
        """Returns the number of tokens before `place`; None if a token lies across it."""
        if place == 0:
            return 0
        if place == len(self.text):
            return len(self.ids)
        wanted = self._position(place)
        found = self._first(lambda token: self._span(token)[1] > wanted)
        return found if found == len(self.ids) or self._span(found)[0] >= wanted else None

    def _first(self, is_reached: Callable[[int], bool]) -> int:
        """Returns the first token for which `is_reached` is true (it is then true for all later ones); the number of
        tokens if none.
        """
        low, high = 0, len(self.ids)
        while low < high:
            middle = (low + high) // 2
            if is_reached(middle):
                high = middle
            else:
                low = middle + 1
        return low

    def _position(self, place: int) -> int:
        """Returns `place` in the unit of `_span`: bytes, or characters if the positions are the tokenizer's."""
        return place if self._ends is None else len(self.text[:place].encode())

    def _span(self, token: int) -> tuple[int, int]:
        if self._ends is not None:
            return (int(self._ends[token - 1]) if token else 0), int(self._ends[token])
        found = self._with_offsets.token_to_chars(token)
        return (0, 0) if found is None else (int(found[0]), int(found[1]))

    @cached_property
    def _ends(self) -> NDArray[np.int64] | None:
        """Returns (tokens,) the end of each token in bytes; None if the tokens' bytes differ from the text's."""
        if self._token_bytes is None:
            return None
        found = b"".join(map(self._token_bytes.texts.__getitem__, self.ids))
        if found != self.text.encode():  # a normalizer or a token that strips spaces changed the text
            return None
        return np.cumsum(self._token_bytes.lengths[np.asarray(self.ids, dtype=np.int64)])

    @cached_property
    def _with_offsets(self) -> Encoding:
        if self._token_bytes is None:
            return self._encoding
        return self._inner.encode(self.text, add_special_tokens=False)


class TextEncoder:
    """Encodes many texts at a time on all cores, without offsets if the tokens' bytes give their places."""

    def __init__(self, inner: Tokenizer) -> None:
        self._inner = inner
        self._token_bytes = token_bytes(inner)

    def encode(self, texts: Sequence[str]) -> list[EncodedText]:
        encode = self._inner.encode_batch if self._token_bytes is None else self._inner.encode_batch_fast
        found = encode(list(texts), add_special_tokens=False)
        return [
            EncodedText(text, encoding, self._inner, self._token_bytes)
            for text, encoding in zip(texts, found, strict=True)
        ]


def token_bytes(inner: Tokenizer) -> TokenBytes | None:
    """Returns the UTF-8 bytes of each token id of a byte-level tokenizer; NO_TEXT for an id without a token.

    Returns None if a token of the vocabulary is not in the byte alphabet. It does not check normalizers or
    pre-tokenizers: `_ends` compares the joined bytes with the text.
    """
    vocabulary = inner.get_vocab(with_added_tokens=False)
    added = inner.get_added_tokens_decoder()
    found = [NO_TEXT] * (max([*vocabulary.values(), *added], default=-1) + 1)
    for token, number in vocabulary.items():
        if number in added:
            continue
        try:
            found[number] = bytes([BYTE_OF[character] for character in token])
        except KeyError:
            return None
    for number, added_token in added.items():
        found[number] = added_token.content.encode()
    return TokenBytes(found, np.asarray([len(text) for text in found], dtype=np.int64))


NO_TEXT = b"\xff"
"""A byte that never occurs in UTF-8."""


def _byte_alphabet() -> dict[str, int]:
    """Returns the byte of each character of GPT-2's byte alphabet: visible ones are themselves, the rest follow from
    256 on.
    """
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + number): byte for number, byte in enumerate(others)}


BYTE_OF = _byte_alphabet()
