"""Stages by name. A new one is an entry here, or an entry point in `potstill.stages`."""

import re
from collections.abc import Mapping
from types import MappingProxyType

from workloads.api.experiment import FrozenExperiment
from workloads.registry import Registry, RegistryError
from workloads.stages.base import Follows, Stage
from workloads.stages.generate import GENERATE
from workloads.stages.grade import GRADE
from workloads.stages.import_checkpoints import IMPORT
from workloads.stages.report import REPORT
from workloads.stages.train import TRAIN

NAME = re.compile(r"[a-z]{1,12}")
RESERVED = frozenset({"stage", "member"})
"""Values of `type` in stored tasks that are not the name of a stage."""
INPUTS: Mapping[Follows | None, tuple[str, ...]] = MappingProxyType(
    {"checkpoint": (TRAIN.unit_kind,), "evaluation": (GRADE.unit_kind,)}
)
"""The inputs of an added stage by its field `follows`."""


def stage_problems(stage: Stage) -> list[str]:
    """The fields of an added stage that break a rule, and the rule; empty if it can be used."""
    return [
        *([] if NAME.fullmatch(stage.name) else ["its name must be 1 to 12 letters a to z"]),
        *([f"the name {stage.name} is reserved"] if stage.name in RESERVED else []),
        *([] if stage.unit_kind == stage.name else ["unit_kind must be its name"]),
        *([] if stage.follows in INPUTS else ["follows must be checkpoint or evaluation"]),
        *([] if stage.inputs == INPUTS.get(stage.follows) else [f"inputs must be {INPUTS.get(stage.follows)}"]),
        *([] if stage.version else ["version must be stated"]),
    ]


STAGES = Registry[Stage](
    "stage",
    "potstill.stages",
    Stage,
    {stage.name: stage for stage in (TRAIN, IMPORT, GENERATE, GRADE, REPORT)},
    check=stage_problems,
)


def stage_named(name: str) -> Stage:
    """Raises RegistryError for a stage that is not installed here, or that cannot be used."""
    if name not in STAGES:
        raise RegistryError(
            f"there is no stage {name} here; there are: {', '.join(STAGES)}. Install the distribution that adds it "
            f"(entry point {name} in {STAGES.group})"
        )
    return STAGES[name]


def stages_of(frozen: FrozenExperiment) -> tuple[Stage, ...]:
    """Returns the built-in stages and the experiment's accepted ones. Raises RegistryError like `stage_named`."""
    return (*STAGES.builtin.values(), *map(stage_named, frozen.stages))


def final_marker(unit_kind: str) -> str:
    """The marker that a unit of this kind has when it is done. Raises RegistryError as `stage_named`."""
    return stage_named(unit_kind).final_marker
