"""One row as token ids, with the tokens that have loss, and facts that help to find mistakes in the data."""

import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from workloads.api.units import Template
from workloads.data.encoded_text import EncodedText, TextEncoder
from workloads.data.end_token import EndToken
from workloads.data.files import BadData
from workloads.data.rows import Conversation, DataRow, Places
from workloads.text.templates import BadTemplate, RenderedChat, render_chat, render_prompt
from workloads.text.tokenizer import TextTokenizer

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
ROWS_AT_ONCE = 128
Row: TypeAlias = tuple[int, DataRow | Conversation]
"""The number of the part of a mixture, and its row."""
TURN_OPENERS = (
    "<|im_start|>", "<|start_header_id|>", "<start_of_turn>", "[INST]", "<|user|>", "<|assistant|>", "<|turn>",
    "### Instruction:", "<|start_of_role|>",
)  # fmt: skip
"""How chat formats begin a turn. A prompt that contains one has been through a template already."""


@dataclass(frozen=True)
class EncodedRow:
    """`ids`: the whole row. `spans`: (start, end) in tokens of the supervised text, ascending and not empty.

    `close_at`: the number of tokens up to the `</think>` of the last span; 0 if it has none. Facts: `empty`, only the
    end token is supervised; `opens_think`, `<think>` is opened in or before the last span; `think_twice`, the template
    opens `<think>` and the response does too; `teaches_end`, the end token is supervised; `ends_within`, an end token
    before the end; `templated`, the prompt contains turns of a chat format; `control`, users' text contains control
    tokens.
    """

    part: int
    line: int
    ids: NDArray[np.int32]
    spans: tuple[tuple[int, int], ...]
    close_at: int
    empty: bool
    opens_think: bool
    think_twice: bool
    teaches_end: bool
    ends_within: bool
    templated: bool
    control: bool


@dataclass(frozen=True)
class _Batch:
    """Rows whose texts are being encoded; `chats` as returned by `RowEncoder._rendered`."""

    rows: Sequence[Row]
    chats: Sequence[RenderedChat | None]
    encoded: Future[list[EncodedText]]


