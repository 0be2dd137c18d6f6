"""`potstill gate`: decides whether a candidate passes. For CI, with read-only access to the store."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from controller.cli.common import DEFAULT_STORE, ProfileFile, StoreUrl, frozen_from, store_at
from controller.cli.expected import STORE_ERRORS, WRONG_INPUT
from controller.cli.json_output import JsonTo, shows_text, write_json
from controller.cli.manifests import finished_manifest_at, manifest_at, manifest_of
from controller.cli.versions import is_version, version_named
from workloads.api.experiment import FrozenGate
from workloads.api.manifest import Manifest

if TYPE_CHECKING:
    from workloads.results.comparable import Side
    from workloads.results.gate import GateResult


def gate(
    path: Annotated[
        Path | None,
        typer.Argument(
            help="The experiment file, or a version of potstill list; or give --manifest.",
            metavar="[EXPERIMENT.YAML|NAME@VERSION]",
        ),
    ] = None,
    manifest: Annotated[str | None, typer.Option(help="A manifest.json: a file or a URL in a store.")] = None,
    wait: Annotated[
        float, typer.Option(help="With --manifest: wait so long for the experiment's end.", metavar="MINUTES", min=0)
    ] = 0,
    store: StoreUrl = DEFAULT_STORE,
    profile: ProfileFile = None,
    junit_file: Annotated[Path | None, typer.Option("--junit", help="Write JUnit XML here.")] = None,
    summary_file: Annotated[Path | None, typer.Option("--summary", help="Append the Markdown summary here.")] = None,
    json_to: JsonTo = None,
) -> None:
    """Compare the candidate of spec.gate with its baseline, from results in the store. Nothing is run.

    Exit 0 pass, 1 fail, 2 wrong use, 3 not enough evidence, 4 could not be evaluated.
    Example: potstill gate experiment.yaml --junit gate.xml --json gate.json
    """
    if (path is None) == (manifest is None):
        raise _wrong("give an experiment file or --manifest, one of the two")
    if wait and manifest is None:
        raise _wrong("--wait needs --manifest: the file does not identify an Experiment in a cluster")
    with _crash_is_not_a_failure():
        result = _result(path, manifest, wait, store, profile)
        text = _written(result, junit_file, summary_file)
        write_json(json_to, "gate", _as_json(result))
        if shows_text(json_to):
            typer.echo(text, nl=False)
    raise typer.Exit(int(result.exit_code))


@contextmanager
def _crash_is_not_a_failure() -> Iterator[None]:
    """An unexpected error exits with 4 and its traceback.

    Python's own exit code, 1, would mean that the candidate failed.
    """
    try:
        yield
    except (typer.Exit, typer.BadParameter, *WRONG_INPUT, *STORE_ERRORS):
        raise
    except Exception as error:
        traceback.print_exc()
        typer.echo(f"the gate could not be evaluated: {type(error).__name__}: {error}", err=True)
        raise typer.Exit(4) from error


def _result(path: Path | None, manifest: str | None, wait: float, store: str, profile: Path | None) -> GateResult:
    from workloads.results.gate import judge  # imported here, because scipy loads slowly

    asked: FrozenGate | None
    if path is not None:
        opened, named = store_at(store), is_version(str(path))
        frozen = version_named(opened, str(path)) if named else frozen_from(path, profile)
        found, asked = manifest_of(opened, frozen.name, frozen.uid8), frozen.gate
    else:
        found = finished_manifest_at(manifest or "", 60 * wait)
        asked = found.gate
    if asked is None:
        raise _wrong("the experiment has no spec.gate: state the candidate, the baseline and the requirements there")
    candidate, baseline = _sides(found, asked)
    return judge(asked, candidate, baseline)


def _as_json(result: GateResult) -> dict[str, Any]:
    from workloads.results.gate_text import gate_json

    found: dict[str, Any] = json.loads(gate_json(result))
    return found


def _written(result: GateResult, junit_file: Path | None, summary_file: Path | None) -> str:
    """Writes the requested files. Returns the Markdown summary."""
    from workloads.results.gate_text import gate_markdown, junit

    text = gate_markdown(result)
    if junit_file is not None:
        junit_file.write_bytes(junit(result))
    if summary_file is not None:
        with summary_file.open("a", encoding="utf-8") as file:
            file.write(text)
    return text


def _sides(found: Manifest, asked: FrozenGate) -> tuple[Side, Side]:
    """A baseline `URL#model` belongs to another experiment.

    Without a model, it is the candidate that passed that experiment's gate.
    """
    from workloads.results.gate import UnknownModel, side_of

    try:
        candidate = side_of(found, asked.candidate)
        where, _, model = asked.baseline.partition("#")
        if "://" not in where and not where.endswith(".json"):
            return candidate, side_of(found, asked.baseline)
        other = manifest_at(where)
        return candidate, side_of(other, model or (other.gate.candidate if other.gate else "base"))
    except UnknownModel as error:
        raise _wrong(str(error)) from error
    except ValidationError as error:
        raise _wrong(f"{asked.baseline} is not a manifest that this version can read: {error}") from error


def _wrong(message: str) -> typer.BadParameter:
    return typer.BadParameter(message)
