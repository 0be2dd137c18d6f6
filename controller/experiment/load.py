"""Reads an experiment file: YAML with line numbers, then the models, then the rules over several fields."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

import yaml
from pydantic import ValidationError

from controller.experiment.errors import Path, SpecError, SpecProblem, problems_of
from controller.experiment.models import Experiment
from controller.experiment.validate import check


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
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(str(path), [SpecProblem((), f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise SpecError(str(path), [SpecProblem((), f"is not UTF-8 text: {error.reason}")]) from error
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
            raise SpecError(source, [SpecProblem((), f"{found}; one Experiment is expected")])
        lines: dict[Path, int] = {}
        problems = _walk(nodes[0], (), lines)
        if problems:
            raise SpecError(source, problems)
        value = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = None if error.problem_mark is None else error.problem_mark.line + 1
        raise SpecError(source, [SpecProblem((), f"is not YAML: {error.problem}", line)]) from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a number of thousands of digits, or an invalid date
        raise SpecError(source, [SpecProblem((), f"is not YAML: {error}")]) from error
    if not isinstance(value, dict):
        what = "text" if isinstance(value, str) else "a list" if isinstance(value, list) else "one value"
        message = f"holds {what}, not fields; the first line of an experiment is apiVersion: potstill.dev/v1alpha1"
        raise SpecError(source, [SpecProblem((), message, 1)])
    return value, lines


def _walk(node: yaml.Node, path: Path, lines: dict[Path, int]) -> list[SpecProblem]:
    """Records the line of each field. A duplicate key is a problem (YAML would silently keep the last one)."""
    problems: list[SpecProblem] = []
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