class RowEncoder:
    """Encodes rows with one tokenizer and template.

    With template base, a prompt and a response become a conversation.
    """

    def __init__(self, tokenizer: TextTokenizer, template: Template, end: EndToken, places: Places) -> None:
        self._tokenizer, self._template, self._end, self._places = tokenizer, template, end, places
        self._encoder = TextEncoder(tokenizer.inner)
        self._ends = {end.token_id, *tokenizer.end_token_ids}
        self._end_texts = [text for token in sorted(self._ends) if (text := tokenizer.inner.id_to_token(token))]
        added = tokenizer.inner.get_added_tokens_decoder().values()
        special = sorted({token.content for token in added if token.special}, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, special)) or r"(?!)")

    def encode(self, rows: Iterable[Row]) -> Iterator[EncodedRow]:
        """Yields in the order of `rows`. Raises BadData and BadTemplate.

        The tokenizer's threads encode one batch while this thread makes the rows of the batch before and reads the next
        batch.
        """
        rows = iter(rows)
        with ThreadPoolExecutor(1) as pool:
            before: _Batch | None = None
            while some := list(islice(rows, ROWS_AT_ONCE)):
                texts, chats = self._rendered(some)
                batch = _Batch(some, chats, pool.submit(self._encoder.encode, texts))
                if before is not None:
                    yield from self._encoded(before)
                before = batch
            if before is not None:
                yield from self._encoded(before)

    def _rendered(self, rows: Sequence[Row]) -> tuple[list[str], list[RenderedChat | None]]:
        """Returns the texts of all rows, and the conversation of each row; None if its prompt and response are two
        texts.
        """
        texts: list[str] = []
        chats: list[RenderedChat | None] = []
        for _, row in rows:
            if isinstance(row, DataRow) and self._template.name != "base":
                texts += [self._render(row), row.response]
                chats.append(None)
            else:
                chat = self._chat(_as_conversation(row))
                texts.append(chat.text)
                chats.append(chat)
        return texts, chats

    def _encoded(self, batch: _Batch) -> Iterator[EncodedRow]:
        encoded = iter(batch.encoded.result())
        for (part, row), rendered in zip(batch.rows, batch.chats, strict=True):
            if rendered is None:
                assert isinstance(row, DataRow)
                yield self._text_row(part, row, next(encoded), next(encoded))
            else:
                yield self._chat_row(part, row, rendered, next(encoded))

    def _render(self, row: DataRow) -> str:
        template = self._template if row.system is None else self._template.model_copy(update={"system": row.system})
        with _named(self._places(row.line)):
            return render_prompt(template, row.prompt, self._tokenizer.chat)

    def _chat(self, row: Conversation) -> RenderedChat:
        with _named(self._places(row.line)):
            return render_chat(
                self._template, row.messages, row.tools or None, row.learned, self._tokenizer.chat, self._end.text,
                self._end_texts,
            )  # fmt: skip

    def _text_row(self, part: int, row: DataRow, prompt: EncodedText, response: EncodedText) -> EncodedRow:
        """The response's tokens follow verbatim, then the end token, unless the text ends with it."""
        before = self._tokenizer.with_opening(prompt.ids)
        if not before:
            raise BadData(
                f"{self._places(row.line)}: the prompt has no token, so nothing could predict the response's first one"
            )
        after = response.ids
        has_end = bool(after) and after[-1] == self._end.token_id
        ids = [*before, *after] + ([] if has_end else [self._end.token_id])
        close = row.response.find(THINK_CLOSE)
        opens = row.prompt.rstrip().endswith(THINK_OPEN)
        rendered = self._tokenizer.decode(before[-8:]).rstrip()
        opened = opens or rendered.endswith(THINK_OPEN)
        starts = row.response.lstrip().startswith(THINK_OPEN)
        plain = self._template.name == "plain"
        templated = not plain and any(opener in row.prompt for opener in TURN_OPENERS)
        return EncodedRow(
            part=part,
            line=row.line,
            ids=np.asarray(ids, dtype=np.int32),
            spans=((len(before), len(ids)),),
            close_at=0 if close < 0 else len(before) + response.tokens_until(close + len(THINK_CLOSE)),
            empty=len(after) == int(has_end),
            opens_think=opened or THINK_OPEN in row.response,
            think_twice=opened and starts,
            teaches_end=True,
            ends_within=not self._ends.isdisjoint(after[: len(after) - has_end]),
            templated=templated,
            control=not plain and self._control.search(row.prompt) is not None,
        )

    def _chat_row(self, part: int, row: DataRow | Conversation, chat: RenderedChat, whole: EncodedText) -> EncodedRow:
        """Encodes the text as one, like transformers. A token across a border of a span is divided there."""
        borders = [place for span in chat.spans for place in span]
        places = [whole.border(place) for place in borders]
        ids = whole.ids
        if any(place is None for place in places):
            ids, found = self._divided(chat.text, borders)
        else:
            found = [place for place in places if place is not None]
        opening = len(ids)
        ids = ids if self._template.name == "base" else self._tokenizer.with_opening(ids)
        opening = len(ids) - opening
        found = [place + opening for place in found]
        spans = tuple(zip(found[::2], found[1::2], strict=True))
        if spans[0][0] == 0:
            raise BadData(f"{self._places(row.line)}: there is no text before the first turn with loss")
        start, end = chat.spans[-1]
        last = chat.text[start:end]
        before = chat.text[:start].rstrip().endswith(THINK_OPEN)
        close = last.rfind(THINK_CLOSE)
        close_at = 0
        if close >= 0:
            place = whole.border(start + close + len(THINK_CLOSE))
            close_at = spans[-1][1] if place is None else place + opening
        users = _texts_of_users(row)
        return EncodedRow(
            part=part,
            line=row.line,
            ids=np.asarray(ids, dtype=np.int32),
            spans=tuple(span for span in spans if span[0] < span[1]) or (spans[-1],),
            close_at=close_at,
            empty=all(first == last for first, last in spans),
            opens_think=before or THINK_OPEN in last,
            think_twice=before and last.lstrip().startswith(THINK_OPEN),
            teaches_end=ids[spans[-1][1] - 1] in self._ends,
            ends_within=any(not self._ends.isdisjoint(ids[first : last - 1]) for first, last in spans),
            templated=any(opener in text for text in users for opener in TURN_OPENERS),
            control=any(self._control.search(text) for text in users),
        )

    def _divided(self, text: str, borders: Sequence[int]) -> tuple[list[int], list[int]]:
        ids: list[int] = []
        found: list[int] = []
        for start, end in zip([0, *borders], [*borders, len(text)], strict=True):
            ids += self._tokenizer.encode(text[start:end])
            found.append(len(ids))
        return ids, found[:-1]


@contextmanager
def _named(place: str) -> Iterator[None]:
    """Puts the row's place before the message of a BadTemplate."""
    try:
        yield
    except BadTemplate as error:
        raise BadTemplate(f"{place}: {error}") from error


def _as_conversation(row: DataRow | Conversation) -> Conversation:
    if isinstance(row, Conversation):
        return row
    system = [{"role": "system", "content": row.system}] if row.system else []
    messages = (*system, {"role": "user", "content": row.prompt}, {"role": "assistant", "content": row.response})
    return Conversation(row.line, messages, (len(messages) - 1,))


def _texts_of_users(row: DataRow | Conversation) -> list[str]:
    if isinstance(row, DataRow):
        return [row.prompt]
    return [message["content"] for message in row.messages if message["role"] in ("user", "tool")]
