"""Samples as the trainer sees them, for people: which text the loss is on."""

from dataclasses import dataclass

from workloads.data.samples import TrainingData
from workloads.text.tokenizer import TextTokenizer


@dataclass(frozen=True)
class RenderedSample:
    """`context` is read, `supervised` is learned: texts of the very token ids, special tokens included."""

    line: int
    tokens: int
    supervised_tokens: int
    full_tokens: int
    truncated: bool
    context: str
    supervised: str


def render(data: TrainingData, tokenizer: TextTokenizer, count: int) -> list[RenderedSample]:
    """The first `count` samples in the order of training."""
    rows = data.rows
    rendered: list[RenderedSample] = []
    for index in data.order[:count]:
        ids, prompt = rows.ids(index), int(rows.prompt_lengths[index])
        rendered.append(
            RenderedSample(
                line=int(rows.lines[index]),
                tokens=len(ids),
                supervised_tokens=len(ids) - prompt,
                full_tokens=int(rows.lengths[index]),
                truncated=bool(rows.truncated[index]),
                context=tokenizer.decode(ids[:prompt]),
                supervised=tokenizer.decode(ids[prompt:]),
            )
        )
    return rendered
