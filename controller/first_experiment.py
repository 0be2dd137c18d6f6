"""A first experiment for somebody's data: values that fit the data and the base, as a commented file."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from controller.training_data import NotReadableHere, base_folder
from workloads.api.tasks import ModelSource
from workloads.api.units import Columns
from workloads.benchmarks.registry import BENCHMARKS
from workloads.data.rows import Conversation, read_rows
from workloads.models.shapes import BadShapes, read_shapes
from workloads.text.tokenizer import BadTokenizer, load_tokenizer

COLUMN_PAIRS = (
    ("prompt", "response"), ("prompt", "completion"), ("question", "answer"), ("question", "solution"),
    ("problem", "solution"), ("instruction", "output"), ("instruction", "response"), ("input", "output"),
)  # fmt: skip
"""Names of (prompt, response) that data sets have, the likeliest first."""
LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
UNKNOWN_LENGTH = 2048
"""Tokens, where the base is not here to count them."""
ROWS_MEASURED = 1000
LARGEST_BATCH = 50
FEWEST_BATCHES = 10
MOST_SAMPLES = 10_000
KEPT = 0.95
"""Share of the rows that the samples are: some may teach nothing."""
CHECKPOINTS = 4


CONVERSATIONS = ("messages", "conversations")
"""Columns of conversations, which `init` does not write experiments for."""
CONVERSATION_HELP = (
    "init writes experiments for one prompt and one response a row; for conversations begin with examples/chat.yaml, "
    "whose data have format: messages (docs/data.md has the other formats)"
)


class NoColumns(Exception):
    """The data has no pair of columns that is known. The message says which it has, and what to do."""


@dataclass(frozen=True)
class FirstExperiment:
    """`base`: a directory, or owner/name with `revision`. `benchmark`: a built-in's name, or a path with `grader`.

    `counted`: lengths were counted with the base's tokenizer.
    """

    name: str
    base: str
    revision: str | None
    data: str
    prompt_column: str
    response_column: str
    rows: int
    benchmark: str
    grader: str | None
    sequence_tokens: int
    budget_tokens: int
    counted: bool
    thinks: bool
    """Whether a response has </think>."""

    @property
    def batch_size(self) -> int:
        return max(1, min(LARGEST_BATCH, self.rows // FEWEST_BATCHES))

    @property
    def samples(self) -> int:
        """Whole batches."""
        most = min(MOST_SAMPLES, max(1, int(self.rows * KEPT)))
        return max(1, most // self.batch_size) * self.batch_size

    @property
    def checkpoint_every(self) -> int:
        batches = self.samples // self.batch_size
        return max(1, batches // CHECKPOINTS) * self.batch_size


def columns_of(path: Path) -> tuple[str, str]:
    """The prompt's and the response's column of a JSONL or Parquet file. Raises NoColumns."""
    names = _names(path)
    for prompt, response in COLUMN_PAIRS:
        if prompt in names and response in names:
            return prompt, response
    if found := [name for name in CONVERSATIONS if name in names]:
        raise NoColumns(f"{path} has conversations in the column {found[0]}: {CONVERSATION_HELP}")
    raise NoColumns(
        f"{path} has the columns {', '.join(names) or '(none)'}: say which are the prompt and the response "
        "(--columns PROMPT,RESPONSE)"
    )


def _names(path: Path) -> Sequence[str]:
    if path.suffix == ".parquet":
        from pyarrow import parquet

        return tuple(parquet.read_schema(path).names)
    with path.open(encoding="utf-8") as file:
        line = next((line for line in file if line.strip()), "{}")
    try:
        row = json.loads(line)
    except ValueError:
        raise NoColumns(
            f"{path} is neither JSONL (one JSON object a line) nor Parquet, which init reads; other forms: docs/data.md"
        ) from None
    return tuple(map(str, row)) if isinstance(row, dict) else ()


def first_experiment(
    name: str,
    base: str,
    revision: str | None,
    data: str,
    columns: tuple[str, str],
    benchmark: str,
    grader: str | None,
    directory: Path,
) -> FirstExperiment:
    """Reads the data and, where it is here, the base. Relative paths start at `directory`.

    Raises BadData, and NoColumns for conversations.
    """
    rows = read_rows(directory / data, Columns(prompt=columns[0], response=columns[1]))
    if any(isinstance(row, Conversation) for row in rows):
        raise NoColumns(f"{data} has conversations in the columns {' and '.join(columns)}: {CONVERSATION_HELP}")
    location = f"hub://{base}@{revision}" if revision is not None else str((directory / base).resolve())
    lengths, context = _lengths(location, [f"{row.prompt}{row.response}" for row in rows[:ROWS_MEASURED]])
    wanted = sorted(lengths)[int(0.99 * (len(lengths) - 1))] if lengths else UNKNOWN_LENGTH
    sequence = next((length for length in LENGTHS if length >= wanted), LENGTHS[-1])
    sequence = min(sequence, context) if context is not None else sequence
    budget = min(sequence, context // 2) if context is not None else sequence
    return FirstExperiment(
        name,
        base,
        revision,
        data,
        columns[0],
        columns[1],
        len(rows),
        benchmark,
        grader,
        sequence,
        budget,
        bool(lengths),
        any("</think>" in row.response for row in rows),
    )


def _lengths(location: str, texts: Sequence[str]) -> tuple[list[int], int | None]:
    """(tokens of each text with room for a template, the base's context); nothing where the base is not here."""
    try:
        folder = base_folder(ModelSource(location=location, content=f"init:{location}"))
        tokenizer, shapes = load_tokenizer(folder), read_shapes(folder)
    except (NotReadableHere, BadTokenizer, BadShapes):
        return [], None
    return [len(tokenizer.encode(text)) + TEMPLATE_TOKENS for text in texts], shapes.context_tokens


TEMPLATE_TOKENS = 16
"""Room for chatml's own tokens."""


def as_yaml(first: FirstExperiment) -> str:
    """The file, with a comment at each value that its reader may want to change."""
    return "\n".join(_lines(first)) + "\n"


def _lines(first: FirstExperiment) -> Iterator[str]:
    text = json.dumps  # a JSON string is a YAML string
    revision = f", revision: {text(first.revision)}" if first.revision is not None else ""
    epochs = first.samples / first.rows
    yield "# Written by potstill init. Next: potstill validate, potstill plan, potstill run. All fields: docs/reference"
    yield "apiVersion: potstill.dev/v1alpha1"
    yield "kind: Experiment"
    yield f"metadata: {{name: {first.name}}}"
    yield "spec:"
    yield f"  base: {{model: {text(first.base)}{revision}}} # what is trained; every checkpoint is compared with it"
    yield "  data:"
    yield "    mine:"
    yield f"      uri: {text(first.data)} # {first.rows:,} rows"
    columns = f"prompt: {text(first.prompt_column)}, response: {text(first.response_column)}"
    yield f"      columns: {{{columns}}} # the loss is on the response"
    yield "      template: chatml # how a prompt is put: chatml, plain, or the path of a Jinja file"
    yield "  training: # for every run; a run may override any of them"
    yield "    lora: {rank: 16, alpha: 32, target: [attention, mlp]}"
    yield "    learningRate: 2.0e-4"
    yield f"    batchSize: {first.batch_size} # samples per optimizer step"
    yield f"    samples: {first.samples} # {epochs:.2f} of the data; a whole number of batches"
    counted = "99% of the rows fit" if first.counted else "not counted: the base is not here"
    yield f"    sequenceTokens: {first.sequence_tokens} # prompt and response together; {counted}"
    yield "    overlong: truncate # a longer row is cut; drop leaves it out"
    yield f"    checkpointEverySamples: {first.checkpoint_every} # each checkpoint is evaluated"
    yield "    seed: 1"
    yield "  runs:"
    if first.thinks:
        yield "    - {name: first, data: mine} # an answer counts only after </think>, which the responses have"
        thinking = ""
    else:
        yield "    - {name: first, data: mine, thinking: false} # true: an answer counts only after </think>"
        thinking = ", thinking: false"
    yield "    # A second run to compare with: take the comment away and run again. Only it and its evaluations run."
    yield f"    # - {{name: faster, data: mine{thinking}, learningRate: 1.0e-3}}"
    yield "  evaluation:"
    yield "    benchmarks:"
    if first.benchmark in BENCHMARKS:
        yield f"      - {{name: {first.benchmark}, checkpoints: fast}} # fast: checkpoints are asked 100 problems"
    else:
        yield f"      - {{name: own, uri: {text(first.benchmark)}, grader: {first.grader}}}"
    yield "    sampling: {temperature: 0}"
    yield f"    budgets: [{first.budget_tokens}] # new tokens for an answer; one that needs more counts as unfinished"
