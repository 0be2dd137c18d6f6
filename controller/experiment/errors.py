"""Problems of an experiment file: the field, the problem, and what to do."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from pydantic import BaseModel, ValidationError

from workloads.words import count_of

Path = tuple[str | int, ...]
SHOWN_CHARACTERS = 80
"""A message quotes at most this many characters of a value."""
LONGEST_MESSAGE = 300
"""Characters of one problem's message that are printed."""
SHOWN_PROBLEMS = 30
"""At most this many problems of one file are printed."""
MOST_BITS = 256
"""A larger integer is not printed, because Python refuses to print very long ones."""
SHOWN_NAMES = 10
"""A message lists at most this many names."""
OTHER_NAMES = {
    "bs": "batchSize",
    "cutofflen": "sequenceTokens",
    "dropout": "lora.dropout",
    "gradclip": "gradientClip",
    "loraalpha": "lora.alpha",
    "loradropout": "lora.dropout",
    "lorar": "lora.rank",
    "lr": "learningRate",
    "lrscheduler": "schedule",
    "lrschedulertype": "schedule",
    "maxgradnorm": "gradientClip",
    "maxlength": "sequenceTokens",
    "maxnewtokens": "budgets",
    "maxseqlen": "sequenceTokens",
    "maxseqlength": "sequenceTokens",
    "maxsteps": "samples (steps x batchSize)",
    "maxtokens": "budgets",
    "numepochs": "epochs",
    "numtrainepochs": "epochs",
    "perdevicetrainbatchsize": "batchSize",
    "r": "rank",
    "savesteps": "checkpointEverySamples (steps x batchSize)",
    "targetmodules": "lora.target",
    "temp": "temperature",
    "trainbatchsize": "batchSize",
    "warmup": "warmupSteps",
    "wd": "weightDecay",
}
"""Names of fields in other trainers, in lower case without _ and -, and Potstill's names."""
PATTERNS = {
    r"^\d{4}-\d{2}-\d{2}$": "is not a date: write it as 2026-11-28",
    r"^[0-9a-f]{40}$": "is not a commit: give its 40 hex digits, because a branch or a tag can move",
    r"^[0-9a-f]{64}$": "is not a SHA-256: give 64 hex digits in small letters (sha256sum FILE prints them)",
    r"^[a-z0-9]([a-z0-9_.-]*[a-z0-9])?$": "may have small letters, digits, and between them _ . -",
    r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$": "may have small letters, digits, and between them -",
    r"^[A-Za-z_][A-Za-z0-9_-]*$": "may have letters, digits, _ and -, and begins with a letter or _",
}
"""Requirements on a value, in words, by the pattern that it does not match."""


@dataclass(frozen=True)
class SpecProblem:
    """`path` is the field's place in the file; `line` counts from 1, None when the field is not in the file."""

    path: Path
    message: str
    line: int | None = None

    def __str__(self) -> str:
        where, said = dotted(self.path) or "the file", self.message
        if len(said) > LONGEST_MESSAGE:
            said = f"{said[:LONGEST_MESSAGE]}..."
        return f"{where}: {said}" if self.line is None else f"line {self.line}: {where}: {said}"


