"""The capacity of one machine: slots, threads and GPUs for the programs that run on it."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pynvml

from controller.snapshot.types import Pool, Role
from workloads.api.experiment import Limits
from workloads.stages.generate import GENERATE
from workloads.stages.grade import GRADE
from workloads.stages.registry import STAGES
from workloads.stages.train import TRAIN

CORES_PER_TRAINING = 4
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")


@dataclass(frozen=True)
class Machine:
    """`devices`: GPUs as CUDA_VISIBLE_DEVICES names them.

    With GPUs, each training and each generation has a separate one.
    """

    cores: int
    devices: tuple[str, ...]
    trainings: int

    @property
    def threads(self) -> int:
        """Threads of each program. Trainings and one generation divide the cores evenly; grading uses the idle ones."""
        return max(1, self.cores // (self.trainings + 1))

    @property
    def pools(self) -> tuple[Pool, ...]:
        if self.devices:
            return (Pool(gpu_roles(), len(self.devices)), Pool(frozenset({GRADE.name}), 1))
        return (
            Pool(frozenset({TRAIN.name}), self.trainings),
            Pool(frozenset({GENERATE.name}), 1),
            Pool(frozenset({GRADE.name}), 1),
        )

    def free_device(self, role: Role, used: Iterable[str | None]) -> str | None:
        if role not in gpu_roles():
            return None
        taken = set(used)
        return next((device for device in self.devices if device not in taken), None)

    def environment(self, inherited: Mapping[str, str], device: str | None) -> dict[str, str]:
        """Returns the environment of a program. Thread counts that the user set stay.

        Modules in the current directory never shadow a program's own.
        """
        threads = {name: str(self.threads) for name in THREAD_VARIABLES if name not in inherited}
        visible = {} if device is None else {"CUDA_VISIBLE_DEVICES": device}
        return {**inherited, **threads, **visible, "PYTHONSAFEPATH": "1"}


def gpu_roles() -> frozenset[Role]:
    return frozenset(stage.name for stage in STAGES.values() if stage.uses_gpu)


def this_machine(limits: Limits) -> Machine:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    devices = visible_devices(installed_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    trainings = len(devices) or max(1, cores // CORES_PER_TRAINING)
    return Machine(cores, devices, min(trainings, limits.training_slots))


@dataclass(frozen=True)
class Gpu:
    """`uuid` is the driver's: GPU-<hex>. `memory_bytes` is 0 for a GPU that uses the machine's memory.

    `compute_capability`: (major, minor). `used_bytes`: memory that the driver and all programs had when it was read.
    """

    uuid: str
    name: str
    memory_bytes: int = 0
    compute_capability: tuple[int, int] = (0, 0)
    used_bytes: int = field(default=0, compare=False)

    @property
    def has_bfloat16(self) -> bool:
        """Returns whether the compute capability is 8.0 (Ampere) or newer: CUDA C++ Programming Guide, arithmetic
        instructions.
        """
        return self.compute_capability >= (8, 0)


def installed_gpus() -> tuple[Gpu, ...]:
    """Returns NVIDIA GPUs from the driver's library (NVML), also in containers and WSL. Empty without a driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return tuple(map(_gpu_at, handles))
    except pynvml.NVMLError:
        return ()
    finally:
        pynvml.nvmlShutdown()


def visible_gpus() -> tuple[Gpu, ...]:
    """Returns the GPUs and MIG instances that programs started here would use."""
    gpus = installed_gpus()
    words = visible_devices(gpus, os.environ.get("CUDA_VISIBLE_DEVICES"))
    return tuple(_instance(word) if word.startswith("MIG-") else _named(gpus, word) for word in words)


def _named(gpus: tuple[Gpu, ...], word: str) -> Gpu:
    return gpus[int(word)] if word.isdecimal() else next(gpu for gpu in gpus if gpu.uuid.startswith(word))


def _instance(word: str) -> Gpu:
    """Returns a MIG instance with its name and memory, and its GPU's compute capability. Raises pynvml.NVMLError."""
    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(word)
        whole = _gpu_at(pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle))
        name = pynvml.nvmlDeviceGetName(handle)
        memory_bytes, used_bytes = _memory_bytes(handle)
        return Gpu(word, name, memory_bytes, whole.compute_capability, used_bytes)
    finally:
        pynvml.nvmlShutdown()


def _gpu_at(handle: Any) -> Gpu:
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    uuid, name = pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetName(handle)
    memory_bytes, used_bytes = _memory_bytes(handle)
    return Gpu(uuid, name, memory_bytes, (major, minor), used_bytes)


def _memory_bytes(handle: Any) -> tuple[int, int]:
    """Returns (all, used); zeros if the GPU uses the memory of the machine."""
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    except pynvml.NVMLError:
        return 0, 0
    return int(memory.total), int(memory.used)


def visible_devices(gpus: tuple[Gpu, ...], visible: str | None) -> tuple[str, ...]:
    """Returns the GPUs that CUDA would use with CUDA_VISIBLE_DEVICES=`visible`, each as one entry of this variable.

    For None: all GPUs by number. An entry is a number, a UUID or its beginning, or a MIG instance. As in CUDA, the list
    ends before the first entry that names no GPU (so "" and "-1" give none), and a GPU counts once. Source: CUDA C++
    Programming Guide, environment variables.
    """
    if visible is None:
        return tuple(str(number) for number in range(len(gpus)))
    words_by_gpu: dict[str, str] = {}
    for word in (part.strip() for part in visible.split(",")):
        gpu = _gpu_of(gpus, word)
        if gpu is None or gpu in words_by_gpu:
            break
        words_by_gpu[gpu] = word
    return tuple(words_by_gpu.values())


def _gpu_of(gpus: tuple[Gpu, ...], word: str) -> str | None:
    """Returns the UUID of the GPU or MIG instance that an entry of CUDA_VISIBLE_DEVICES names."""
    if word.isdecimal():
        return gpus[int(word)].uuid if int(word) < len(gpus) else None
    if word.startswith("MIG-") and gpus:
        return word
    matching = [gpu.uuid for gpu in gpus if word.startswith("GPU-") and gpu.uuid.startswith(word)]
    return matching[0] if len(matching) == 1 else None
