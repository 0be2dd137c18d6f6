"""The stages by name: the built-in ones, and those that installed packages add.

A package adds a stage by an entry point of the group `potstill.stages` whose object is a `Stage`:

    [project.entry-points."potstill.stages"]
    toxicity = "my_package.stage:TOXICITY"
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

from workloads.api.experiment import FrozenExperiment
from workloads.registry import RegistryError, load_entry_point
from workloads.stages.base import Follows, Stage
from workloads.stages.generate import GENERATE
from workloads.stages.grade import GRADE
from workloads.stages.import_checkpoints import IMPORT
from workloads.stages.report import REPORT
from workloads.stages.train import TRAIN

GROUP = "potstill.stages"
BUILT_IN: Mapping[str, Stage] = MappingProxyType(
    {stage.name: stage for stage in (TRAIN, IMPORT, GENERATE, GRADE, REPORT)}
)
NAME = re.compile(r"[a-z]{1,12}")
RESERVED = frozenset({*BUILT_IN, "stage", "member"})
INPUTS: Mapping[Follows | None, tuple[str, ...]] = MappingProxyType(
    {"checkpoint": (TRAIN.unit_kind,), "evaluation": (GRADE.unit_kind,)}
)
"""The inputs of an added stage by what it follows."""


class StageError(RegistryError):
    """An added stage is missing, or its entry point cannot be used. The message says which, and what to do."""


@cache
def stages() -> Mapping[str, Stage]:
    """All stages by name, the built-in ones first. Raises StageError for an entry point that cannot be used."""
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    return with_added(points)


def with_added(points: Iterable[EntryPoint]) -> Mapping[str, Stage]:
    """The built-in stages and those of the entry points. Raises StageError."""
    known = dict(BUILT_IN)
    for point in points:
        stage = _loaded(point)
        if stage.name in known:
            raise StageError(f"{_origin(point)}: two packages add a stage {stage.name}; uninstall one of them")
        known[stage.name] = stage
    return MappingProxyType(known)


def added_stages() -> tuple[Stage, ...]:
    """The stages that installed packages add. Raises StageError."""
    return tuple(stage for name, stage in stages().items() if name not in BUILT_IN)


def stage_named(name: str) -> Stage:
    """Raises StageError for a stage that is not installed here."""
    stage = BUILT_IN.get(name) or stages().get(name)
    if stage is None:
        raise StageError(
            f"there is no stage {name} here; there are: {', '.join(stages())}. Install the package that adds it (entry "
            f"point group {GROUP})"
        )
    return stage


def stages_of(frozen: FrozenExperiment) -> tuple[Stage, ...]:
    """The built-in stages and those that the experiment was accepted with. Raises StageError for a missing one."""
    return (*BUILT_IN.values(), *map(stage_named, frozen.stages))


def final_marker(unit_kind: str) -> str:
    """The marker that a unit of this kind has when it is done. Raises StageError for an unknown kind."""
    return stage_named(unit_kind).final_marker


def unit_kinds(chosen: Iterable[Stage]) -> frozenset[str]:
    return frozenset(stage.unit_kind for stage in chosen)


def _loaded(point: EntryPoint) -> Stage:
    try:
        stage = load_entry_point(point)
    except RegistryError as error:
        raise StageError(f"{_origin(point)}: {error}") from error
    if not isinstance(stage, Stage):
        raise StageError(f"{_origin(point)} is no workloads.stages.base.Stage: repair or uninstall the package")
    problems = [
        *([] if stage.name == point.name else [f"it is named {stage.name}: name both alike"]),
        *([] if NAME.fullmatch(stage.name) else ["its name must be 1 to 12 letters a to z"]),
        *([f"the name {stage.name} is taken"] if stage.name in RESERVED else []),
        *([] if stage.unit_kind == stage.name else ["unit_kind must be its name"]),
        *([] if stage.follows in INPUTS else ["follows must be checkpoint or evaluation"]),
        *([] if stage.inputs == INPUTS.get(stage.follows) else [f"inputs must be {INPUTS.get(stage.follows)}"]),
        *([] if stage.version else ["version must be stated"]),
    ]
    if problems:
        raise StageError(f"{_origin(point)}: {'; '.join(problems)}")
    return stage


def _origin(point: EntryPoint) -> str:
    package = f" of {point.dist.name}" if point.dist is not None and point.dist.metadata["Name"] else ""
    return f"the entry point {GROUP}: {point.name} = {point.value}{package}"
