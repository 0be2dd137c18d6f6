"""The stages by name."""

from collections.abc import Iterable, Mapping

from workloads.stages.base import Stage
from workloads.stages.generate import GENERATE
from workloads.stages.grade import GRADE
from workloads.stages.import_checkpoints import IMPORT
from workloads.stages.report import REPORT
from workloads.stages.train import TRAIN

STAGES: Mapping[str, Stage] = {stage.name: stage for stage in (TRAIN, IMPORT, GENERATE, GRADE, REPORT)}


def final_marker(unit_kind: str) -> str:
    """The marker that a unit of this kind has when it is done. Raises KeyError for an unknown kind."""
    return _FINAL_MARKERS[unit_kind]


def unit_kinds(stages: Iterable[Stage]) -> frozenset[str]:
    return frozenset(stage.unit_kind for stage in stages)


_FINAL_MARKERS = {stage.unit_kind: stage.final_marker for stage in STAGES.values()}
