"""Rows as token ids with the supervised positions, in one array, and the effect of the token limit on each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from workloads.api.units import Template
from workloads.data.encoded import EncodedRow, RowEncoder
from workloads.data.end_token import EndToken
from workloads.data.rows import Conversation, DataRow, Places
from workloads.text.tokenizer import TextTokenizer

FACTS = ("empty", "opens_think", "think_twice", "teaches_end", "ends_within", "templated", "control")


@dataclass(frozen=True)
class WholeRows:
    """N rows in the order of the files, before any limit.

    parts, lines: (N,) the data set of a mixture and the line. offsets: (N + 1,), tokens: (T,) int32, possibly mapped
    from a file that ranks share: row i is tokens[offsets[i] : offsets[i + 1]]. span_offsets: (N + 1,), spans: (S, 2)
    [start, end) within the row, of the supervised text. close_at: (N,) number of tokens up to `</think>`, or 0. facts:
    (N,) each, by the names of EncodedRow. largest: the largest token id.
    """

    parts: NDArray[np.int64]
    lines: NDArray[np.int64]
    offsets: NDArray[np.int64]
    span_offsets: NDArray[np.int64]
    spans: NDArray[np.int64]
    close_at: NDArray[np.int64]
    facts: dict[str, NDArray[np.bool_]]
    tokens: NDArray[np.int32]
    largest: int


class RowsWriter:
    """Collects encoded rows: tokens go to `file`, the rest stays in memory (about 100 bytes a row)."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._numbers: list[tuple[int, int, int, int, int]] = []
        self._spans: list[tuple[int, int]] = []
        self._facts: list[tuple[bool, ...]] = []
        self.largest = -1

    def add(self, row: EncodedRow) -> None:
        self._file.write(row.ids.tobytes())
        self._spans += row.spans
        self._numbers.append((row.part, row.line, len(row.ids), len(row.spans), row.close_at))
        self._facts.append(tuple(getattr(row, name) for name in FACTS))
        self.largest = max(self.largest, int(row.ids.max()))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Returns every array of WholeRows except the tokens, with the facts in one (N, len(FACTS))."""
        numbers = np.asarray(self._numbers, dtype=np.int64).reshape(-1, 5)
        return {
            "parts": numbers[:, 0],
            "lines": numbers[:, 1],
            "offsets": np.concatenate([[0], np.cumsum(numbers[:, 2])]).astype(np.int64),
            "span_offsets": np.concatenate([[0], np.cumsum(numbers[:, 3])]).astype(np.int64),
            "spans": np.asarray(self._spans, dtype=np.int64).reshape(-1, 2),
            "close_at": numbers[:, 4],
            "facts": np.asarray(self._facts, dtype=np.bool_).reshape(-1, len(FACTS)),
        }


def whole_rows(arrays: dict[str, NDArray[Any]], tokens: NDArray[np.int32], largest: int) -> WholeRows:
    return WholeRows(
        parts=arrays["parts"],
        lines=arrays["lines"],
        offsets=arrays["offsets"],
        span_offsets=arrays["span_offsets"],
        spans=arrays["spans"],
        close_at=arrays["close_at"],
        facts={name: arrays["facts"][:, number] for number, name in enumerate(FACTS)},
        tokens=tokens,
        largest=largest,
    )


@dataclass(frozen=True)
class TokenisedRows:
    """N rows of a file, in file order.

    lines: (N,) line numbers. lengths: (N,) tokens of prompt + response + end token before any cut. prompt_lengths: (N,)
    tokens before the first supervised one. kept: (N,) tokens for training, 0 for a row that is left out. learned: (N,)
    the number of supervised ones among them. overlong, unsupervised: (N,) why a row is left out. truncated,
    closes_think, thinks_on, ends, ends_within: (N,) facts about the kept tokens: cut short; the loss covers `</think>`;
    `<think>` is open at their end; the loss covers the end token; the text itself holds an end token before its end.
    tokens, offsets: the kept tokens of row i begin at tokens[offsets[i]]. spans, span_offsets: as in WholeRows, before
    the cut; None: from prompt_lengths to kept.
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
    learned: NDArray[np.int64]
    thinks_on: NDArray[np.bool_]
    largest: int = 0
    whole: WholeRows | None = None

    def __len__(self) -> int:
        return len(self.lines)

    def array(self, index: int) -> NDArray[np.int32]:
        """Returns the kept token ids of a row: prompt, response, end token unless it was cut."""
        start = int(self.offsets[index])
        return self.tokens[start : start + int(self.kept[index])]

    def ids(self, index: int) -> list[int]:
        """Returns `array` as a list."""
        return [int(token) for token in self.array(index)]

    def targets(self, index: int) -> NDArray[np.int64]:
        """Returns the positions of the supervised tokens among the kept ones, ascending."""
        kept = int(self.kept[index])
        if self.whole is None:
            return np.arange(int(self.prompt_lengths[index]), kept)
        first, last = self.whole.span_offsets[index : index + 2]
        spans = self.whole.spans[first:last]
        if len(spans) == 1:
            return np.arange(int(spans[0, 0]), min(int(spans[0, 1]), kept))
        return np.concatenate([np.arange(start, min(end, kept)) for start, end in spans.tolist()])

    def supervised(self, index: int) -> list[bool]:
        """Returns one flag for each of `ids`: whether it is supervised."""
        flags = np.zeros(int(self.kept[index]), dtype=bool)
        flags[self.targets(index)] = True
        return [bool(flag) for flag in flags]


