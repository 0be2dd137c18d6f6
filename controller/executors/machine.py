"""What one machine can do at a time: slots, threads and GPUs for the programs that run on it."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from controller.view import Pool, Role
from workloads.contract.experiment import Limits

CORES_PER_TRAINING = 4
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
GPU_ROLES: frozenset[Role] = frozenset({"train", "generate"})


@dataclass(frozen=True)
class Machine:
    """`threads` of each program. With GPUs, each training and each generation has one to itself."""

    cores: int
    devices: tuple[int, ...]
    trainings: int

    @property
    def threads(self) -> int:
        """Trainings and one generation share the cores evenly; grading is short and may take what is left."""
        return max(1, self.cores // (self.trainings + 1))

    @property
    def pools(self) -> tuple[Pool, ...]:
        if self.devices:
            return (Pool(GPU_ROLES, len(self.devices)), Pool(frozenset({"grade"}), 1))
        return (
            Pool(frozenset({"train"}), self.trainings),
            Pool(frozenset({"generate"}), 1),
            Pool(frozenset({"grade"}), 1),
        )

    def free_device(self, role: Role, used: Iterable[int | None]) -> int | None:
        if role not in GPU_ROLES:
            return None
        taken = set(used)
        return next((device for device in self.devices if device not in taken), None)

    def environment(self, inherited: Mapping[str, str], device: int | None) -> dict[str, str]:
        """Thread counts that the user set are left as they are."""
        threads = {name: str(self.threads) for name in THREAD_VARIABLES if name not in inherited}
        visible = {} if device is None else {"CUDA_VISIBLE_DEVICES": str(device)}
        return {**inherited, **threads, **visible}


def this_machine(limits: Limits) -> Machine:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    devices = _devices(os.environ.get("CUDA_VISIBLE_DEVICES"))
    trainings = len(devices) or max(1, cores // CORES_PER_TRAINING)
    return Machine(cores, devices, min(trainings, limits.training_slots))


def _devices(visible: str | None) -> tuple[int, ...]:
    """NVIDIA GPUs by the driver's list, or those that CUDA_VISIBLE_DEVICES leaves."""
    folder = Path("/proc/driver/nvidia/gpus")
    present = tuple(range(len(list(folder.iterdir())))) if folder.is_dir() else ()
    if visible is None:
        return present
    named = {int(part) for part in visible.split(",") if part.strip().isdigit()}
    return tuple(device for device in present if device in named)
