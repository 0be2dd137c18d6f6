"""`potstill export`: results for W&B, MLflow or TensorBoard, written on this machine and sent nowhere."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.common import DEFAULT_STORE, ProfileFile, StoreUrl, frozen_from, store_at
from controller.cli.manifests import manifest_at, manifest_of
from workloads.api import store_keys
from workloads.api.manifest import Manifest
from workloads.storage.base import Store

if TYPE_CHECKING:
    from workloads.exporters.tracked import Tracked


class Tracker(StrEnum):
    WANDB = "wandb"
    MLFLOW = "mlflow"
    TENSORBOARD = "tensorboard"


def export(
    tracker: Annotated[Tracker, typer.Argument(help="For whom.", metavar="wandb|mlflow|tensorboard")],
    where: Annotated[
        str,
        typer.Argument(
            help="The experiment file; or a manifest.json, as a path or a URL in a store.",
            metavar="EXPERIMENT.YAML|MANIFEST",
        ),
    ],
    to: Annotated[Path, typer.Option("--to", help="Folder to write to.", metavar="DIR")],
    store: StoreUrl = DEFAULT_STORE,
    profile: ProfileFile = None,
) -> None:
    """Loss, learning rate and speed of each step; every evaluation with its interval; parameters and provenance."""
    from workloads.exporters.metrics import training_points  # here, because scipy takes its time to load
    from workloads.exporters.tracked import experiment_name, tracked

    manifest, opened = _found(where, store, profile)
    if opened is None:
        typer.echo("no store beside this manifest: training curves have at most 200 points a run", err=True)
    runs = tracked(manifest, training_points(manifest, opened))
    try:
        _write(tracker, experiment_name(manifest), runs, to)
    except ModuleNotFoundError as error:
        if error.name not in ("wandb", "mlflow", "tensorboardX"):
            raise
        raise typer.BadParameter(
            f"{error.name} is not installed: in the checkout, pip install '.[export-{tracker.value}]'"
        ) from error
    except FileExistsError as error:
        raise typer.BadParameter(f"{error} is there already: remove it, or choose another --to") from error
    typer.echo(f"{len(runs)} runs written to {to}; {_opened_with(tracker, to)}")


def _found(where: str, store: str, profile: Path | None) -> tuple[Manifest, Store | None]:
    """A manifest that stands in a store is read with that store."""
    if where.endswith((".yaml", ".yml")):
        frozen, opened = frozen_from(Path(where), profile), store_at(store)
        return manifest_of(opened, frozen.name, frozen.uid8), opened
    manifest = manifest_at(where)
    place = where if "://" in where else str(Path(where).resolve())
    root, found, _ = place.rpartition("/" + store_keys.manifest_key(manifest.experiment, manifest.uid8))
    return manifest, store_at(root) if found else None


def _write(tracker: Tracker, experiment: str, runs: tuple[Tracked, ...], to: Path) -> None:
    """Each library is loaded only for who asks for it. Raises ModuleNotFoundError, FileExistsError."""
    if tracker is Tracker.WANDB:
        from workloads.exporters import wandb_runs

        wandb_runs.write(experiment, runs, to)
    elif tracker is Tracker.MLFLOW:
        from workloads.exporters import mlflow_store

        mlflow_store.write(experiment, runs, to, datetime.now(UTC))
    else:
        from workloads.exporters import event_files

        event_files.write(experiment, runs, to, datetime.now(UTC))


def _opened_with(tracker: Tracker, to: Path) -> str:
    return {
        Tracker.WANDB: f"send them with: wandb sync {to}/wandb/offline-run-*",
        Tracker.MLFLOW: f"look at them with: MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri {to}",
        Tracker.TENSORBOARD: f"look at them with: tensorboard --logdir {to}",
    }[tracker]