class SpecError(Exception):
    """All problems of a file in one error, so that they can be corrected together."""

    def __init__(self, source: str, problems: Sequence[SpecProblem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        count = count_of(len(self.problems), "problem")
        more = len(self.problems) - SHOWN_PROBLEMS
        shown = [f"  {problem}" for problem in self.problems[:SHOWN_PROBLEMS]]
        super().__init__("\n".join([f"{source}: {count}", *shown, *([f"  and {more} more"] if more > 0 else [])]))


def dotted(path: Path) -> str:
    """Returns text such as spec.runs[0].samples."""
    text = ""
    for part in path:
        name = part if isinstance(part, int) or len(part) <= SHOWN_CHARACTERS else f"{part[:SHOWN_CHARACTERS]}..."
        text += f"[{name}]" if isinstance(name, int) else f".{name}" if text else name
    return text


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[SpecProblem]:
    """Pydantic's errors in the file's own words; an unknown key names the nearest right one."""
    return [_problem(dict(entry), model) for entry in error.errors()]


def _problem(entry: dict[str, Any], model: type[BaseModel]) -> SpecProblem:
    path, message = tuple(entry["loc"]), _message(entry, model)
    if path[-1:] == ("[key]",):  # the name of an entry, not its value
        return SpecProblem((*path[:-2], str(path[-2])), f"the name: {message}")
    return SpecProblem(path, message)


def _message(entry: dict[str, Any], root: type[BaseModel]) -> str:
    kind, context = entry["type"], entry.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_field(str(entry["loc"][-1]), _fields_at(root, entry["loc"][:-1]))
    if kind == "missing":
        return "is required"
    given = shortened(entry["input"])
    if kind == "literal_error":
        close = difflib.get_close_matches(str(entry["input"])[:SHOWN_CHARACTERS], _expected(context), n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]}?" if close else ""
        return f"{given} is not one of {', '.join(_expected(context))}{hint}"
    if kind == "string_pattern_mismatch":
        return f"{given} {PATTERNS.get(context['pattern'], 'does not match ' + context['pattern'])}"
    if kind == "string_type" and isinstance(entry["input"], bool | int | float | date):
        what = "a date" if isinstance(entry["input"], date) else "a number"
        what = "yes or no" if isinstance(entry["input"], bool) else what
        return f"YAML reads {what} ({given}): put it in quotes"
    if kind == "too_short" and not entry["input"]:
        return "is empty: at least one entry is needed"
    if kind == "list_type":
        return f"must be a list, each entry after a - or all in [ ] (it is {given})"
    if kind in ("int_type", "int_parsing", "float_type", "float_parsing", "int_from_float"):
        return f"must be a {'whole ' if kind.startswith('int') else ''}number (it is {given})"
    if kind == "finite_number":
        return f"must be a finite number (it is {given})"
    if kind == "too_long" and "actual_length" in context:
        return f"has {context['actual_length']} entries; at most {context['max_length']} are allowed"
    if kind == "value_error":
        return f"{context['error']}" if isinstance(entry["input"], dict) else f"{context['error']} (it is {given})"
    if kind == "model_type":
        names = listed(_fields_at(root, entry["loc"])) or "the fields of an experiment"
        return f"must have fields ({names}), and it is {given}"
    message = str(entry["msg"])
    return f"{message[0].lower()}{message[1:]} (it is {given})"


def _unknown_field(wrong: str, names: Sequence[str]) -> str:
    """Returns a message that suggests the intended field: by its name in other trainers, else by its spelling."""
    other = OTHER_NAMES.get(wrong.lower().replace("_", "").replace("-", ""), "")
    if other and other.partition(" ")[0].partition(".")[0] in names:
        return f"unknown field; did you mean {other}?"
    right = {name.lower(): name for name in names}
    close = difflib.get_close_matches(wrong.lower(), right, n=1, cutoff=0.5)
    if close:
        return f"unknown field; did you mean {right[close[0]]}?"
    return f"unknown field; the fields here are {', '.join(sorted(names))}"


def shortened(value: object) -> str:
    """A value of the file for a message: its repr, or for a longer one its first characters or its size."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str) and len(value) > SHOWN_CHARACTERS:
        return f"{value[:SHOWN_CHARACTERS]!r}... of {len(value):,} characters"
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        return "a number with too many digits"
    if isinstance(value, dict | list) and (len(value) > SHOWN_NAMES or len(repr(value)) > SHOWN_CHARACTERS):
        return f"a {'mapping' if isinstance(value, dict) else 'list'} of {len(value)}"
    return repr(value)


def listed(names: Iterable[object]) -> str:
    """Joins names with commas; of a long list only the first ones, and the number of the others."""
    words = list(map(str, names))
    more = len(words) - SHOWN_NAMES
    return ", ".join(words) if more <= 1 else f"{', '.join(words[:SHOWN_NAMES])} and {more} more"


def _expected(context: dict[str, Any]) -> list[str]:
    return [part.strip("' ") for part in str(context["expected"]).replace(" or ", ", ").split(", ")]


def _fields_at(root: type[BaseModel], path: Path) -> list[str]:
    """Returns the field names that are allowed at `path`, from the models' annotations."""
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
    """Returns the model inside `Model | None`, `list[Model]` or `dict[str, Model]`."""
    arguments = getattr(annotation, "__args__", ())
    models = [_model_in(argument) for argument in arguments]
    return next((m for m in models if isinstance(m, type) and issubclass(m, BaseModel)), annotation)
