"""The JSON output of commands that read: one option and one form for all of them (docs/reference/json.md)."""

import dataclasses
import json
import sys
from collections.abc import Mapping, Set
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from typer.core import TyperCommand

SCHEMA_VERSION = 1
"""The version of every document. Removing a field or changing its meaning raises it; a new field does not."""
STDOUT = "-"

JsonTo = Annotated[
    str | None,
    typer.Option(
        "--json",
        help="Print JSON instead of text. With a file name that ends in .json: write it to this file, and print text.",
        metavar="[FILE.json]",
    ),
]


class ReadingCommand(TyperCommand):
    """A command with the option `JsonTo`. The file may be left out: `--json` alone writes to standard output."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _with_target(args))


def _with_target(args: list[str]) -> list[str]:
    """Rewrites `--json FILE.json` and `--json -` as one word, and `--json` alone as `--json=-`."""
    found: list[str] = []
    rest = iter(range(len(args)))
    for index in rest:
        word = args[index]
        if word == "--":
            return [*found, *args[index:]]
        if word != "--json":
            found.append(word)
            continue
        following = args[index + 1] if index + 1 < len(args) else ""
        is_target = following == STDOUT or (following.endswith(".json") and not following.startswith("-"))
        found.append(f"--json={following if is_target else STDOUT}")
        if is_target:
            next(rest)
    return found


def shows_text(json_to: str | None) -> bool:
    """Returns False if standard output is for JSON alone."""
    return json_to != STDOUT


def write_json(json_to: str | None, command: str, body: Mapping[str, Any]) -> None:
    """Writes {"schema_version", "command", **body} to standard output or a file, with a final newline. Writes nothing
    if `to` is None.

    Dataclasses and pydantic models become objects, times ISO 8601 text, tuples and sets lists. Raises
    typer.BadParameter if the file cannot be written.
    """
    if json_to is None:
        return
    whole = {"schema_version": SCHEMA_VERSION, "command": command, **body}
    text = json.dumps(whole, default=_plain, ensure_ascii=False, allow_nan=False) + "\n"
    if json_to == STDOUT:
        sys.stdout.write(text)
        return
    try:
        Path(json_to).write_text(text, encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{json_to}: {error.strerror or error}", param_hint="--json") from error


def _plain(value: object) -> object:
    """Converts values that `json` cannot write."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Set):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")
