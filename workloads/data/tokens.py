"""Rows as token ids, cut or filtered to the sequence limit. Flat arrays: a large file fits, and ranks can share it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from workloads.api.units import Template
from workloads.data.rows import BadData, DataRow
from workloads.text.templates import render_prompt
from workloads.text.tokenizer import TextTokenizer

THINK_CLOSE = "</think>"
ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class TokenisedRows:
    """N rows of a file, in file order.

    lines: (N,) line numbers. lengths: (N,) tokens of prompt + response + end token before any cut.
    prompt_lengths: (N,). kept: (N,) tokens that can be trained on, 0 for a row that is left out.
    overlong, unsupervised: (N,) why a row is left out. truncated, closes_think, ends, ends_within: (N,) facts about the
    kept tokens: cut short; the loss covers `</think>`; the loss covers the end token; the text itself holds an end
    token before its end. tokens, offsets: the kept tokens of row i are tokens[offsets[i] : offsets[i + 1]].
    """

    lines: NDArray[np.int64]
    lengths: NDArray[np.int64]
    prompt_lengths: NDArray[np.int64]
    kept: NDArray[np.int64]
    overlong: NDArray[np.bool_]
    unsupervised: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    closes_think: NDArray[np.bool_]
    ends: NDArray[np.bool_]
    ends_within: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    tokens: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.lines)

    def ids(self, index: int) -> list[int]:
        """The kept token ids of a row: prompt, response, end token unless it was cut."""
        return [int(token) for token in self.tokens[self.offsets[index] : self.offsets[index + 1]]]

    def supervised(self, index: int) -> list[bool]:
        """One flag for each of `ids`: true from the response's first token on."""
        prompt = int(self.prompt_lengths[index])
        return [position >= prompt for position in range(int(self.kept[index]))]


@dataclass(frozen=True)
class _Encoded:
    """One row; `text_ends[i]` is the end, in characters of the response, of its token i."""

    line: int
    prompt: list[int]
    response: list[int]
    text_ends: list[int]
    think_end: int | None


def tokenise(
    rows: Sequence[DataRow],
    tokenizer: TextTokenizer,
    template: Template,
    end_token_id: int,
    sequence_tokens: int,
    overlong: Literal["truncate", "drop"],
) -> TokenisedRows:
    """The template is applied to the prompt only; the response's tokens follow verbatim, then the end token.

    A response whose text already ends with the end token gets no second one. Raises BadData (a prompt without a token)
    and BadTemplate.
    """
    facts: list[tuple[int | bool, ...]] = []
    pieces: list[NDArray[np.int32]] = []
    for row in _encode(rows, tokenizer, template):
        if not row.prompt:
            raise BadData(
                f"line {row.line}: the prompt has no token, so nothing could predict the response's first one"
            )
        has_end = bool(row.response) and row.response[-1] == end_token_id
        ids = [*row.prompt, *row.response] + ([] if has_end else [end_token_id])
        length, prompt = len(ids), len(row.prompt)
        empty = len(row.response) == int(has_end)
        too_long = length > sequence_tokens and overlong == "drop"
        kept = 0 if too_long or empty or prompt >= sequence_tokens else min(length, sequence_tokens)
        truncated = 0 < kept < length
        last = min(kept - prompt, len(row.response)) - 1
        closes = kept > 0 and row.think_end is not None and row.text_ends[last] >= row.think_end
        within = end_token_id in row.response[: len(row.response) - has_end]
        facts.append((
            row.line, length, prompt, kept, too_long, not too_long and kept == 0,
            truncated, closes, kept == length, kept > 0 and within,
        ))  # fmt: skip
        pieces.append(np.asarray(ids[:kept], dtype=np.int32))
    columns = [np.asarray(column) for column in zip(*facts, strict=True)]
    return TokenisedRows(
        lines=columns[0],
        lengths=columns[1],
        prompt_lengths=columns[2],
        kept=columns[3],
        overlong=columns[4],
        unsupervised=columns[5],
        truncated=columns[6],
        closes_think=columns[7],
        ends=columns[8],
        ends_within=columns[9],
        offsets=np.concatenate([[0], np.cumsum(columns[3])]).astype(np.int64),
        tokens=np.concatenate(pieces),
    )


def _encode(rows: Sequence[DataRow], tokenizer: TextTokenizer, template: Template) -> Iterator[_Encoded]:
    encode = tokenizer.inner.encode_batch
    for start in range(0, len(rows), ROWS_AT_ONCE):
        some = rows[start : start + ROWS_AT_ONCE]
        prompts = encode([render_prompt(template, row.prompt) for row in some], add_special_tokens=False)
        responses = encode([row.response for row in some], add_special_tokens=False)
        for row, prompt, response in zip(some, prompts, responses, strict=True):
            found = row.response.find(THINK_CLOSE)
            yield _Encoded(
                line=row.line,
                prompt=tokenizer.opened(prompt.ids),
                response=list(response.ids),
                text_ends=[end for _, end in response.offsets],
                think_end=None if found < 0 else found + len(THINK_CLOSE),
            )
