"""The built-in stages: their registry entries are consistent."""

from importlib.util import find_spec

import pytest

from workloads.api.experiment import Limits
from workloads.stages.base import Stage
from workloads.stages.registry import STAGES, final_marker, stage_named


@pytest.mark.parametrize("stage", STAGES.builtin.values(), ids=list(STAGES.builtin))
def test_a_stage_has_a_program_and_reads_units_of_stages_before_it(stage: Stage) -> None:
    assert find_spec(stage.program) is not None
    before = list(STAGES.builtin.values())[: list(STAGES.builtin).index(stage.name)]
    assert set(stage.inputs) <= {other.unit_kind for other in before}
    assert final_marker(stage.unit_kind) == stage.final_marker


def test_imports_make_units_of_trainings() -> None:
    assert stage_named("import").unit_kind == "train"
    assert stage_named("import").final_marker == stage_named("train").final_marker


def test_slots_are_those_of_the_experiment() -> None:
    limits = Limits(training_slots=3, evaluation_slots=4, grading_slots=5)
    slots = {name: stage.slots(limits) if stage.slots else None for name, stage in STAGES.builtin.items()}
    assert slots == {"train": 3, "import": None, "generate": 4, "grade": 5, "report": 1}


def test_only_the_middle_step_of_grading_is_untrusted() -> None:
    steps = {name: [(step.name, step.trusted) for step in stage.steps] for name, stage in STAGES.builtin.items()}
    assert steps.pop("grade") == [("fetch", True), ("execute", False), ("compare", True)]
    assert not any(steps.values())
