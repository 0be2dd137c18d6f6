"""`potstill publish`: commits a checkpoint that another trainer wrote."""

import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from controller.accept import accept
from controller.cli.common import DEFAULT_STORE, ExperimentFile, ProfileFile, StoreUrl, frozen_from, store_at
from controller.experiment.errors import SpecError, SpecProblem
from workloads.api import store_keys
from workloads.api.evaluation_matrix import train_unit
from workloads.api.experiment import FrozenExperiment, FrozenRun
from workloads.api.records import TaskEnd
from workloads.api.tasks import ImportTask, Owner
from workloads.api.units import ExternalInputs, UnitRef
from workloads.import_checkpoints import BadCheckpoint, commit_adapter
from workloads.models.shapes import read_shapes
from workloads.storage.base import AlreadyExists, Store
from workloads.storage.content_digest import localise_model_file
from workloads.storage.markers import Superseded
from workloads.words import count_of


def publish(
    path: ExperimentFile,
    adapter: Annotated[Path, typer.Argument(help="Directory of the adapter (adapter_config.json and safetensors).")],
    run: Annotated[str, typer.Option(help="Name of the run, which says checkpoints: {publish: true}.")],
    samples: Annotated[int, typer.Option(help="Samples consumed so far: one of the run's checkpoints.expect.")],
    store: StoreUrl = DEFAULT_STORE,
    profile: ProfileFile = None,
) -> None:
    """Check an adapter against the base and commit it as a checkpoint; it is evaluated by the next `potstill run`.

    Example: potstill publish experiment.yaml out/checkpoint-50 --run mine --samples 50
    """
    opened = store_at(store, make=True)
    frozen = accept(frozen_from(Path(path), profile), opened)
    chosen = _chosen(frozen, run, samples, str(path))
    unit, now = train_unit(chosen), datetime.now(UTC)
    with tempfile.TemporaryDirectory() as folder:
        shapes = read_shapes(localise_model_file(frozen.base, "config.json", Path(folder)).parent)
        number = _reserve_attempt(opened, frozen, chosen, unit, adapter)
        try:
            marker = commit_adapter(opened, unit, number, samples, adapter, shapes, now)
        except BadCheckpoint as error:
            _close(opened, unit, number, "failed", "BadCheckpoint", str(error))
            raise SpecError(str(adapter), [SpecProblem((), str(error))]) from error
        except Superseded as error:
            _close(opened, unit, number, "superseded", "Superseded", str(error))
            other = f"{run} has another checkpoint at {count_of(samples, 'sample')} already"
            message = f"{other}, which stays: increase epoch for another"
            raise SpecError(str(adapter), [SpecProblem((), message)]) from error
    _close(opened, unit, number, "succeeded", "Published", f"{marker.name} is published")
    print(f"{run}: checkpoint at {count_of(samples, 'sample')} is committed as {marker.content[:12]}")


def _chosen(frozen: FrozenExperiment, name: str, samples: int, source: str) -> FrozenRun:
    published = [run for run in frozen.runs if run.published]
    chosen = next((run for run in published if run.name == name), None)
    if chosen is None:
        names = ", ".join(run.name for run in published) or "none"
        raise SpecError(
            source, [SpecProblem(("spec", "runs"), f"{name} takes no published checkpoints; those that do: {names}")]
        )
    if samples not in chosen.checkpoints:
        expected = ", ".join(map(str, chosen.checkpoints))
        raise SpecError(
            source, [SpecProblem(("spec", "runs"), f"{name} expects checkpoints at {expected}, not at {samples}")]
        )
    return chosen


def _reserve_attempt(store: Store, frozen: FrozenExperiment, run: FrozenRun, unit: UnitRef, adapter: Path) -> int:
    """Writes a task with the next free number, so that no other writer uses its keys."""
    assert isinstance(run.inputs, ExternalInputs)
    number = 1
    while True:
        task = ImportTask(
            unit=unit,
            number=number,
            owner=Owner(experiment=frozen.name, uid8=frozen.uid8),
            created=datetime.now(UTC),
            inputs=run.inputs,
            base=frozen.base,
            location=str(adapter.resolve()),
            expect=run.checkpoints,
        )
        try:
            store.put_new(task.key, task.to_json())
        except AlreadyExists:
            number += 1
        else:
            return number


def _close(store: Store, unit: UnitRef, number: int, outcome: str, reason: str, message: str) -> None:
    end = TaskEnd.model_validate(
        {
            "number": number,
            "outcome": outcome,
            "reason": reason,
            "message": message,
            "charged": False,
            "retry": True,
            "ended": datetime.now(UTC),
        }
    )
    with suppress(AlreadyExists):  # a `potstill run` beside it may have ended the attempt after a long upload
        store.put_new(store_keys.end_key(unit, number), end.to_json())
