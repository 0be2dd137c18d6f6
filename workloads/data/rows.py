"""Reads and checks the rows of a data set: an error names the file, the line and the column."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from workloads.api.units import Columns, DataFormat, Loss
from workloads.data.conversations import BadRow, check_text, conversation, names_of, tools_of
from workloads.data.files import BadData, Fault, column_names, data_files, read_values

ERRORS_SHOWN = 5
LOOKED_AT = 1000
"""At most this many rows are checked for columns that are not read."""
HINTS = {
    "messages": "state format: messages",
    "conversations": "state format: sharegpt",
    "instruction": "state format: alpaca",
    "completion": "state columns: {response: completion}",
}


@dataclass(frozen=True)
class DataRow:
    """`line` counts from 1: the line of a text file, the row of a Parquet file. The next file continues the count."""

    line: int
    prompt: str
    response: str
    system: str | None = None


@dataclass(frozen=True)
class Conversation:
    """`messages` in OpenAI's form. `learned`: positions of the assistant's turns with loss."""

    line: int
    messages: tuple[dict[str, Any], ...]
    learned: tuple[int, ...]
    tools: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class DataPart:
    """A data set on this machine (a file, or a directory of them), and how its rows are read."""

    path: Path
    columns: Columns = field(default_factory=Columns)
    format: DataFormat = "prompt"
    loss: Loss = "all"


@dataclass
class Places:
    """The file of each line: `files` are (first line - 1, name), ascending. `unread`: columns that were not read."""

    files: list[tuple[int, str]]
    unread: list[str]

    @staticmethod
    def none() -> "Places":
        return Places([], [])

    def __call__(self, line: int) -> str:
        """Returns `line 7`, with the file's name if there are several."""
        before = [(first, name) for first, name in self.files if first < line]
        if len(self.files) < 2 or not before:
            return f"line {line}"
        first, name = before[-1]
        return f"{name} line {line - first}"


def iter_rows(parts: Sequence[DataPart], places: Places) -> Iterator[tuple[int, DataRow | Conversation]]:
    """Yields (number of the part, row) in the order of parts and files. Adds the files and columns to `places`.

    Skips blank lines of JSONL. Raises BadData with the first faults of a file.
    """
    line = 0
    for number, part in enumerate(parts):
        is_empty = True
        for path in data_files(part.path):
            name = str(path.relative_to(part.path)) if part.path.is_dir() else path.name
            places.files.append((line, name))
            last = line
            for row in _read_file(path, part, line, places):
                is_empty = False
                last = row.line
                yield number, row
            line = last
        if is_empty:
            raise BadData(f"{part.path.name} holds no rows")


def read_rows(path: Path, columns: Columns, format_: DataFormat = "prompt", loss: Loss = "all") -> list[Any]:
    """Returns all rows of one data set in a list. Raises BadData."""
    return [row for _, row in iter_rows([DataPart(path, columns, format_, loss)], Places.none())]


def _read_file(path: Path, part: DataPart, offset: int, places: Places) -> Iterator[DataRow | Conversation]:
    names = names_of(part.format, part.columns)
    columns = {key.removeprefix("?"): name for key, name in names.items()}
    required = [name for key, name in names.items() if not key.startswith("?")]
    faults: list[str] = []
    if known := column_names(path):
        for name in required:
            if name not in known:
                raise BadData(f"{path.name}: no column {name!r}{_nearest(name, known)}")
        _note_unread(places, known, columns.values())
    for count, (line, value) in enumerate(read_values(path, list(columns.values()))):
        try:
            if isinstance(value, Fault):
                raise BadRow(value.message.removeprefix(f"line {line}: "))
            if not isinstance(value, dict):
                raise BadRow(f"expected an object with the columns, found {type(value).__name__}")
            for name in required:
                if name not in value:
                    raise BadRow(f"no column {name!r}{_nearest(name, value)}")
            if count < LOOKED_AT and not known:
                _note_unread(places, value, columns.values())
            row = _checked(line + offset, value, columns, part)
        except BadRow as error:
            faults.append(f"line {line}: {error}")
            if len(faults) == ERRORS_SHOWN:
                break
        else:
            if not faults:
                yield row
    if faults:
        more = " (reading stopped here)" if len(faults) == ERRORS_SHOWN else ""
        raise BadData(f"{path.name}: " + "; ".join(faults) + more)


def _note_unread(places: Places, names: Iterable[str], read: Iterable[str]) -> None:
    known = {*places.unread, *read}
    places.unread += [name for name in map(str, names) if name not in known]


def _checked(line: int, value: dict[str, Any], columns: dict[str, str], part: DataPart) -> DataRow | Conversation:
    system_name = columns.get("system")
    system = value.get(system_name) if system_name is not None else None
    if system is not None:
        system = check_text(f"column {system_name!r}", system) or None
    if part.format == "alpaca":
        prompt = check_text(f"column {columns['instruction']!r}", value[columns["instruction"]])
        more = value.get(columns["input"])
        more = check_text(f"column {columns['input']!r}", more) if more is not None else ""
        response = check_text(f"column {columns['output']!r}", value[columns["output"]])
        return DataRow(line, f"{prompt}\n\n{more}" if more.strip() else prompt, response, system)
    if part.format == "prompt" and not isinstance(value[columns["prompt"]], list):
        prompt, response = (
            check_text(f"column {columns[name]!r}", value[columns[name]]) for name in ("prompt", "response")
        )
        return DataRow(line, prompt, response, system)
    if part.format == "prompt":
        asked = conversation(columns["prompt"], value[columns["prompt"]], is_sharegpt=False)
        answer = conversation(columns["response"], value[columns["response"]], is_sharegpt=False)
        messages, first = [*asked, *answer], len(asked)
    else:
        messages = conversation(columns["messages"], value[columns["messages"]], part.format == "sharegpt")
        first = 0
    tools = tools_of(columns["tools"], value.get(columns["tools"])) if "tools" in columns else []
    if system is not None:
        if messages[0]["role"] == "system":
            raise BadRow(f"column {system_name!r} has a system text, and so has the first message: keep one")
        messages, first = [{"role": "system", "content": system}, *messages], first + 1
    return _conversation(line, messages, first, tools, part.loss)


def _conversation(
    line: int, messages: list[dict[str, Any]], first: int, tools: Sequence[dict[str, Any]], loss: Loss
) -> Conversation:
    """`first`: the position from which on turns may have loss."""
    turns = [index for index, message in enumerate(messages) if message["role"] == "assistant" and index >= first]
    if not turns:
        raise BadRow("no message of the assistant, so that nothing can be learned")
    learned = turns if loss == "all" else turns[-1:]
    for index in learned:
        message = messages[index]
        if index == 0 or all(before["role"] in ("system", "developer") for before in messages[:index]):
            raise BadRow(f"message {index + 1} is the assistant's, and no message before it asks")
        if not (message["content"].strip() or message.get("tool_calls")):
            raise BadRow(f"message {index + 1} of the assistant is empty")
    return Conversation(line, tuple(messages[: learned[-1] + 1]), tuple(learned), tuple(tools))


def _nearest(column: str, names: Iterable[str]) -> str:
    known = sorted(map(str, names))
    near = get_close_matches(column, known, n=1)
    if near:
        return f" (did you mean {near[0]!r}?)"
    hints = [hint for name, hint in HINTS.items() if name in known and name != column]
    columns_text = f" (the row has {', '.join(known[:20]) or 'no columns'})"
    return f"{columns_text}: {hints[0]}" if hints else columns_text
