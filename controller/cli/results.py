"""Reads an experiment's records from a store, for commands that explain them."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import typer
from pydantic import ValidationError

from controller.cli.common import DEFAULT_STORE, frozen_from, store_at
from controller.cli.versions import earlier_versions_line, version_named
from controller.snapshot.reader import SnapshotReader
from controller.snapshot.types import StoreSnapshot, Unknown
from workloads.api import store_keys
from workloads.api.experiment import FrozenExperiment
from workloads.api.manifest import Manifest
from workloads.storage.base import NotFound, Store, StoreError
from workloads.untrusted import printable


@dataclass(frozen=True)
class Results:
    store: Store
    frozen: FrozenExperiment
    seen: StoreSnapshot


def results_here(path: Path, store: str | None, profile: Path | None) -> Results:
    """Returns the results of the experiment that `potstill run` runs from this file and profile.

    Exits 4 if it has not run in this store; raises SpecError, StoreError.
    """
    frozen = frozen_from(path, profile)
    opened = store_at(store or os.environ.get("POTSTILL_STORE", DEFAULT_STORE))
    if opened.head(store_keys.experiment_key(frozen.name, frozen.uid8)) is None:
        typer.echo(
            f"{opened.url} has no {frozen.name} {frozen.uid8}: it has not run there, or was changed since", err=True
        )
        if (line := earlier_versions_line(opened, frozen, datetime.now(UTC))) is not None:
            typer.echo(printable(line), err=True)
        raise typer.Exit(4)
    return Results(opened, frozen, seen_in(opened, frozen))


def results_of_version(version: str, store: str | None) -> Results:
    """Returns the results of `name@version`. Exits 4 if the store does not have it; raises StoreError."""
    opened = store_at(store or os.environ.get("POTSTILL_STORE", DEFAULT_STORE))
    frozen = version_named(opened, version)
    return Results(opened, frozen, seen_in(opened, frozen))


def best_run_line(store: Store, experiment: str, uid8: str) -> str | None:
    """Returns the report's sentence that names the best run, or says that none can be named, with its caveats.

    If the manifest cannot be read, the sentence says so. Returns None if there is none yet. Raises StoreError.
    """
    from workloads.results.conclusions import conclusions  # imported here, because scipy loads slowly

    key = store_keys.manifest_key(experiment, uid8)
    try:
        manifest = Manifest.model_validate_json(store.get(key))
    except NotFound:
        return None
    except ValidationError as error:
        return f"Runs are not compared: {store.url}/{key} cannot be read: {error.errors()[0]['msg']}."
    found = conclusions(manifest)
    return " ".join([found.best.sentence, *found.caveats])


def manifest_state(store: Store, frozen: FrozenExperiment) -> str | None:
    """Returns running, succeeded, partially_failed or failed; None without a manifest that can be read.

    Raises StoreError.
    """
    try:
        return Manifest.model_validate_json(store.get(store_keys.manifest_key(frozen.name, frozen.uid8))).state
    except (NotFound, ValidationError):
        return None


def seen_in(store: Store, frozen: FrozenExperiment) -> StoreSnapshot:
    """Returns the snapshot of the experiment's records.

    Tasks, task ends, offers and markers that cannot be read are in `UnitView.unreadable`. Unreadable progress, failures
    and markers of resume states are ignored, with a warning. Raises StoreError if the store does not answer, or a stage
    of the experiment is not installed.
    """
    seen = SnapshotReader(store).read(frozen, None)
    if isinstance(seen, Unknown):
        raise StoreError(seen.message)
    return seen
