"""Trainings: they commit checkpoints while they run, and a `done` marker at the end."""

from workloads.api import store_keys
from workloads.stages.base import Stage

TRAIN = Stage(
    name="train",
    unit_kind="train",
    inputs=(),
    final_marker=store_keys.DONE,
    program="workloads.train",
    activity="training",
    profile_part="train",
    work_gib=100,
    slots=lambda limits: limits.training_slots,
    uses_gpu=True,
    reads_base=True,
    mounts_weights=True,
)
