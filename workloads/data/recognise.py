"""Recognises the format of a data set's rows by its columns' names and values."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any, Literal

from workloads.api.units import Columns, DataFormat
from workloads.data.conversations import names_of
from workloads.data.files import BadData, Fault, column_names, data_files, read_values
from workloads.data.rows import LOOKED_AT, DataPart

PROMPTS = ("prompt", "question", "query", "problem", "instruction", "input")
RESPONSES = ("response", "completion", "answer", "solution", "output")
INSTRUCTIONS = ("instruction",)
INPUTS = ("input", "context")
OUTPUTS = ("output", "response")
"""Columns of format alpaca."""
SYSTEMS = ("system", "system_prompt")
CONVERSATIONS = ("messages", "conversations")
"""The formats' own names of columns with conversations."""
FORMS = "docs/data.md has the formats"


class NotRecognised(BadData):
    """The columns do not determine the format of the rows. The message names the columns and the choices."""


@dataclass(frozen=True)
class FirstRows:
    """The first rows of a data set, at most LOOKED_AT.

    `names`: the names of their columns, or of all columns of a Parquet file.
    """

    names: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]

    def value(self, name: str) -> Any:
        """Returns the first value of the column that is not null, or None."""
        return next((row[name] for row in self.rows if row.get(name) is not None), None)

    def named(self, known: Sequence[str]) -> list[str]:
        """Returns the columns with one of the `known` names, in that order; case is ignored."""
        own = {name.lower(): name for name in reversed(self.names)}
        return [own[name] for name in known if name in own]

    def has_texts(self, name: str) -> bool:
        """Returns whether every row has the column with a text or null, and at least one row has a text."""
        values = [row.get(name, 0) for row in self.rows]
        return any(values) and all(value is None or isinstance(value, str) for value in values)


def recognise(path: Path, stated: Sequence[str] = ()) -> DataPart:
    """Returns how to read the rows of a file or directory: by all of its columns, or by the `stated` ones.

    `stated` has one column of conversations, a prompt and a response, or an instruction, an input and an output. Raises
    NotRecognised if several formats fit or none does, and BadData for a file without rows.
    """
    first = first_rows(path)
    if stated:
        for name in stated:
            if name not in first.names:
                raise NotRecognised(f"{path.name} has no column {name!r}; it has {_listed(first.names)}")
        return _stated(path, first, stated)
    found = list(_candidates(path, first))
    if not found and (named := first.named(CONVERSATIONS)):
        found = [_conversations(path, first, named[0], "messages")]  # the reader reports the problem with these columns
    if not found:
        raise NotRecognised(
            f"{path.name} has the columns {_listed(first.names)}, and which are the prompt and the response is not "
            f"known: state PROMPT,RESPONSE, or the one column of conversations; {FORMS}"
        )
    if len(found) > 1:
        choices = " or ".join(",".join(_read_columns(part)) for part in found)
        raise NotRecognised(f"{path.name} can be read in {len(found)} ways: state the columns to train on, {choices}")
    return found[0]


def first_rows(path: Path) -> FirstRows:
    """Leaves out rows that are not objects. Raises BadData if there are no others."""
    file = data_files(path)[0]
    known = column_names(file)
    fault, rows = "", []
    for line, value in islice(read_values(file, known), LOOKED_AT):
        if isinstance(value, dict):
            rows.append(value)
        elif not fault:
            found = f"line {line}: expected an object with the columns, found {type(value).__name__}"
            fault = value.message if isinstance(value, Fault) else found
    if not rows:
        raise BadData(f"{file.name}: {fault}" if fault else f"{file.name} holds no rows")
    names = known or list(dict.fromkeys(str(name) for row in rows for name in row))
    return FirstRows(tuple(names), tuple(rows))


def conversation_format(value: Any) -> Literal["messages", "sharegpt"] | None:
    """Returns the format of a column by one of its values: a list of messages, or its JSON text.

    None if it is neither.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, list) or not value or not isinstance(value[0], dict):
        return None
    if "role" in value[0]:
        return "messages"
    return "sharegpt" if {"from", "value"} <= value[0].keys() else None


def _stated(path: Path, first: FirstRows, stated: Sequence[str]) -> DataPart:
    if len(stated) == 1:
        found = conversation_format(first.value(stated[0]))
        if found is None:
            raise NotRecognised(
                f"{path.name}: column {stated[0]!r} has no conversations (lists of role and content, or of from and "
                f"value): state the two columns of prompt and response; {FORMS}"
            )
        return _conversations(path, first, stated[0], found)
    if len(stated) == 2:
        return _pair(path, first, stated[0], stated[1])
    return _alpaca(path, *stated)


def _candidates(path: Path, first: FirstRows) -> Iterator[DataPart]:
    """Yields all ways to read the rows that their columns allow."""
    prompts, responses = first.named(PROMPTS), first.named(RESPONSES)
    instructions, outputs, inputs = first.named(INSTRUCTIONS), first.named(OUTPUTS), first.named(INPUTS)
    if "prompt" in prompts and "response" in responses:
        prompts, responses = ["prompt"], ["response"]
    is_alpaca = bool(instructions and outputs and (inputs or outputs[0] == "output"))
    pairs = [] if is_alpaca else list(product(prompts, responses))
    for name in first.names:
        found = conversation_format(first.value(name))
        if found is not None and not any(name in pair for pair in pairs):
            yield _conversations(path, first, name, found)
    if is_alpaca:
        yield _alpaca(path, instructions[0], inputs[0] if inputs else "input", outputs[0])
    for prompt, response in pairs:
        yield _pair(path, first, prompt, response)


def _conversations(path: Path, first: FirstRows, name: str, format_: DataFormat) -> DataPart:
    own = "messages" if format_ == "messages" else "conversations"
    systems = [system for system in first.named(SYSTEMS) if system != "system" and first.has_texts(system)]
    columns = Columns(messages=None if name == own else name, system=systems[0] if systems else None)
    return DataPart(path, columns, format_)


def _pair(path: Path, first: FirstRows, prompt: str, response: str) -> DataPart:
    systems = [system for system in first.named(SYSTEMS) if first.has_texts(system)]
    return DataPart(path, Columns(prompt=prompt, response=response, system=systems[0] if systems else None))


def _alpaca(path: Path, instruction: str, input_: str, output: str) -> DataPart:
    stated = {"instruction": instruction, "input": input_, "output": output}
    return DataPart(path, Columns(**{key: name for key, name in stated.items() if key != name}), "alpaca")


def _read_columns(part: DataPart) -> list[str]:
    """Returns the columns of a prompt and a response, of conversations, or of an instruction with its input."""
    names = names_of(part.format, part.columns)
    keys = ("messages", "prompt", "response", "instruction", "?input", "output")
    return [names[key] for key in keys if key in names]


def _listed(names: Sequence[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most]) or '(none)'}{more}"
