"""Samples as text, as the trainer sees them, with the supervised parts marked."""

from dataclasses import dataclass
from itertools import groupby

from workloads.data.samples import TrainingData
from workloads.text.tokenizer import TextTokenizer


@dataclass(frozen=True)
class RenderedSample:
    """`pieces`: texts of the token ids in their order, including special tokens, and whether each piece is
    supervised.
    """

    place: str
    tokens: int
    supervised_tokens: int
    full_tokens: int
    truncated: bool
    pieces: tuple[tuple[str, bool], ...]

    @property
    def context(self) -> str:
        """Returns the text before the first supervised token."""
        return self.pieces[0][0] if self.pieces and not self.pieces[0][1] else ""

    @property
    def supervised(self) -> str:
        """Returns all supervised text."""
        return "".join(text for text, learned in self.pieces if learned)


def render(data: TrainingData, tokenizer: TextTokenizer, count: int) -> list[RenderedSample]:
    """Returns the first `count` samples in the order of training."""
    rows = data.rows
    rendered: list[RenderedSample] = []
    for index in data.order[:count]:
        ids, flags = rows.ids(index), rows.supervised(index)
        pieces = [
            (tokenizer.decode([token for _, token in group]), learned)
            for learned, group in groupby(zip(flags, ids, strict=True), key=lambda pair: pair[0])
        ]
        rendered.append(
            RenderedSample(
                place=data.places(int(rows.lines[index])),
                tokens=len(ids),
                supervised_tokens=sum(flags),
                full_tokens=int(rows.lengths[index]),
                truncated=bool(rows.truncated[index]),
                pieces=tuple(pieces),
            )
        )
    return rendered
