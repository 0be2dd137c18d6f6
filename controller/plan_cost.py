"""The cost of a planned experiment: tokens, GPU-hours, time with the available slots, disk and price."""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from controller.experiment.profile import Profile, RolePod
from controller.training_data import NotReadableHere, base_folder
from workloads.api.experiment import FrozenExperiment, Limits
from workloads.api.units import ALL_LINEAR, Lora, TrainInputs
from workloads.models.memory import parameters_of
from workloads.models.safetensors_file import BadSafetensors
from workloads.models.shapes import BadShapes, ModelShapes, read_shapes

STATES_KEPT = 2
"""Resume states that a run's unit keeps: the newest, and the one before."""
VALUES_PER_PARAMETER = 3
"""Values per trained parameter in a resume state, in float32: the parameter and AdamW's two moments."""
BYTES_PER_OUTPUT_TOKEN = 12
"""Bytes per token in outputs.jsonl: the token's id and its text."""


@dataclass(frozen=True)
class Training:
    """A training that is not done: its tokens, and the number of its GPUs."""

    tokens: int
    gpus: int


@dataclass(frozen=True)
class Disk:
    """Upper bounds of bytes in the store; None if the base is not here, because the adapter's size is then unknown.

    `base`: bytes of the base's files, which are not in the store.
    """

    base: int | None
    checkpoints: int | None
    resume_states: int | None
    outputs: int

    @property
    def store(self) -> int | None:
        """Returns the bytes of all objects in the store."""
        if self.checkpoints is None or self.resume_states is None:
            return None
        return self.checkpoints + self.resume_states + self.outputs


@dataclass(frozen=True)
class Cost:
    """The cost of the units that are not done. Hours are None if the profile states no rate; tokens to generate are an
    upper bound.

    `wall_clock_hours`: trainings over their slots, then generation over its slots, one after the other. `price`: the
    price of the GPU-hours, in the currency of `price_per_gpu_hour`.
    """

    trained_tokens: int
    generated_tokens: int
    training_gpu_hours: float | None
    generation_gpu_hours: float | None
    training_slots: int
    evaluation_slots: int
    wall_clock_hours: float | None
    price_per_gpu_hour: float | None
    price: float | None
    disk: Disk
    basis: str


def cost_of(
    frozen: FrozenExperiment,
    profile: Profile,
    trainings: Sequence[Training],
    generated_tokens: int,
    outputs_tokens: int,
    price_per_gpu_hour: float | None = None,
) -> Cost:
    """`generated_tokens`: tokens still to generate, at most. `outputs_tokens`: tokens of all outputs, at most."""
    trained = sum(item.tokens for item in trainings)
    training_hours = _hours(trained, profile.train_tokens_per_second)
    generation_hours = _hours(generated_tokens, profile.generate_tokens_per_second)
    stated = price_per_gpu_hour if price_per_gpu_hour is not None else profile.price_per_gpu_hour
    known = training_hours is not None and generation_hours is not None
    return Cost(
        trained_tokens=trained,
        generated_tokens=generated_tokens,
        training_gpu_hours=training_hours,
        generation_gpu_hours=generation_hours,
        training_slots=frozen.limits.training_slots,
        evaluation_slots=frozen.limits.evaluation_slots,
        wall_clock_hours=_wall_clock_hours(profile, frozen.limits, trainings, generated_tokens),
        price_per_gpu_hour=stated,
        price=stated * ((training_hours or 0) + (generation_hours or 0)) if known and stated is not None else None,
        disk=disk_of(frozen, outputs_tokens),
        basis=_basis(profile),
    )


def gpus_of(pod: RolePod) -> int:
    """Returns the GPUs of one task; a machine without pods counts as one GPU."""
    return max(1, pod.gpus) * pod.nodes


def _hours(tokens: int, per_second: float | None) -> float | None:
    return None if per_second is None else tokens / per_second / 3600


def _wall_clock_hours(
    profile: Profile, limits: Limits, trainings: Sequence[Training], generated_tokens: int
) -> float | None:
    train_rate, generate_rate = profile.train_tokens_per_second, profile.generate_tokens_per_second
    if train_rate is None or generate_rate is None:
        return None
    seconds = makespan((item.tokens / (train_rate * item.gpus) for item in trainings), limits.training_slots)
    engines = limits.evaluation_slots * gpus_of(profile.evaluate)
    return (seconds + generated_tokens / (generate_rate * engines)) / 3600


def makespan(seconds: Iterable[float], slots: int) -> float:
    """Returns when the last job ends, if each job in order takes the slot that is free first."""
    free = [0.0] * slots
    for duration in seconds:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)


def disk_of(frozen: FrozenExperiment, outputs_tokens: int) -> Disk:
    """Reads the base's configuration and the sizes of its files, if they are on this machine."""
    outputs = outputs_tokens * BYTES_PER_OUTPUT_TOKEN
    trained = [(run, run.inputs) for run in frozen.runs if isinstance(run.inputs, TrainInputs)]
    try:
        folder = base_folder(frozen.base)
        shapes = read_shapes(folder)
    except (NotReadableHere, BadShapes):
        return Disk(None, None if trained else 0, None if trained else 0, outputs)
    base = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    checkpoints = states = 0
    for run, inputs in trained:
        if inputs.lora is None:
            parameters: int | None = _model_parameters(folder)
        else:
            parameters = adapter_parameters(shapes, inputs.lora)
        if parameters is None:
            return Disk(base, None, None, outputs)
        element = 2 if inputs.precision == "bfloat16" and (inputs.trainer == "fast" or inputs.lora is None) else 4
        checkpoints += len(run.checkpoints) * parameters * element
        states += STATES_KEPT * VALUES_PER_PARAMETER * parameters * 4
    return Disk(base, checkpoints, states, outputs)


def _model_parameters(folder: Path) -> int | None:
    """Returns the number of the base's parameters; None if its weights are not here."""
    try:
        return parameters_of(folder) or None
    except BadSafetensors:
        return None


def adapter_parameters(shapes: ModelShapes, lora: Lora) -> int | None:
    """Returns the number of the adapters' parameters: rank x (in + out) of each adapted layer.

    None if no layer is recognised.
    """
    total = 0
    for name, (out_size, in_size) in shapes.linear().items():
        if _is_adapted(shapes, name, lora.target):
            total += lora.rank * (in_size + out_size)
    return total or None


def _is_adapted(shapes: ModelShapes, name: str, target: Sequence[str]) -> bool:
    leaf, is_expert = name.rpartition(".")[2], ".experts." in name
    if leaf in target or ALL_LINEAR in target:
        return True
    if shapes.from_files is not None:
        return False
    kind = "experts" if is_expert else "attention" if leaf in shapes.attention_names else "mlp"
    return kind in target


def _basis(profile: Profile) -> str:
    if profile.train_tokens_per_second is None or profile.generate_tokens_per_second is None:
        return (
            f"profile {profile.name} states no measured rate: for GPU-hours, wall-clock and price state "
            "trainTokensPerSecond and generateTokensPerSecond at the top of a profile file, and give the file with "
            "--profile (examples/profiles/h200.yaml has both)"
        )
    return (
        f"profile {profile.name}'s rates per GPU: {profile.train_tokens_per_second:,.0f} trained and "
        f"{profile.generate_tokens_per_second:,.0f} generated tokens/s; every output at its limit; engine starts, "
        "downloads, grading and retries are not in it"
    )
