"""From a checked file to the samples of a training: what is kept, held out and consumed, and what the filter did."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workloads.api.records import DataStatistics
from workloads.api.units import TrainInputs
from workloads.data.end_token import EndToken
from workloads.data.order import consumption, hold_out
from workloads.data.rows import BadData, read_rows
from workloads.data.tokens import TokenisedRows, tokenise
from workloads.text.tokenizer import TextTokenizer

LINES_NAMED = 10
PERCENTILES = (1, 10, 50, 90, 99)


@dataclass(frozen=True)
class TrainingData:
    """`order[i]` is the row that sample i (from 0) is; `validation` are rows that no sample is."""

    rows: TokenisedRows
    order: tuple[int, ...]
    validation: tuple[int, ...]
    statistics: DataStatistics
    warnings: tuple[str, ...]


def prepare(path: Path, inputs: TrainInputs, tokenizer: TextTokenizer, end: EndToken) -> TrainingData:
    """Reads, tokenises, filters and orders the whole file. Raises BadData and BadTemplate."""
    rows = tokenise(
        read_rows(path, inputs.columns),
        tokenizer,
        inputs.template,
        end.token_id,
        inputs.sequence_tokens,
        inputs.overlong,
    )
    usable = np.flatnonzero(rows.kept)
    if len(usable) == 0:
        raise BadData(f"{path.name}: nothing is left to train on: {_losses(rows, inputs)}")
    lines = [int(line) for line in rows.lines[usable]]
    training, validation = hold_out(inputs.seed, lines, inputs.validation_share)
    if not training:
        raise BadData(f"{path.name}: validationShare {inputs.validation_share} holds out all {len(usable)} rows left")
    if len(training) < inputs.samples and inputs.on_short == "fail":
        raise BadData(
            f"{path.name}: samples is {inputs.samples} but {len(training)} rows are left of {len(rows)} "
            f"({_losses(rows, inputs)}; {len(validation)} held out for validation): "
            "lower samples, change sequenceTokens or overlong, or state onShort: repeat"
        )
    consumed = consumption(inputs.seed, [lines[index] for index in training], inputs.samples)
    order = tuple(int(usable[training[index]]) for index in consumed)
    statistics = _statistics(rows, usable, order)
    return TrainingData(
        rows=rows,
        order=order,
        validation=tuple(int(usable[index]) for index in validation),
        statistics=statistics,
        warnings=tuple(_warnings(rows, statistics, inputs, len(training), end)),
    )


def _losses(rows: TokenisedRows, inputs: TrainInputs) -> str:
    parts = [
        f"{int(rows.overlong.sum())} longer than sequenceTokens {inputs.sequence_tokens}",
        f"{int(rows.unsupervised.sum())} without a supervised token",
    ]
    return ", ".join(parts) + f"; lengths from {int(rows.lengths.min())} to {int(rows.lengths.max())} tokens"


def _statistics(rows: TokenisedRows, usable: NDArray[np.intp], order: Sequence[int]) -> DataStatistics:
    consumed = np.asarray(order)
    total = int(rows.kept[consumed].sum())
    return DataStatistics(
        rows=len(rows),
        kept=len(usable),
        dropped=int(rows.overlong.sum()),
        truncated=int(rows.truncated.sum()),
        without_supervision=int(rows.unsupervised.sum()),
        consumed=len(order),
        distinct_consumed=len(set(order)),
        supervised_tokens=total - int(rows.prompt_lengths[consumed].sum()),
        total_tokens=total,
        length_percentiles=percentiles(rows.lengths),
        kept_length_percentiles=percentiles(rows.kept[usable]),
        supervises_think_close=float(rows.closes_think[consumed].mean()),
        supervises_end=float(rows.ends[consumed].mean()),
    )


def percentiles(lengths: NDArray[np.int64]) -> dict[str, int]:
    """Nearest-rank percentiles: each is a length that occurs."""
    ranked = np.sort(lengths)
    found = {f"p{p}": int(ranked[max(0, -(-p * len(ranked) // 100) - 1)]) for p in PERCENTILES}
    return found | {"max": int(ranked[-1])}


def _warnings(
    rows: TokenisedRows, statistics: DataStatistics, inputs: TrainInputs, training: int, end: EndToken
) -> list[str]:
    found: list[str] = []
    if (dropped := statistics.dropped / len(rows)) >= 0.5:
        found.append(
            f"MostlyDropped: {statistics.dropped} of {len(rows)} rows ({dropped:.0%}) are longer than "
            f"{inputs.sequence_tokens} tokens; the median length fell from {statistics.length_percentiles['p50']} "
            f"to {statistics.kept_length_percentiles['p50']}"
        )
    if inputs.samples > training:
        found.append(
            f"DataRepeated: {inputs.samples} samples from {training} rows: {inputs.samples / training:.1f} passes"
        )
    if (cut := 1 - statistics.supervises_end) > 0:
        found.append(
            f"EndNotTaught: {round(cut * statistics.consumed)} of {statistics.consumed} samples ({cut:.0%}) are cut at "
            f"{inputs.sequence_tokens} tokens and teach no end token"
        )
    if 0 < statistics.supervises_think_close < 1:
        open_share = 1 - statistics.supervises_think_close
        found.append(f"ThinkNotClosed: {open_share:.0%} of the samples never teach </think>")
    if rows.unsupervised.any():
        lines = rows.lines[rows.unsupervised]
        named = ", ".join(str(line) for line in lines[:LINES_NAMED]) + (", ..." if len(lines) > LINES_NAMED else "")
        found.append(
            f"NothingSupervised: {len(lines)} rows left out: an empty response, or a prompt that fills "
            f"{inputs.sequence_tokens} tokens (lines {named})"
        )
    if (within := int(rows.ends_within.sum())) > 0:
        found.append(f"EndWithin: {within} responses hold the end token {end.text!r} before their end")
    return found
