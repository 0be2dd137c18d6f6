"""`potstill export`: writes results for W&B, MLflow or TensorBoard. It reads the store, also while training runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.common import DEFAULT_STORE, ProfileFile, StoreUrl, store_at
from controller.cli.experiment_names import find_frozen
from controller.cli.manifests import manifest_at, manifest_of
from workloads.api import store_keys
from workloads.api.manifest import Manifest
from workloads.storage.base import Store
from workloads.words import count_of

if TYPE_CHECKING:
    from workloads.exporters.tracked import Tracked

FOLLOW_SECONDS = 5.0


class Tracker(StrEnum):
    WANDB = "wandb"
    MLFLOW = "mlflow"
    TENSORBOARD = "tensorboard"


def export(
    tracker: Annotated[Tracker, typer.Argument(help="For whom.", metavar="wandb|mlflow|tensorboard")],
    where: Annotated[
        str,
        typer.Argument(
            help="The experiment file; name@version of potstill list; or a manifest.json, a path or a URL in a store.",
            metavar="EXPERIMENT.YAML|NAME@VERSION|MANIFEST",
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option("--out", help="Folder to write to; for mlflow also the URL of a tracking server.", metavar="DIR"),
    ] = None,
    to: Annotated[str | None, typer.Option("--to", hidden=True)] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Continue until the experiment has ended, or Ctrl-C.")
    ] = False,
    store: StoreUrl = DEFAULT_STORE,
    profile: ProfileFile = None,
) -> None:
    """Write curves, evaluations with their intervals, parameters and provenance for another tracker.

    The command reads the store, so no training waits for a tracker. A second export adds only new data. Example:
    potstill export tensorboard experiment.yaml --out runs --follow
    """
    target = out or to
    if target is None:
        raise typer.BadParameter("is required: a folder to write to", param_hint="--out")
    if "://" in target and not (tracker is Tracker.MLFLOW and target.startswith(("http://", "https://"))):
        message = f"{target}: give a folder, or for mlflow the http:// or https:// URL of a tracking server"
        raise typer.BadParameter(message, param_hint="--out")
    read = reader_of(where, store, profile)
    try:
        with writer_for(tracker, target) as write, suppress(KeyboardInterrupt):
            runs = follow_experiment(read, write) if follow else write(read.manifest(), read.store)
            typer.echo(f"{count_of(runs, 'run')} written to {target}; {_opened_with(tracker, target)}")
    except ModuleNotFoundError as error:
        if error.name not in ("wandb", "mlflow", "tensorboardX"):
            raise
        raise typer.BadParameter(
            f"{error.name} is not installed: in the checkout, pip install '.[export-{tracker.value}]'"
        ) from error
    except FileExistsError as error:
        message = f"{error} exists already, and potstill export did not write it: remove it, or choose another --out"
        raise typer.BadParameter(message) from error


@dataclass(frozen=True)
class Reader:
    """`manifest`: exits 4 if there is none. `store`: None for a manifest without its store."""

    manifest: Callable[[], Manifest]
    exists: Callable[[], bool]
    store: Store | None


Write = Callable[[Manifest, Store | None], int]
"""Writes new data, and returns the number of runs."""


def reader_of(where: str, store: str, profile: Path | None) -> Reader:
    """Returns a reader of the manifest. If the manifest is in a store, it is read with its store."""
    if not where.endswith(".json"):
        opened, frozen = find_frozen(where, store, profile)
        name, uid8 = frozen.name, frozen.uid8
        key = store_keys.manifest_key(name, uid8)
        return Reader(lambda: manifest_of(opened, name, uid8), lambda: opened.head(key) is not None, opened)
    manifest = manifest_at(where)
    place = where if "://" in where else str(Path(where).resolve())
    root, found, _ = place.rpartition("/" + store_keys.manifest_key(manifest.experiment, manifest.uid8))
    return Reader(lambda: manifest_at(where), lambda: True, store_at(root) if found else None)


def follow_experiment(read: Reader, write: Write, pause_seconds: float = FOLLOW_SECONDS) -> int:
    """Exports every `pause_seconds` until the experiment has ended. Raises StoreError."""
    if not read.exists():
        typer.echo("waiting for the first results", err=True)
    while not read.exists():
        time.sleep(pause_seconds)
    while True:
        manifest = read.manifest()
        runs = write(manifest, read.store)
        if manifest.state != "running":
            return runs
        time.sleep(pause_seconds)


@contextmanager
def writer_for(tracker: Tracker, target: str) -> Iterator[Write]:
    """Gives a function that writes to the tracker, and imports its library only now.

    Raises ModuleNotFoundError, FileExistsError.
    """
    from workloads.exporters.metrics import live_points, training_points  # imported here, because scipy loads slowly
    from workloads.exporters.tracked import experiment_name, tracked

    def runs_of(manifest: Manifest, opened: Store | None) -> tuple[Tracked, ...]:
        if opened is None:
            typer.echo("no store beside this manifest: training curves have at most 200 points a run", err=True)
        live = live_points(manifest, opened) if opened is not None and manifest.state == "running" else {}
        return tracked(manifest, training_points(manifest, opened), live)

    if tracker is Tracker.WANDB:
        from workloads.exporters.wandb_runs import OfflineRuns

        with ExitStack() as stack:
            writers: list[OfflineRuns] = []

            def write_wandb(manifest: Manifest, opened: Store | None) -> int:
                if not writers:
                    writers.append(stack.enter_context(OfflineRuns(experiment_name(manifest), Path(target))))
                runs = runs_of(manifest, opened)
                writers[0].update(runs)
                return len(runs)

            yield write_wandb
    elif tracker is Tracker.MLFLOW:
        from workloads.exporters import mlflow_store

        def write_mlflow(manifest: Manifest, opened: Store | None) -> int:
            runs = runs_of(manifest, opened)
            mlflow_store.update(experiment_name(manifest), runs, target, datetime.now(UTC))
            return len(runs)

        yield write_mlflow
    else:
        from workloads.exporters import event_files

        def write_events(manifest: Manifest, opened: Store | None) -> int:
            runs = runs_of(manifest, opened)
            event_files.update(experiment_name(manifest), runs, Path(target), datetime.now(UTC))
            return len(runs)

        yield write_events


def _opened_with(tracker: Tracker, to: str) -> str:
    return {
        Tracker.WANDB: f"send them with: wandb sync {to}/wandb/offline-run-*",
        Tracker.MLFLOW: f"look at them with: MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri {to}"
        if "://" not in to
        else "look at them there",
        Tracker.TENSORBOARD: f"look at them with: tensorboard --logdir {to}",
    }[tracker]
