"""`potstill list`: the experiments of a store."""

import json
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from controller.cli.common import DEFAULT_STORE, store_at, wide_console
from controller.cli.versions import Version, age, differences, differs_in, versions_in
from controller.terminal import shown

COLUMNS = ("experiment", "phase", "age", "runs", "checkpoints", "graded", "")


def list_experiments(
    store: Annotated[
        str, typer.Argument(envvar="POTSTILL_STORE", help="A directory, or s3://bucket/prefix.", metavar="STORE")
    ] = DEFAULT_STORE,
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """List the experiments of a store, by name@version, and in what each differs from the newest of its name.

    report, show and gate take a name@version in place of a file. Example: potstill list s3://lab/potstill
    """
    opened, now = store_at(store), datetime.now(UTC)
    found = [(version, _fields(version, newest)) for version, newest in _with_newest(versions_in(opened))]
    if as_json:
        whole = {"store": opened.url, "experiments": [_as_json(version, fields) for version, fields in found]}
        sys.stdout.write(json.dumps(whole) + "\n")
        return
    if not found:
        print(f"{opened.url} has no experiment")
        return
    table = Table(*COLUMNS, box=None, pad_edge=False)
    for version, fields in found:
        table.add_row(*map(shown, _cells(version, fields, now)))
    wide_console().print(table)


def _with_newest(versions: Sequence[Version]) -> Iterator[tuple[Version, Version]]:
    newest: dict[str, Version] = {}
    for version in versions:
        yield version, newest.setdefault(version.name, version)


def _fields(version: Version, newest: Version) -> tuple[str, ...] | None:
    """What differs from the newest; None of the newest itself and where one cannot be read."""
    if version is newest or version.frozen is None or newest.frozen is None:
        return None
    return differences(version.frozen, newest.frozen)


def _cells(version: Version, fields: tuple[str, ...] | None, now: datetime) -> tuple[str, ...]:
    if version.frozen is None:
        return (version.id, version.phase, "", "", "", "", version.error)
    counts, (committed, all_checkpoints) = version.evaluations, version.checkpoints
    note = "" if fields is None else differs_in(fields)
    failed = f", {counts.failed} failed" if counts.failed else ""
    graded = f"{counts.graded}/{counts.asked}{failed}" if version.manifest else ""
    old = age(version.frozen.accepted, now)
    checkpoints = f"{committed}/{all_checkpoints}"
    return (version.id, version.phase, old, str(len(version.frozen.runs)), checkpoints, graded, note)


def _as_json(version: Version, fields: tuple[str, ...] | None) -> dict[str, Any]:
    counts, (committed, all_checkpoints) = version.evaluations, version.checkpoints
    return {
        "name": version.name,
        "version": version.uid8,
        "phase": version.phase,
        "accepted": version.frozen.accepted.isoformat() if version.frozen else None,
        "runs": [run.name for run in version.frozen.runs] if version.frozen else [],
        "checkpoints": {"committed": committed, "all": all_checkpoints},
        "evaluations": {"graded": counts.graded, "failed": counts.failed, "asked": counts.asked},
        "differs_from_newest_in": fields,
        "error": version.error or None,
    }
