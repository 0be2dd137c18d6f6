"""Finds a manifest: of an experiment in a store, or at a URL or path."""

import time
from pathlib import Path

import typer
from pydantic import ValidationError

from controller.cli.common import store_at
from controller.cli.versions import versions_in
from workloads.api import store_keys
from workloads.api.counts import evaluation_counts
from workloads.api.manifest import Manifest
from workloads.storage.base import NotFound, Store
from workloads.words import count_of

POLL_SECONDS = 5.0


def manifest_of(store: Store, experiment: str, uid8: str) -> Manifest:
    """Returns an experiment's manifest. Exits 4 if there is none yet or it cannot be read; raises StoreError."""
    key = store_keys.manifest_key(experiment, uid8)
    try:
        return _parsed(store.get(key), f"{store.url}/{key}")
    except NotFound:
        typer.echo(
            f"{store.url} has no {key}: this version of the experiment has no results yet, never ran in this store, or "
            "its file has changed",
            err=True,
        )
        if others := ", ".join(version.id for version in versions_in(store, experiment)):
            typer.echo(f"the store has these versions of {experiment}: {others}", err=True)
        raise typer.Exit(4) from None


def finished_manifest_at(where: str, wait_seconds: float) -> Manifest:
    """Returns the manifest when its experiment has ended, or the current one at the deadline. Prints what it waits for.

    Exits and raises like `manifest_at`. It also waits for a manifest that does not exist yet.
    """
    deadline, last_progress = time.monotonic() + wait_seconds, ""
    while (remaining_seconds := deadline - time.monotonic()) > 0:
        found = _manifest_or_none(where)
        if found is not None and found.state != "running":
            return found
        if (progress := _progress(found)) != last_progress:
            typer.echo(progress)
            last_progress = progress
        time.sleep(min(POLL_SECONDS, remaining_seconds))
    found = manifest_at(where)
    if found.state == "running":
        typer.echo(
            f"the experiment of {where} has not finished: run the gate again later (the gate only reads the results)",
            err=True,
        )
    return found


def _progress(found: Manifest | None) -> str:
    if found is None:
        return "waiting for the first results"
    counts = evaluation_counts((e.model, e.benchmark, e.state) for e in found.evaluations)
    return f"{found.experiment} is running: {counts.graded} of {count_of(counts.asked, 'evaluation')} done"


def manifest_at(where: str) -> Manifest:
    """Reads a manifest from a file, or from a URL in a store.

    Exits 4 if it does not exist or cannot be read; raises StoreError.
    """
    found = _manifest_or_none(where)
    if found is None:
        typer.echo(f"{where} does not exist", err=True)
        raise typer.Exit(4)
    return found


def _manifest_or_none(where: str) -> Manifest | None:
    """Returns None if it does not exist."""
    if "://" not in where:
        path = Path(where)
        return _parsed(path.read_bytes(), where) if path.is_file() else None
    root, _, rest = where.partition("/experiments/")
    try:
        return _parsed(store_at(root).get(f"experiments/{rest}"), where)
    except NotFound:
        return None


def _parsed(data: bytes, where: str) -> Manifest:
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        typer.echo(f"{where} is not a manifest that this version can read: {error}", err=True)
        raise typer.Exit(4) from error
