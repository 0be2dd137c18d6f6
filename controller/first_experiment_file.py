"""Writes the text of a first experiment file, with a comment at each value that its reader may want to change."""

import json
from collections.abc import Iterator

from controller.first_experiment import FirstExperiment
from workloads.api.units import Columns
from workloads.words import count_of

LOSSES = {
    "prompt": "the loss is on the response",
    "alpaca": "the loss is on the output",
    "messages": "the loss is on the turns of the assistant",
    "sharegpt": "the loss is on the turns of the assistant",
}


def as_yaml(first: FirstExperiment) -> str:
    """Returns the text of the whole file."""
    return "\n".join(_lines(first)) + "\n"


def _lines(first: FirstExperiment) -> Iterator[str]:
    text, answers = _text, first.answers
    revision = f", revision: {text(answers.revision)}" if answers.revision is not None else ""
    epochs = first.samples / first.rows
    yield "# Written by potstill init. Next: potstill validate, potstill plan, potstill run. All fields: docs/reference"
    yield "apiVersion: potstill.dev/v1alpha1"
    yield "kind: Experiment"
    yield f"metadata: {{name: {text(answers.name)}}}"
    yield "spec:"
    yield f"  base: {{model: {text(answers.base)}{revision}}} # what is trained; every checkpoint is compared with it"
    yield "  data:"
    yield "    mine:"
    yield f"      uri: {text(answers.data)} # {count_of(first.rows, 'row')}"
    yield from _format_lines(first)
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
    if answers.grader is None:
        yield f"      - {{name: {answers.benchmark}, checkpoints: fast}} # fast: checkpoints are asked 100 problems"
    else:
        yield f"      - {{name: own, uri: {text(answers.benchmark)}, grader: {answers.grader}}}"
    yield "    sampling: {temperature: 0}"
    yield f"    budgets: [{first.budget_tokens}] # new tokens for an answer; one that needs more counts as unfinished"


def _format_lines(first: FirstExperiment) -> Iterator[str]:
    part = first.data
    if part.format != "prompt":
        yield f"      format: {part.format} # {LOSSES[part.format]}"
    if columns := _stated_columns(part.format == "prompt", part.columns):
        yield f"      columns: {{{columns}}}" + (f" # {LOSSES['prompt']}" if part.format == "prompt" else "")
    if part.loss == "last":
        yield "      loss: last # of each conversation; the base's template refuses loss: all"
    if first.template == "base":
        unchecked = "" if first.counted else ", which must have one"
        yield f"      template: base # the base's own chat template{unchecked}; or chatml, or the path of a Jinja file"
    elif first.is_conversation:
        yield "      template: chatml # how a conversation is put: base, chatml, or the path of a Jinja file"
    else:
        yield "      template: chatml # how a prompt is put: chatml, plain, or the path of a Jinja file"


def _stated_columns(is_pair: bool, columns: Columns) -> str:
    """Returns the columns to state: both for a prompt and a response, otherwise those that differ from the format's
    own.
    """
    pair = {"prompt": columns.prompt, "response": columns.response} if is_pair else {}
    others = {
        name: getattr(columns, name)
        for name in ("messages", "instruction", "input", "output", "system", "tools")
        if getattr(columns, name) is not None
    }
    return ", ".join(f"{name}: {_text(value)}" for name, value in (pair | others).items())


def _text(value: str) -> str:
    """Quotes a text. A JSON string is a YAML string if characters outside of ASCII are not escaped."""
    return json.dumps(value, ensure_ascii=False)
