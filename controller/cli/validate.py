"""`potstill validate`: checks the file and the files that it names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.cli.common import ExperimentFile, ProfileFile, profile_from, resolved_from
from controller.cli.json_output import JsonTo, shows_text, write_json
from controller.experiment.errors import SpecError, dotted
from controller.experiment.load import load_experiment
from workloads.untrusted import printable
from workloads.words import count_of

if TYPE_CHECKING:
    from controller.validation import Validation
    from workloads.api.experiment import FrozenExperiment


def validate(
    path: ExperimentFile,
    profile: ProfileFile = None,
    offline: Annotated[bool, typer.Option(help="Check only the file, not the files that it names.")] = False,
    json_to: JsonTo = None,
) -> None:
    """Check an experiment file, and the data, templates, benchmarks and base that it names, without running anything.

    Every problem has its field and line. Files that are not on this machine are listed as not checked. Exit 2 if there
    is a problem. Example: potstill validate experiment.yaml
    """
    try:
        text, body = _offline(path) if offline else _whole(path, profile)
    except SpecError as error:
        write_json(json_to, "validate", {"valid": False, "file": str(path), "problems": _problems(error)} | _EMPTY)
        raise
    write_json(json_to, "validate", {"valid": True, "file": str(path), "problems": []} | _EMPTY | body)
    if shows_text(json_to):
        print(printable("\n".join(text)))


_EMPTY: dict[str, Any] = {"experiment": None, "warnings": [], "unchecked": []}


def _offline(path: ExperimentFile) -> tuple[list[str], dict[str, Any]]:
    name = load_experiment(path).metadata.name
    return [f"{path}: {name} is well formed"], {"experiment": {"name": name}}


def _whole(path: ExperimentFile, profile: ProfileFile) -> tuple[list[str], dict[str, Any]]:
    """Returns (lines of text, fields for JSON). Raises SpecError with all problems."""
    from controller.validation import validate_contents  # imported here, because scipy loads slowly

    loaded, frozen = resolved_from(path, profile_from(profile))
    found = validate_contents(loaded.experiment, frozen)
    if found.problems:
        raise loaded.error(found.problems)
    counts = counts_of(frozen)
    counts_text = ", ".join(count_of(number, noun) for noun, number in counts.items())
    lines = [f"{path}: {frozen.name} is valid: {counts_text}", *warning_lines(found)]
    parts = {f"{noun}s": number for noun, number in counts.items()}
    body = {
        "experiment": {"name": frozen.name, "version": frozen.uid8, **parts},
        "warnings": found.warnings,
        "unchecked": found.unchecked,
    }
    return lines, body


def counts_of(frozen: FrozenExperiment) -> dict[str, int]:
    """Returns the numbers of runs, checkpoints, candidates and benchmarks, by noun."""
    runs = [run for run in frozen.runs if run.role == "run"]
    return {
        "run": len(runs),
        "checkpoint": sum(len(run.checkpoints) for run in runs),
        "candidate": len(frozen.runs) - len(runs),
        "benchmark": len(frozen.benchmarks),
    }


def warning_lines(found: Validation) -> list[str]:
    """Returns a line for each warning and for each file that was not checked."""
    return [f"warning: {text}" for text in found.warnings] + [f"not checked: {text}" for text in found.unchecked]


def _problems(error: SpecError) -> list[dict[str, Any]]:
    return [{"field": dotted(item.path), "line": item.line, "message": item.message} for item in error.problems]
