"""The adapter that a training starts from: its digest, and the rank, alpha and layers in its configuration."""

import tempfile
from pathlib import Path as FilePath

from controller.experiment.errors import Path, SpecError, SpecProblem, shortened
from controller.experiment.files import resolve_adapter
from controller.experiment.models import ExperimentSpec
from workloads.api.tasks import ModelSource
from workloads.api.units import Lora
from workloads.models.adapter_config import AdapterConfig, BadAdapter, read_config
from workloads.models.adapters import CONFIG
from workloads.storage.base import StoreError
from workloads.storage.content_digest import ContentError, localise_model_file
from workloads.storage.registry import is_in_store


def resolve_start(spec: ExperimentSpec, index: int, directory: FilePath) -> ModelSource | None:
    """Returns the adapter that run `index` starts from, by content; None for a new one.

    Raises SpecError, ContentError.
    """
    run = spec.runs[index]
    stated = run.start_from or spec.training.start_from
    if stated is None or run.checkpoints is not None:
        return None
    place: Path = ("spec", "runs", index) if run.start_from is not None else ("spec", "training")
    return resolve_adapter(stated.adapter, stated.content, (*place, "startFrom", "adapter"), directory)


def lora_of_start(start: ModelSource, stated: Lora, default: Lora, place: Path) -> Lora:
    """Returns `stated`, with the adapter's value for each field that equals `default`.

    Dropout is always as stated, because the adapter does not fix it. If the adapter cannot be read here, the training
    compares it. Raises SpecError where `stated` and the adapter differ.
    """
    try:
        config = _read(start)
    except (ContentError, StoreError) as error:
        if not is_in_store(start.location):
            message = f"{error}: name the directory of an adapter, as potstill fetch and peft write it"
            raise SpecError("experiment", [SpecProblem((*place, "startFrom", "adapter"), message)]) from error
        if stated.model_copy(update={"dropout": default.dropout}) != default:
            return stated
        message = f"{start.location} cannot be read here ({error}): state rank, alpha and target as it has them"
        raise SpecError("experiment", [SpecProblem((*place, "lora"), message)]) from error
    except BadAdapter as error:
        message = f"{start.location}: {error}"
        raise SpecError("experiment", [SpecProblem((*place, "startFrom", "adapter"), message)]) from error
    if wrong := _why_not_taken(config):
        message = f"{start.location}: adapter_config.json: {wrong}"
        raise SpecError("experiment", [SpecProblem((*place, "startFrom", "adapter"), message)])
    for name, found in (("rank", config.rank), ("alpha", config.alpha), ("rslora", config.rslora)):
        if getattr(stated, name) not in (found, getattr(default, name)):
            message = f"is {getattr(stated, name)}, and the adapter to start from has {found}: state that or nothing"
            raise SpecError("experiment", [SpecProblem((*place, "lora", name), message)])
    target = stated.target
    if target == default.target:
        if not config.target_modules:
            message = "is required: the adapter to start from does not name its layers one by one"
            raise SpecError("experiment", [SpecProblem((*place, "lora", "target"), message)])
        target = tuple(sorted({name.rpartition(".")[2] for name in config.target_modules}))
    taken = {"rank": config.rank, "alpha": config.alpha, "rslora": config.rslora, "target": target}
    return stated.model_copy(update=taken)


def _why_not_taken(config: AdapterConfig) -> str | None:
    """Returns why the fields of `lora` cannot be taken from the adapter; None if they can."""
    if config.alpha <= 0:
        return f"lora_alpha is {config.alpha:g}, and must be more than 0: with 0 nothing is learnt"
    for name in config.target_modules:
        if not name.rpartition(".")[2].isidentifier():
            return f"target_modules has {shortened(name)}, which is not a layer's name"
    return None


def _read(start: ModelSource) -> AdapterConfig:
    """Raises BadAdapter, ContentError, StoreError."""
    with tempfile.TemporaryDirectory() as folder:
        return read_config(localise_model_file(start, CONFIG, FilePath(folder)))
