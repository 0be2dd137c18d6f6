"""What a store holds of an experiment, for the commands that explain it."""

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
    """Of the file as `potstill run` runs it. Exits 4 when it has not run there; raises SpecError, StoreError."""
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
    """Of `name@version`. Exits 4 when the store has none such; raises StoreError."""
    opened = store_at(store or os.environ.get("POTSTILL_STORE", DEFAULT_STORE))
    frozen = version_named(opened, version)
    return Results(opened, frozen, seen_in(opened, frozen))


def best_run_line(store: Store, experiment: str, uid8: str) -> str | None:
    """The report's sentence that names the best run, or says that none can be named, and its caveats.

    None before there is a manifest.

    Raises StoreError.
    """
    from workloads.results.conclusions import conclusions  # here, because scipy takes its time to load

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
    """running, succeeded, partially_failed or failed; None before there is a manifest. Raises StoreError."""
    try:
        return Manifest.model_validate_json(store.get(store_keys.manifest_key(frozen.name, frozen.uid8))).state
    except (NotFound, ValidationError):
        return None


def seen_in(store: Store, frozen: FrozenExperiment) -> StoreSnapshot:
    """Raises StoreError for what could not be read."""
    seen = SnapshotReader(store).read(frozen, None)
    if isinstance(seen, Unknown):
        raise StoreError(seen.message)
    return seen
