"""Warnings about common mistakes in training data, before the first step. Each warning is `Name: text`."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from workloads.api.records import DataStatistics
from workloads.api.units import TrainInputs
from workloads.data.end_token import EndToken
from workloads.data.rows import Places
from workloads.data.tokens import TokenisedRows, WholeRows
from workloads.words import count_of

LINES_NAMED = 10
COLUMNS_NAMED = 10
"""Lines and columns that a warning names, at most."""


def data_warnings(
    rows: TokenisedRows,
    order: Sequence[int],
    statistics: DataStatistics,
    inputs: TrainInputs,
    training: int,
    passes: float,
    end: EndToken,
    places: Places,
) -> Iterator[str]:
    """`training`: rows available for training. `passes`: over the part of a mixture that is repeated most."""
    consumed = np.unique(np.asarray(order))
    if (dropped := statistics.dropped / len(rows)) >= 0.5:
        yield (
            f"MostlyDropped: {statistics.dropped} of {count_of(len(rows), 'row')} ({dropped:.0%}) are longer than "
            f"{inputs.sequence_tokens} tokens; the median length fell from {statistics.length_percentiles['p50']} "
            f"to {statistics.kept_length_percentiles['p50']}"
        )
    if passes > 1:
        samples = count_of(inputs.samples, "sample")
        yield f"DataRepeated: {samples} from {count_of(training, 'row')}: {passes:.1f} passes"
    yield from _ends(rows, order, statistics, inputs)
    if (open_share := float(rows.thinks_on[np.asarray(order)].mean())) > 0:
        yield f"ThinkNotClosed: {open_share:.0%} of the samples open <think> and never teach </think>"
    if rows.unsupervised.any():
        lines = _named(rows, rows.unsupervised, places)
        yield (
            f"NothingSupervised: {count_of(int(rows.unsupervised.sum()), 'row')} left out: an empty response, or a "
            f"prompt that fills {inputs.sequence_tokens} tokens ({lines})"
        )
    if rows.ends_within.any():
        lines = _named(rows, rows.ends_within, places)
        yield (
            f"EndWithin: the responses of {count_of(int(rows.ends_within.sum()), 'row')} hold an end token "
            f"({end.text!r} or another at which an evaluation stops) before their end, perhaps with another turn "
            f"after it ({lines})"
        )
    if rows.whole is not None:
        yield from _templates(rows, rows.whole, consumed, places)
    if places.unread:
        names = ", ".join(places.unread[:COLUMNS_NAMED]) + (", ..." if len(places.unread) > COLUMNS_NAMED else "")
        yield f"ColumnsNotRead: the rows have columns that are not read: {names}"
    steps = -(-inputs.samples // inputs.batch_size)
    if inputs.warmup_steps > steps:
        yield (
            f"WarmupTooLong: warmupSteps is {inputs.warmup_steps} and the run has {count_of(steps, 'step')}: the "
            f"learning rate gets to {inputs.learning_rate * steps / inputs.warmup_steps:.3g} of the stated "
            f"{inputs.learning_rate:.3g} in the last step, and never falls"
        )


def _ends(rows: TokenisedRows, order: Sequence[int], statistics: DataStatistics, inputs: TrainInputs) -> Iterator[str]:
    consumed = np.asarray(order)
    cut_short = int((rows.truncated[consumed] & ~rows.ends[consumed]).sum())
    if cut_short:
        yield (
            f"EndNotTaught: {cut_short} of {count_of(statistics.consumed, 'sample')} "
            f"({cut_short / statistics.consumed:.0%}) are cut at {inputs.sequence_tokens} tokens and teach no end token"
        )
    without = int((~rows.truncated[consumed] & ~rows.ends[consumed]).sum())
    if without:
        yield (
            f"EndNotInTemplate: in {without} of {count_of(statistics.consumed, 'sample')} what is learned does not end "
            "with an end token of the base: a model trained so may never stop"
        )


def _templates(rows: TokenisedRows, whole: WholeRows, consumed: NDArray[np.int64], places: Places) -> Iterator[str]:
    used = np.zeros(len(rows), dtype=bool)
    used[consumed] = True
    texts = {
        "think_twice": "ThinkTwice: in {rows} the template opens <think> and the response opens it again "
        "({lines}): take <think> off the responses, or use a template that does not open it",
        "templated": "AlreadyTemplated: the prompts of {rows} hold turns of a chat format already ({lines}), and the "
        "template puts them into another: give the bare text, or state template: plain",
        "control": "ControlTokens: users' text of {rows} holds control tokens of the tokenizer, which become "
        "tokens ({lines})",
    }
    for name, text in texts.items():
        found = whole.facts[name] & used
        if name == "control":
            found &= ~whole.facts["templated"]
        if found.any():
            yield text.format(rows=count_of(int(found.sum()), "row"), lines=_named(rows, found, places))


def _named(rows: TokenisedRows, which: NDArray[np.bool_], places: Places) -> str:
    """`line 4`, `lines 4, 7`; with several files their names."""
    lines = [int(line) for line in rows.lines[which]]
    shown = [places(line) for line in lines[:LINES_NAMED]]
    if len(places.files) < 2:
        shown = [text.removeprefix("line ") for text in shown]
    return (
        (f"line{'s' if len(lines) > 1 else ''} " if len(places.files) < 2 else "")
        + ", ".join(shown)
        + (", ..." if len(lines) > LINES_NAMED else "")
    )
