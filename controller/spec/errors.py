"""What is wrong with an experiment file: where, what, and what to do."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """`path` is the field's place in the file; `line` counts from 1, None when the field is not in the file."""

    path: Path
    message: str
    line: int | None = None

    def __str__(self) -> str:
        where = dotted(self.path) or "the file"
        return f"{where}: {self.message}" if self.line is None else f"line {self.line}: {where}: {self.message}"


class SpecError(Exception):
    """All problems of a file at once, so that one reading mends it."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n".join([f"{source}: {count}", *(f"  {problem}" for problem in self.problems)]))


def dotted(path: Path) -> str:
    """spec.runs[0].samples"""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Pydantic's errors in the file's own words; an unknown key names the nearest right one."""
    return [Problem(tuple(entry["loc"]), _message(dict(entry), model)) for entry in error.errors()]


def _message(entry: dict[str, Any], root: type[BaseModel]) -> str:
    kind, context = entry["type"], entry.get("ctx", {})
    if kind == "extra_forbidden":
        names = _fields_at(root, entry["loc"][:-1])
        wrong = str(entry["loc"][-1])
        close = difflib.get_close_matches(wrong.lower(), {name.lower(): name for name in names}, n=1, cutoff=0.5)
        right = {name.lower(): name for name in names}
        if close:
            return f"unknown field; did you mean {right[close[0]]}?"
        return f"unknown field; the fields here are {', '.join(sorted(names))}"
    if kind == "missing":
        return "is required"
    if kind == "literal_error":
        close = difflib.get_close_matches(str(entry["input"]), _expected(context), n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]}?" if close else ""
        return f"{entry['input']!r} is not one of {', '.join(_expected(context))}{hint}"
    if kind == "string_pattern_mismatch":
        return f"{entry['input']!r} does not match {context['pattern']}"
    if kind == "string_type" and isinstance(entry["input"], int | float):
        return f"YAML reads a number ({entry['input']}): put it in quotes"
    message = str(entry["msg"])
    return f"{message[0].lower()}{message[1:]} (it is {entry['input']!r})"


def _expected(context: dict[str, Any]) -> list[str]:
    return [part.strip("' ") for part in str(context["expected"]).replace(" or ", ", ").split(", ")]


def _fields_at(root: type[BaseModel], path: Path) -> list[str]:
    """Names that a file may use at `path`, by walking the models' annotations."""
    current: Any = root
    for part in path:
        if isinstance(part, int) or not (isinstance(current, type) and issubclass(current, BaseModel)):
            continue
        by_alias = {field.alias or name: field for name, field in current.model_fields.items()}
        if part not in by_alias:
            continue
        current = _model_in(by_alias[part].annotation)
    if isinstance(current, type) and issubclass(current, BaseModel):
        return [field.alias or name for name, field in current.model_fields.items()]
    return []


def _model_in(annotation: Any) -> Any:
    """The model inside `Model | None`, `list[Model]` or `dict[str, Model]`."""
    arguments = getattr(annotation, "__args__", ())
    models = [_model_in(argument) for argument in arguments]
    return next((m for m in models if isinstance(m, type) and issubclass(m, BaseModel)), annotation)
