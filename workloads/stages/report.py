"""Reports: the page of one manifest."""

from workloads.api import store_keys
from workloads.stages.base import Stage
from workloads.stages.grade import GRADE
from workloads.stages.train import TRAIN

REPORT = Stage(
    name="report",
    unit_kind="report",
    inputs=(TRAIN.unit_kind, GRADE.unit_kind),
    final_marker=store_keys.REPORT,
    program="workloads.report",
    activity="reporting",
    profile_part="report",
    work_gib=4,
    slots=lambda _: 1,
    is_remade=True,
)
