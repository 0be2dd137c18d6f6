"""The default profile, made from this machine: its engine, GPUs and precision, and the reason for them."""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

import pynvml

from controller.executors.local.machine import Gpu, visible_gpus
from controller.experiment.errors import SpecError, SpecProblem
from controller.experiment.profile import Profile, ProfileEngine, local_profile
from workloads.engines.vllm.definition import VLLM


def profile_of_this_machine() -> tuple[Profile, str]:
    """Calls `profile_for` with the visible GPUs and the installed vLLM."""
    try:
        vllm = version(VLLM.name)
    except PackageNotFoundError:
        vllm = None
    try:
        return profile_for(visible_gpus(), vllm)
    except pynvml.NVMLError as error:
        message = f"CUDA_VISIBLE_DEVICES names a MIG instance that the driver does not know: {error}"
        raise SpecError("profile local", [SpecProblem((), message)]) from error


def profile_for(gpus: Sequence[Gpu], vllm: str | None) -> tuple[Profile, str]:
    """Returns the profile, and one line that states its engine and GPUs and the reason. `vllm`: its version, None if it
    is not installed.

    GPUs that support bfloat16 train and generate in bfloat16, with vLLM if it is installed. Each GPU has one training
    or one engine at a time. Raises SpecError for GPUs of several models, because the GPU model is part of the outputs'
    digest, and if the transformers engine is needed and not installed.
    """
    if not gpus:
        profile = local_profile()
        return profile, f"engine: {_named(profile)} on the CPU, because no NVIDIA GPU is visible"
    models = sorted({gpu.name for gpu in gpus})
    if len(models) > 1:
        message = f"the GPUs are of several models ({', '.join(models)}): name those of one in CUDA_VISIBLE_DEVICES"
        raise SpecError("profile local", [SpecProblem((), message)])
    slots = {"gpu": models[0], "training_slots": len(gpus), "evaluation_slots": len(gpus)}
    count = f"{len(gpus)} x {models[0]}"
    if not all(gpu.has_bfloat16 for gpu in gpus):
        profile = local_profile().model_copy(update=slots)
        return profile, f"engine: {_named(profile)} on {count}, because these GPUs do not compute in bfloat16"
    slots["precision"] = "bfloat16"
    if vllm is None:
        slow = local_profile()
        engine = slow.engine.model_copy(update={"dtype": "bfloat16"})
        profile = slow.model_copy(update={**slots, "engine": engine})
        why = "because vLLM, which is many times faster, is not installed (README.md, Install)"
        return profile, f"engine: {_named(profile)} on {count}, {why}"
    engine = ProfileEngine(name=VLLM.name, version=vllm.partition("+")[0], dtype="bfloat16")
    profile = Profile(name="local", engine=engine).model_copy(update=slots)
    return profile, f"engine: {_named(profile)} on {count}"


def _named(profile: Profile) -> str:
    return f"{profile.engine.name} {profile.engine.version} in {profile.engine.dtype}"
