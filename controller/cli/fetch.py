"""`potstill fetch`: copies a checkpoint out of the store, as an adapter or as whole weights."""

import json
import shutil
import uuid
from pathlib import Path
from typing import Annotated

import typer

from controller.cli.common import DEFAULT_STORE, ProfileFile, StoreUrl
from controller.cli.experiment_names import FileOrVersion, find_frozen
from controller.experiment.errors import SpecError, SpecProblem, listed
from workloads.api import store_keys
from workloads.api.evaluation_matrix import train_unit
from workloads.api.experiment import FrozenExperiment, FrozenRun
from workloads.api.records import CheckpointRecord, Marker
from workloads.api.tasks import ModelSource
from workloads.storage import markers
from workloads.storage.base import Store
from workloads.storage.content_digest import localise_model


def fetch(
    experiment: FileOrVersion,
    checkpoint: Annotated[str, typer.Argument(help="run@samples, or run@last.", metavar="RUN@SAMPLES")],
    directory: Annotated[Path, typer.Argument(help="Directory for the files; it is created.", metavar="DIRECTORY")],
    merge: Annotated[bool, typer.Option("--merge", help="Whole weights: the adapter merged into the base.")] = False,
    store: StoreUrl = DEFAULT_STORE,
    profile: ProfileFile = None,
) -> None:
    """Copy a committed checkpoint into a directory and check its hashes. It is an adapter; with --merge, whole weights.

    The checkpoint of a run with method: full is always whole weights.

    Example: potstill fetch experiment.yaml math@last adapter
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise SpecError(str(directory), [SpecProblem((), "exists already and is not empty: name a new directory")])
    opened, frozen = find_frozen(experiment, store, profile)
    marker = _checkpoint(frozen, opened, checkpoint, experiment)
    arriving = directory.with_name(f"{directory.name}.{uuid.uuid4().hex}.arriving")
    arriving.mkdir(parents=True)
    try:
        markers.fetch(opened, marker, [file.name for file in marker.files], arriving)
        assert isinstance(marker.record, CheckpointRecord)
        if marker.record.weights == "model":
            done = f"the trained model {marker.content[:12]}, whole weights,"
        elif merge:
            done = _merge(frozen.base, marker, arriving)
        else:
            _name_base(frozen.base, arriving / "adapter_config.json")
            done = f"the adapter {marker.content[:12]}"
        if directory.exists():
            directory.rmdir()
        arriving.rename(directory)
    finally:
        shutil.rmtree(arriving, ignore_errors=True)
    print(f"{checkpoint}: {done} is in {directory}")


def _checkpoint(frozen: FrozenExperiment, store: Store, name: str, source: str) -> Marker:
    run_name, _, samples = name.partition("@")
    runs = [run for run in frozen.runs if run.role == "run"]
    run = next((run for run in runs if run.name == run_name), None)
    known = [f"{one.name}@{count}" for one in runs for count in one.checkpoints]
    if run is None or not (samples == "last" or f"{run_name}@{samples}" in known):
        raise SpecError(source, [SpecProblem(("spec", "runs"), f"there is no {name}; there are {listed(known)}")])
    count = run.checkpoints[-1] if samples == "last" else int(samples)
    marker = markers.read_marker(store, train_unit(run), store_keys.checkpoint_marker(count))
    if marker is None:
        message = f"{name} is not committed in {store.url}; committed are {_committed(store, run)}"
        raise SpecError(source, [SpecProblem(("spec", "runs"), message)])
    if not isinstance(marker.record, CheckpointRecord) or not marker.files:
        raise SpecError(
            source,
            [SpecProblem(("spec", "runs"), f"{name} has whole weights, which stay where another trainer wrote them")],
        )
    return marker


def _committed(store: Store, run: FrozenRun) -> str:
    unit = train_unit(run)
    counts = [
        n for n in run.checkpoints if markers.read_marker(store, unit, store_keys.checkpoint_marker(n)) is not None
    ]
    return listed(f"{run.name}@{count}" for count in counts) or "none"


def _name_base(base: ModelSource, config: Path) -> None:
    """Writes the base's location into `base_model_name_or_path`, where AutoPeftModel reads it.

    The file in the store does not have it, so that equal weights have equal files.
    """
    stated = json.loads(config.read_text())
    name, _, revision = base.location.removeprefix("hub://").partition("@")
    stated["base_model_name_or_path"] = name
    if revision and base.location.startswith("hub://"):
        stated["revision"] = revision
    else:
        stated["base_model_name_or_path"] = base.location
    config.write_text(json.dumps(stated, indent=2) + "\n")


def _merge(base: ModelSource, marker: Marker, folder: Path) -> str:
    try:
        from workloads.evaluate.merged_files import write_merged
    except ImportError as error:
        message = f"needs torch: install potstill with the extra local ({error})"
        raise SpecError("--merge", [SpecProblem((), message)]) from error
    from workloads.engines.base import Adapter, BadAdapter, BadBase

    adapter = folder / f"adapter-{uuid.uuid4().hex}"
    adapter.mkdir()
    for file in marker.files:
        (folder / file.name).rename(adapter / file.name)
    try:
        changed = write_merged(localise_model(base), Adapter(marker.content, adapter, 0), folder)
    except (BadAdapter, BadBase) as error:
        raise SpecError("--merge", [SpecProblem((), str(error))]) from error
    shutil.rmtree(adapter)
    return f"the base with {changed} weights changed by the adapter {marker.content[:12]}"
