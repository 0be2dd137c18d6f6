"""`potstill list`: lists the experiments of a store."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.table import Table

from controller.cli.common import DEFAULT_STORE, StorePlace, StoreUrl, stated_store, store_at, wide_console
from controller.cli.json_output import JsonTo, shows_text, write_json
from controller.cli.versions import Version, age, differences, differs_in, versions_in
from controller.terminal import shown

COLUMNS = ("experiment", "phase", "age", "runs", "checkpoints", "graded", "")


def list_experiments(
    place: StorePlace = None,
    store: StoreUrl = DEFAULT_STORE,
    json_to: JsonTo = None,
) -> None:
    """List the experiments of a store by name@version, each with the fields in which it differs from the newest of its
    name.

    report, show, logs, gate, diff, export, fetch and retry take a name@version in place of a file.
    Example: potstill list --store s3://lab/potstill
    """
    opened, now = store_at(stated_store(place, store)), datetime.now(UTC)
    found = [(version, _fields(version, newest)) for version, newest in _with_newest(versions_in(opened))]
    body = {"store": opened.url, "experiments": [_as_json(version, fields) for version, fields in found]}
    write_json(json_to, "list", body)
    if not shows_text(json_to):
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
    """Returns the fields that differ from the newest version.

    Returns None for the newest version, and if one of the two cannot be read.
    """
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
