"""Reads an experiment file: YAML with line numbers, then the models, then the rules over several fields."""

import codecs
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

import yaml
from pydantic import ValidationError

from controller.experiment.errors import Path, SpecError, SpecProblem, problems_of, shortened
from controller.experiment.models import Experiment
from controller.experiment.validate import check

INTEGER = "tag:yaml.org,2002:int"
OTHER_BASE = re.compile(r"[-+]?(?:0[0-9_]+|[0-9_]+(?::[0-9_]+)+)")


@dataclass(frozen=True)
class ExperimentFile:
    """An experiment and the line of each field that is in its file."""

    experiment: Experiment
    source: str
    lines: Mapping[Path, int]

    def error(self, problems: Iterable[SpecProblem]) -> SpecError:
        """Returns an error with the problems and their lines, each once, in the file's order."""
        located = {(problem.path, problem.message): _with_line(problem, self.lines) for problem in problems}
        return SpecError(self.source, sorted(located.values(), key=lambda problem: problem.line or 0))


def load_experiment(path: FilePath) -> Experiment:
    """Raises SpecError with every problem, each with its line."""
    return load_experiment_file(path).experiment


def load_experiment_file(path: FilePath) -> ExperimentFile:
    """Like `load_experiment`, with the lines."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SpecError(str(path), [SpecProblem((), f"cannot be read: {error.strerror}")]) from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise SpecError(str(path), [SpecProblem((), "is UTF-16 text: save it as UTF-8")]) from error
        line = data.count(b"\n", 0, error.start) + 1
        message = f"is not UTF-8 text: byte {data[error.start]:#04x}; save it as UTF-8"
        raise SpecError(str(path), [SpecProblem((), message, line)]) from error
    return parse_experiment_file(text, str(path))


def parse_experiment(text: str, source: str) -> Experiment:
    """Returns the experiment in `text`; errors name `source`. Raises SpecError."""
    return parse_experiment_file(text, source).experiment


def parse_experiment_file(text: str, source: str) -> ExperimentFile:
    """Like `parse_experiment`, with the lines."""
    value, lines = _read_yaml(text, source)
    try:
        experiment = Experiment.model_validate(value, by_alias=True, by_name=False)
    except ValidationError as error:
        raise SpecError(source, [_with_line(p, lines) for p in problems_of(error, Experiment)]) from error
    problems = check(experiment.spec)
    if problems:
        raise SpecError(source, [_with_line(p, lines) for p in problems])
    return ExperimentFile(experiment, source, lines)


def _with_line(problem: SpecProblem, lines: Mapping[Path, int]) -> SpecProblem:
    """Adds the line of the field, or of the nearest enclosing field that is in the file."""
    for length in range(len(problem.path), 0, -1):
        if problem.path[:length] in lines:
            return SpecProblem(problem.path, problem.message, lines[problem.path[:length]])
    return problem


def _read_yaml(text: str, source: str) -> tuple[dict[str, Any], dict[Path, int]]:
    try:
        nodes = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
        if len(nodes) != 1 or nodes[0] is None:
            found = "is empty" if not any(nodes) else f"holds {len(nodes)} documents"
            line = nodes[1].start_mark.line + 1 if len(nodes) > 1 and nodes[1] is not None else None
            raise SpecError(source, [SpecProblem((), f"{found}; one Experiment is expected", line)])
        lines: dict[Path, int] = {}
        problems = _walk(nodes[0], (), lines)
        if problems:
            raise SpecError(source, problems)
        value = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = None if error.problem_mark is None else error.problem_mark.line + 1
        raise SpecError(source, [SpecProblem((), f"is not YAML: {error.problem}", line)]) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"is not YAML: the character #x{error.character:04x} may not be in it"
        raise SpecError(source, [SpecProblem((), message, line)]) from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a number of thousands of digits, a date that is none
        raise SpecError(source, [SpecProblem((), f"is not YAML: {error}")]) from error
    if not isinstance(value, dict):
        what = "text" if isinstance(value, str) else "a list" if isinstance(value, list) else "one value"
        message = f"holds {what}, not fields; the first line of an experiment is apiVersion: potstill.dev/v1alpha1"
        raise SpecError(source, [SpecProblem((), message, 1)])
    return value, lines


def _walk(node: yaml.Node, path: Path, lines: dict[Path, int]) -> list[SpecProblem]:
    """Notes the line of each field; a repeated key is a problem (YAML would keep the last, silently).

    So is a number such as 010, which YAML reads as 8, and 1:30, which it reads as 90.
    """
    problems: list[SpecProblem] = []
    if isinstance(node, yaml.ScalarNode) and node.tag == INTEGER and OTHER_BASE.fullmatch(node.value):
        message = f"YAML reads {shortened(node.value)} in base 8 or 60: write a decimal number, or put text in quotes"
        problems.append(SpecProblem(path, message, node.start_mark.line + 1))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place = (*path, str(key.value))
            line = key.start_mark.line + 1
            if place in lines:
                problems.append(SpecProblem(place, f"is repeated (first on line {lines[place]})", line))
            lines[place] = line
            problems += _walk(value, place, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*path, index)] = value.start_mark.line + 1
            problems += _walk(value, (*path, index), lines)
    return problems
