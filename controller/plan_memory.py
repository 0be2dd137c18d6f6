"""The memory of each GPU that a training needs before its first step, and whether the weights are sharded over the
GPUs.
"""

from dataclasses import dataclass
from pathlib import Path

from controller.experiment.profile import Profile
from controller.plan_cost import gpus_of
from workloads.api.experiment import FrozenRun
from workloads.api.units import TrainInputs
from workloads.models.memory import gpu_bytes, is_sharded, parameters_of, training_bytes, usable_bytes
from workloads.models.safetensors_file import BadSafetensors


@dataclass(frozen=True)
class PlannedMemory:
    """`needed`: bytes of weights, gradients and AdamW's moments together, or of the base's weights if an adapter is
    trained. `sharded`: None if the trainer decides it.

    `reason`: why they are sharded over the `gpus`, or not.
    """

    needed: int
    gpus: int
    sharded: bool | None
    reason: str

    @property
    def per_gpu(self) -> int:
        """Returns the bytes of each GPU; all bytes if it is not known that they are sharded."""
        return -(-self.needed // self.gpus) if self.sharded else self.needed


def planned_memory(run: FrozenRun, base: Path | None, profile: Profile) -> PlannedMemory | None:
    """Returns the memory of a training by the general trainer.

    None for other runs, and if the base's weights are not in `base`.
    """
    inputs = run.inputs
    if not isinstance(inputs, TrainInputs) or inputs.trainer != "general" or base is None:
        return None
    try:
        parameters = parameters_of(base)
    except BadSafetensors:
        return None
    if not parameters:
        return None
    needed, gpus = training_bytes(parameters, inputs.type, inputs.precision), gpus_of(profile.train)
    if gpus == 1:
        return PlannedMemory(needed, gpus, False, "one GPU trains")
    if run.sharding != "auto":
        return PlannedMemory(needed, gpus, run.sharding == "always", f"sharding: {run.sharding}")
    device = gpu_bytes(profile.gpu)
    if device is None:
        reason = f"sharding: auto, and the memory of {profile.gpu} is not known here: the trainer decides"
        return PlannedMemory(needed, gpus, None, reason)
    usable = usable_bytes(device, gpus)
    sharded = is_sharded("auto", gpus, needed, usable)
    relation = "more" if sharded else "not more"
    reason = f"sharding: auto, {relation} than 80% of {usable / 2**30:.0f} GiB usable"
    return PlannedMemory(needed, gpus, sharded, reason)