def cut(whole: WholeRows, sequence_tokens: int, overlong: Literal["truncate", "drop"]) -> TokenisedRows:
    """Applies the limit: each row is cut after `sequence_tokens` and the last supervised token, or left out."""
    count = len(whole.lines)
    lengths = np.diff(whole.offsets)
    owners = np.repeat(np.arange(count), np.diff(whole.span_offsets))
    limits = np.minimum(lengths, sequence_tokens)
    starts, stops = whole.spans[:, 0], np.minimum(whole.spans[:, 1], limits[owners])
    sizes = np.maximum(stops - starts, 0)
    learned = np.bincount(owners, weights=sizes, minlength=count).astype(np.int64)
    last = np.zeros(count, dtype=np.int64)
    np.maximum.at(last, owners, np.where(sizes > 0, stops, 0))
    too_long = (lengths > sequence_tokens) & (overlong == "drop")
    left_out = too_long | whole.facts["empty"] | (learned == 0)
    kept = np.where(left_out, 0, last)
    closes = (kept > 0) & (whole.close_at > 0) & (kept >= whole.close_at)
    return TokenisedRows(
        lines=whole.lines,
        lengths=lengths,
        prompt_lengths=whole.spans[whole.span_offsets[:-1], 0] if count else np.zeros(0, dtype=np.int64),
        kept=kept,
        overlong=too_long,
        unsupervised=left_out & ~too_long,
        truncated=(kept > 0) & (kept < lengths),
        closes_think=closes,
        ends=(kept == lengths) & whole.facts["teaches_end"],
        ends_within=(kept > 0) & whole.facts["ends_within"],
        offsets=whole.offsets,
        tokens=whole.tokens,
        learned=np.where(left_out, 0, learned),
        thinks_on=(kept > 0) & whole.facts["opens_think"] & ~closes,
        largest=whole.largest,
        whole=whole,
    )


def encode_rows(
    rows: Iterable[tuple[int, DataRow | Conversation]],
    tokenizer: TextTokenizer,
    template: Template,
    end: EndToken,
    places: Places,
    file: IO[bytes],
) -> RowsWriter:
    """Encodes every row without a limit, with its tokens in `file`.

    Raises BadData (a prompt without a token) and BadTemplate.
    """
    writer = RowsWriter(file)
    for row in RowEncoder(tokenizer, template, end, places).encode(rows):
        writer.add(row)
    return writer


def tokenise(
    rows: Sequence[DataRow | Conversation],
    tokenizer: TextTokenizer,
    template: Template,
    end_token_id: int,
    sequence_tokens: int,
    overlong: Literal["truncate", "drop"],
) -> TokenisedRows:
    """Tokenises rows in memory. The template is applied only to the prompt; the response's tokens follow verbatim.

    A response whose text ends with the end token gets no second one. Raises BadData and BadTemplate.
    """
    end = EndToken(end_token_id, tokenizer.inner.id_to_token(end_token_id) or "", "stated")
    file = BytesIO()
    writer = encode_rows(((0, row) for row in rows), tokenizer, template, end, Places.none(), file)
    tokens = np.frombuffer(file.getvalue(), dtype=np.int32)
    return cut(whole_rows(writer.arrays(), tokens, writer.largest), sequence_tokens, overlong)
