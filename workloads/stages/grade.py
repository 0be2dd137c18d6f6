"""Gradings: a verdict for each output at each budget. The middle step executes model output."""

from workloads.api import store_keys
from workloads.stages.base import Stage, Step
from workloads.stages.generate import GENERATE

GRADE = Stage(
    name="grade",
    unit_kind="grade",
    inputs=(GENERATE.unit_kind,),
    final_marker=store_keys.GRADES,
    program="workloads.grade",
    activity="grading",
    profile_part="grade",
    work_gib=4,
    slots=lambda limits: limits.grading_slots,
    is_remade=True,
    steps=(Step("fetch"), Step("execute", trusted=False), Step("compare")),
)
