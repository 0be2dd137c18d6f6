"""Finds in a base's files what a trainer or an engine would refuse: weights, targets and memory. No torch."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pynvml
from rich.filesize import decimal

from controller.executors.local.machine import visible_gpus
from controller.experiment.errors import Path as Place
from controller.experiment.errors import SpecError, SpecProblem, listed
from controller.experiment.models import ExperimentSpec
from controller.experiment.profile import Profile
from controller.experiment.trainer import base_problems, check_targets, fast_titles
from controller.experiment.validate import nearest
from controller.plan_cost import adapter_parameters, gpus_of
from workloads.api.experiment import FrozenExperiment, FrozenRun
from workloads.api.units import ALL_LINEAR, KINDS, TrainInputs
from workloads.models import architecture_of, family_of, has_fast_trainer
from workloads.models.fits import is_quantised, why_not_loaded, why_unknown_to_transformers
from workloads.models.memory import (
    ADAPTER_BYTES_PER_PARAMETER,
    gpu_bytes,
    is_sharded,
    parameters_of,
    training_bytes,
    usable_bytes,
)
from workloads.models.safetensors_file import BadSafetensors, TensorEntry
from workloads.models.shapes import BadShapes, ModelShapes, read_shapes
from workloads.models.weight_files import BadWeightFiles, read_weights
from workloads.models.weight_names import LayerNames, layer_names

BASE: Place = ("spec", "base", "model")
NEAR_SHARE = 0.9
"""A share of a GPU's usable memory. Weights that take more leave little memory for a training's activations."""
ELEMENT_BYTES = {"float32": 4}
"""Bytes of one weight in an engine, by dtype; 2 in other dtypes."""


@dataclass
class BaseFindings:
    """`shapes`: None if the base's files do not state them, which is one of `problems`."""

    shapes: ModelShapes | None = None
    problems: list[SpecProblem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


def check_base_files(frozen: FrozenExperiment, spec: ExperimentSpec, folder: Path) -> BaseFindings:
    """Returns the problems that the base's files in `folder` show, for a local base also damaged weight files.

    It raises nothing for them, and reads only the headers of weight files.
    """
    found = BaseFindings()
    tensors: Mapping[str, TensorEntry] | None = None
    try:
        if "://" not in frozen.base.location:
            tensors = read_weights(Path(frozen.base.location))
    except BadWeightFiles as error:
        found.problems.append(SpecProblem(BASE, str(error)))
    try:
        shapes = found.shapes = read_shapes(folder)
    except BadShapes as error:
        if not found.problems:  # the same damage
            found.problems.append(SpecProblem(BASE, str(error)))
        return found
    config = _read_config(folder)
    if tensors is not None and not is_quantised(config) and (reason := why_not_loaded(shapes, tensors)) is not None:
        found.problems.append(SpecProblem(BASE, reason))
    unlike = list(_refused_by_configuration(frozen, spec, config))
    found.problems += unlike
    if not unlike:
        if _trainings(frozen) and (reason := why_unknown_to_transformers(config)) is not None:
            found.warnings.append(f"base: {reason}")
        _check_module_names(frozen, config, shapes, found)
    _check_memory(frozen, folder, config, shapes, found)
    return found


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _trainings(frozen: FrozenExperiment) -> list[tuple[int, FrozenRun, TrainInputs]]:
    """Each training with its index among the runs of the file."""
    return [(index, run, run.inputs) for index, run in enumerate(frozen.runs) if isinstance(run.inputs, TrainInputs)]


def _refused_by_configuration(
    frozen: FrozenExperiment, spec: ExperimentSpec, config: dict[str, Any]
) -> Iterator[SpecProblem]:
    """Yields the problems that config.json shows of a base in a store, which was not read at resolution."""
    yield from base_problems(config, spec)
    architecture = architecture_of(config)
    for index, _, inputs in _trainings(frozen):
        place: Place = ("spec", "runs", index)
        if inputs.trainer == "fast" and architecture is not None and not has_fast_trainer(architecture):
            message = (
                f"must be general: the base is a {architecture}, which the fast trainer does not know (it trains "
                f"{fast_titles()}), and a base in a store is not read when the trainer is chosen"
            )
            yield SpecProblem((*place, "trainer"), message)
        if inputs.lora is None:
            continue
        try:
            check_targets(architecture, inputs.lora, place)
        except SpecError as error:
            yield from error.problems


def _check_module_names(
    frozen: FrozenExperiment, config: Mapping[str, Any], shapes: ModelShapes, found: BaseFindings
) -> None:
    """Adds a problem for each name in a target that no module of the base has.

    transformers may rename weights while it loads them. A name in its table of new names causes only a warning.
    """
    names: LayerNames | None = None
    for index, run, inputs in _trainings(frozen):
        stated = (
            [] if inputs.lora is None else [name for name in inputs.lora.target if name not in (*KINDS, ALL_LINEAR)]
        )
        if not stated:
            continue
        names = names or layer_names(frozen.base, config, shapes)
        if names is None:
            found.unchecked.append(
                f"{run.name}: whether the base has modules {listed(stated)}: its weights are not here"
            )
            continue
        for name in stated:
            if name in names.all:
                continue
            what = "linear module outside of experts" if shapes.experts else "linear module"
            message = (
                f"no weight of the base belongs to a {what} {name}{nearest(name, names.linear)}; it has "
                f"{listed(names.linear)}"
            )
            if names.may_be_renamed(name):
                found.warnings.append(
                    f"{run.name}: lora.target: {message}. It works only if transformers renames weights"
                )
            else:
                found.problems.append(SpecProblem(("spec", "runs", index, "lora", "target"), message))


def _check_memory(
    frozen: FrozenExperiment, folder: Path, config: Mapping[str, Any], shapes: ModelShapes, found: BaseFindings
) -> None:
    """Adds a problem for weights that do not fit a GPU of the profile, and a warning if they leave little memory.

    Only weights and adapters are counted, so a model that is refused here cannot be trained or evaluated.
    """
    profile = Profile.model_validate(frozen.profile, by_alias=True, by_name=False)
    device = device_bytes(profile)
    parameters = _least_parameters(folder, shapes, is_known=family_of(config) is not None)
    if device is None or not parameters or is_quantised(config):
        return
    refused: dict[str, list[str]] = {}
    near: dict[str, list[str]] = {}
    for _, run, inputs in _trainings(frozen):
        needs, held, usable = _needs(run, inputs, parameters, shapes, profile, device)
        room = f"and a {profile.gpu} has {decimal(usable)} usable"
        if held > usable:
            helps = "a smaller base or a larger GPU"
            if inputs.trainer == "general" and run.sharding != "never":
                helps = f"more GPUs in the profile's train pods, {helps}"
            refused.setdefault(f"{needs}, {room}: take {helps}", []).append(run.name)
        elif held > NEAR_SHARE * usable:
            near.setdefault(f"{needs}, {room}: little is left for activations", []).append(run.name)
    found.problems += [SpecProblem(BASE, f"{listed(names)}: {text}") for text, names in refused.items()]
    found.warnings += [f"{listed(names)}: {text}" for text, names in near.items()]
    engine, gpus = frozen.engine, gpus_of(profile.evaluate)
    weights = parameters * ELEMENT_BYTES.get(engine.dtype, 2)
    if weights > device * gpus:
        message = (
            f"its weights take {decimal(weights)} in {engine.dtype}, and an engine on {gpus} x {profile.gpu} has "
            f"{decimal(device * gpus)}: take a smaller base, or more GPUs in the profile's evaluate pods"
        )
        found.problems.append(SpecProblem(BASE, message))


def _needs(
    run: FrozenRun, inputs: TrainInputs, parameters: int, shapes: ModelShapes, profile: Profile, device: int
) -> tuple[str, int, int]:
    """Returns (what each GPU holds before activations, in words; its bytes; the usable bytes of the GPU)."""
    gpus = gpus_of(profile.train)
    weights, usable = training_bytes(parameters, inputs.type, inputs.precision), usable_bytes(device, gpus)
    divided = inputs.trainer == "general" and gpus > 1 and is_sharded(run.sharding, gpus, weights, usable)
    own = weights // gpus if divided else weights
    adapter = 0
    if inputs.lora is not None:
        adapter = ADAPTER_BYTES_PER_PARAMETER * (adapter_parameters(shapes, inputs.lora) or 0)
    what = "weights, gradients and moments" if inputs.lora is None else f"weights in {inputs.precision}"
    shared = f", divided over {gpus} GPUs," if divided else ""
    beside = f" and the adapter with gradients and moments {decimal(adapter)}" if adapter else ""
    return f"{what}{shared} take {decimal(own)}{beside} of each GPU", own + adapter, usable


def _least_parameters(folder: Path, shapes: ModelShapes, *, is_known: bool) -> int:
    """Returns a lower bound of the base's parameters, from its files in `folder` or the layers of a known family."""
    try:
        in_files = parameters_of(folder)
    except (BadSafetensors, OSError):
        in_files = 0
    if not is_known:
        return in_files
    layers = sum(out_size * in_size for out_size, in_size in shapes.linear().values())
    return max(in_files, layers + shapes.vocabulary * shapes.hidden)


def device_bytes(profile: Profile) -> int | None:
    """Returns the memory of one GPU of the profile; None if unknown.

    It is read from the driver if this machine has such a GPU, otherwise it is known from the GPU's name.
    """
    try:
        here: Sequence[int] = [gpu.memory_bytes for gpu in visible_gpus() if gpu.name == profile.gpu]
    except pynvml.NVMLError:
        here = ()
    known: Iterable[int] = (size for size in here if size)
    return min(known, default=0) or gpu_bytes(profile.gpu)
