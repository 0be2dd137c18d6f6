"""Imports: they commit checkpoints that another trainer wrote, as units of the same kind as trainings."""

from workloads.stages.base import Stage
from workloads.stages.train import TRAIN

IMPORT = Stage(
    name="import",
    unit_kind=TRAIN.unit_kind,
    inputs=(),
    final_marker=TRAIN.final_marker,
    program="workloads.import_checkpoints",
    activity="importing",
    profile_part="report",
    work_gib=50,
    shares_slots_of=TRAIN.name,
    mounts_weights=True,
    waits_for_others=True,
)
