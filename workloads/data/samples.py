"""From a checked file to the samples of a training: which rows are kept, held out and trained, and statistics of the
filter.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workloads.api.records import DataStatistics
from workloads.api.units import TrainInputs
from workloads.data.end_token import EndToken
from workloads.data.files import BadData
from workloads.data.mixture import allocate, interleave
from workloads.data.order import consumption, hold_out
from workloads.data.rows import Places
from workloads.data.token_cache import tokenised
from workloads.data.tokens import TokenisedRows, cut
from workloads.data.warnings import data_warnings
from workloads.text.tokenizer import TextTokenizer
from workloads.words import count_of

PERCENTILES = (1, 10, 50, 90, 99)


@dataclass(frozen=True)
class TrainingData:
    """`order[i]` is the row of sample i (from 0). `validation`: rows that are not trained."""

    rows: TokenisedRows
    order: tuple[int, ...]
    validation: tuple[int, ...]
    statistics: DataStatistics
    warnings: tuple[str, ...]
    places: Places = field(default_factory=Places.none)


@dataclass(frozen=True)
class _Split:
    """Rows for training: `training`, a list for each part of a mixture, and `validation`."""

    training: list[list[int]]
    validation: list[int]
    usable: int

    @property
    def count(self) -> int:
        return sum(map(len, self.training))


def prepare(
    paths: Path | Sequence[Path],
    inputs: TrainInputs,
    tokenizer: TextTokenizer,
    end: EndToken,
    cache: Path | None = None,
) -> TrainingData:
    """Reads, tokenises, filters and orders all rows. `paths`: a file or directory for each of `inputs.parts`.

    `cache`: a folder in which token ids are cached (`token_cache`). Raises BadData and BadTemplate.
    """
    paths = [paths] if isinstance(paths, Path) else list(paths)
    rows, places, split = _read(paths, inputs, tokenizer, end, cache)
    name = _name(paths)
    wanted = allocate(inputs.samples, [part.weight for part in inputs.parts])
    for path, part, count in zip(paths, split.training, wanted, strict=True):
        if len(part) < count and inputs.on_short == "fail":
            of_part = f" ({count} of them from {path.name})" if len(paths) > 1 else ""
            left = f"{count_of(len(part), 'row')} {'is' if len(part) == 1 else 'are'}"
            raise BadData(
                f"{name}: samples is {inputs.samples}{of_part} but {left} left of {len(rows)} "
                f"({_losses(rows, inputs)}; {len(split.validation)} held out for validation): "
                "lower samples, change sequenceTokens or overlong, or state onShort: repeat"
            )
        if count and not part:
            raise BadData(f"{path.name}: nothing is left to train on: {_losses(rows, inputs)}")
    orders = []
    for part, count in zip(split.training, wanted, strict=True):
        consumed = consumption(inputs.seed, [int(rows.lines[index]) for index in part], count)
        orders.append([part[position] for position in consumed])
    order = tuple(orders[0] if len(orders) == 1 else interleave(orders))
    statistics = _statistics(rows, np.flatnonzero(rows.kept), order)
    passes = max(count / len(part) if part else 0 for part, count in zip(split.training, wanted, strict=True))
    return TrainingData(
        rows=rows,
        order=order,
        validation=tuple(split.validation),
        statistics=statistics,
        warnings=tuple(data_warnings(rows, order, statistics, inputs, split.count, passes, end, places)),
        places=places,
    )


def training_rows(
    paths: Sequence[Path], inputs: TrainInputs, tokenizer: TextTokenizer, end: EndToken, cache: Path | None = None
) -> int:
    """Returns the number of rows for training, after the limit and without those held out.

    Raises BadData, BadTemplate.
    """
    return _read(paths, inputs, tokenizer, end, cache)[2].count


def _read(
    paths: Sequence[Path], inputs: TrainInputs, tokenizer: TextTokenizer, end: EndToken, cache: Path | None
) -> tuple[TokenisedRows, Places, _Split]:
    whole, places = tokenised(paths, inputs.parts, inputs.template, tokenizer, end, cache)
    rows = cut(whole, inputs.sequence_tokens, inputs.overlong)
    usable = np.flatnonzero(rows.kept)
    name = _name(paths)
    if len(usable) == 0:
        raise BadData(f"{name}: nothing is left to train on: {_losses(rows, inputs)}")
    training, validation = hold_out(inputs.seed, [int(line) for line in rows.lines[usable]], inputs.validation_share)
    if not training:
        raise BadData(
            f"{name}: validationShare {inputs.validation_share} holds out all {count_of(len(usable), 'row')} left"
        )
    by_part: list[list[int]] = [[] for _ in paths]
    for index in training:
        row = int(usable[index])
        by_part[int(whole.parts[row])].append(row)
    return rows, places, _Split(by_part, [int(usable[index]) for index in validation], len(usable))


def _name(paths: Sequence[Path]) -> str:
    return " + ".join(path.name for path in paths)


def _losses(rows: TokenisedRows, inputs: TrainInputs) -> str:
    parts = [
        f"{int(rows.overlong.sum())} longer than sequenceTokens {inputs.sequence_tokens}",
        f"{int(rows.unsupervised.sum())} without a supervised token",
    ]
    return ", ".join(parts) + f"; lengths from {int(rows.lengths.min())} to {int(rows.lengths.max())} tokens"


def _statistics(rows: TokenisedRows, usable: NDArray[np.intp], order: Sequence[int]) -> DataStatistics:
    consumed = np.asarray(order)
    return DataStatistics(
        rows=len(rows),
        kept=len(usable),
        dropped=int(rows.overlong.sum()),
        truncated=int(rows.truncated.sum()),
        without_supervision=int(rows.unsupervised.sum()),
        consumed=len(order),
        distinct_consumed=len(set(order)),
        supervised_tokens=int(rows.learned[consumed].sum()),
        total_tokens=int(rows.kept[consumed].sum()),
        length_percentiles=percentiles(rows.lengths),
        kept_length_percentiles=percentiles(rows.kept[usable]),
        supervises_think_close=float(rows.closes_think[consumed].mean()),
        supervises_end=float(rows.ends[consumed].mean()),
    )


def percentiles(lengths: NDArray[np.int64]) -> dict[str, int]:
    """Returns nearest-rank percentiles: each is a length that occurs."""
    ranked = np.sort(lengths)
    found = {f"p{p}": int(ranked[max(0, -(-p * len(ranked) // 100) - 1)]) for p in PERCENTILES}
    return found | {"max": int(ranked[-1])}
