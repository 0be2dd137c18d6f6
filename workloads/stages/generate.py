"""Generations: the outputs of one model for one part of one benchmark."""

from workloads.api import store_keys
from workloads.stages.base import Stage
from workloads.stages.train import TRAIN

GENERATE = Stage(
    name="generate",
    unit_kind="generate",
    inputs=(TRAIN.unit_kind,),
    final_marker=store_keys.OUTPUTS,
    program="workloads.evaluate",
    activity="generating",
    profile_part="evaluate",
    work_gib=100,
    slots=lambda limits: limits.evaluation_slots,
    uses_gpu=True,
    reads_base=True,
    mounts_weights=True,
    is_remade=True,
)
