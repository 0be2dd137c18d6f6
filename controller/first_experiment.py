"""Finds values for a first experiment that fit the user's data and the base."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from controller.training_data import NotReadableHere, base_folder
from workloads.api.tasks import ModelSource
from workloads.api.units import Loss, Template
from workloads.data.end_token import EndToken, end_token
from workloads.data.rows import Conversation, DataPart, DataRow, read_rows
from workloads.data.tokens import tokenise
from workloads.models.shapes import BadShapes, read_shapes
from workloads.text.templates import BadTemplate
from workloads.text.tokenizer import BadTokenizer, TextTokenizer, load_tokenizer

LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
UNKNOWN_LENGTH = 2048
"""Tokens of a sample if the base is not on this machine."""
UNLIMITED = 2**31 - 1
"""The sequence length with which rows are measured, so that none is cut."""
ROWS_MEASURED = 1000
"""Rows whose length in tokens is measured, from the first one on."""
LARGEST_BATCH = 50
FEWEST_BATCHES = 10
MOST_SAMPLES = 10_000
USABLE_SHARE = 0.95
"""Samples of a run as a share of the rows, because some rows may have no supervised text."""
CHECKPOINTS = 4
THINK_CLOSE = "</think>"
TemplateName = Literal["chatml", "base"]


@dataclass(frozen=True)
class InitAnswers:
    """The user's answers to `potstill init`. Paths are relative to the experiment file's folder.

    `base`: a directory, or owner/name with `revision`. `benchmark`: a built-in's name, or a path with `grader`.
    `location`: the location of the base, in the form of `ModelSource`.
    """

    name: str
    base: str
    revision: str | None
    location: str
    data: str
    benchmark: str
    grader: str | None


@dataclass(frozen=True)
class FirstExperiment:
    """`data`: how the rows are read. `rows`: their number. `counted`: whether lengths were measured with the base's
    tokenizer.

    `teaching`: share of the measured rows that have supervised text. `thinks`: whether a response has </think>.
    """

    answers: InitAnswers
    data: DataPart
    template: TemplateName
    is_conversation: bool
    rows: int
    sequence_tokens: int
    budget_tokens: int
    counted: bool
    teaching: float
    thinks: bool

    @property
    def usable(self) -> int:
        return max(1, int(self.rows * self.teaching))

    @property
    def batch_size(self) -> int:
        return max(1, min(LARGEST_BATCH, self.usable // FEWEST_BATCHES))

    @property
    def samples(self) -> int:
        """The number of samples, in whole batches."""
        most = min(MOST_SAMPLES, max(1, int(self.usable * USABLE_SHARE)))
        return max(1, most // self.batch_size) * self.batch_size

    @property
    def checkpoint_every(self) -> int:
        batches = self.samples // self.batch_size
        return max(1, batches // CHECKPOINTS) * self.batch_size


@dataclass(frozen=True)
class _Base:
    """The facts about a base that `init` needs. `context_tokens`: None if its configuration does not state it."""

    tokenizer: TextTokenizer
    end: EndToken
    context_tokens: int | None


@dataclass(frozen=True)
class _Rows:
    """All rows of the data, and how they are read."""

    part: DataPart
    rows: Sequence[Any]

    @property
    def is_conversation(self) -> bool:
        return any(isinstance(row, Conversation) for row in self.rows)


def first_experiments(answers: InitAnswers, part: DataPart) -> Iterator[FirstExperiment]:
    """Yields the possible ways to train on the data with the base, the best one first. Reads all rows.

    Templates that refuse one of the first rows are left out. Raises BadData, and BadTemplate if all refuse.
    """
    data = _Rows(part, read_rows(part.path, part.columns, part.format, part.loss))
    base = _base_here(answers.location)
    refusals: list[BadTemplate] = []
    ways = _ways(data, base)
    for template, loss in ways:
        try:
            first = _first(answers, data, base, template, loss)
        except BadTemplate as error:
            refusals.append(error)
            continue
        yield first
    if len(refusals) == len(ways):
        raise refusals[0]


def _ways(data: _Rows, base: _Base | None) -> list[tuple[TemplateName, Loss]]:
    """Returns the (template, loss) pairs to try.

    For conversations the base's own template comes first, if it has one.
    """
    if not data.is_conversation:
        return [("chatml", "all")]
    if base is None:
        return [("base", "all")]
    if not base.tokenizer.chat.templates:
        return [("chatml", "all")]
    return [("base", "all"), ("base", "last"), ("chatml", "all")]


def _first(
    answers: InitAnswers, data: _Rows, base: _Base | None, template: TemplateName, loss: Loss
) -> FirstExperiment:
    """Raises BadTemplate if the template refuses one of the first rows."""
    rows = [_last_turn(row) if loss == "last" else row for row in data.rows[:ROWS_MEASURED]]
    wanted, teaching, context = UNKNOWN_LENGTH, 1.0, None
    thinks = any(THINK_CLOSE in text for row in rows for text in _responses(row))
    if base is not None:
        context = base.context_tokens
        measured = tokenise(rows, base.tokenizer, Template(name=template), base.end.token_id, UNLIMITED, "truncate")
        wanted = int(sorted(measured.lengths)[int(0.99 * (len(measured) - 1))])
        teaching = float((~measured.unsupervised).mean())
        thinks = bool(measured.closes_think.any())
    sequence = next((length for length in LENGTHS if length >= wanted), LENGTHS[-1])
    sequence = min(sequence, context) if context is not None else sequence
    return FirstExperiment(
        answers=answers,
        data=replace(data.part, loss=loss),
        template=template,
        is_conversation=data.is_conversation,
        rows=len(data.rows),
        sequence_tokens=sequence,
        budget_tokens=min(sequence, context // 2) if context is not None else sequence,
        counted=base is not None,
        teaching=teaching,
        thinks=thinks,
    )


def _last_turn(row: Conversation | DataRow) -> Conversation | DataRow:
    if isinstance(row, DataRow):
        return row
    return Conversation(row.line, row.messages, row.learned[-1:], row.tools)


def _responses(row: Conversation | DataRow) -> list[str]:
    """Returns the supervised texts."""
    if isinstance(row, DataRow):
        return [row.response]
    return [row.messages[index]["content"] for index in row.learned]


def _base_here(location: str) -> _Base | None:
    """Returns None if the base's tokenizer and configuration are not on this machine and cannot be downloaded."""
    try:
        folder = base_folder(ModelSource(location=location, content=location.replace("hub://", "hub:")))
        tokenizer = load_tokenizer(folder)
        return _Base(tokenizer, end_token(folder, tokenizer), read_shapes(folder).context_tokens)
    except (NotReadableHere, BadTokenizer, BadShapes):
        return None
