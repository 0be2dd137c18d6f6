"""The definition of a stage for the planner, the executors and garbage collection."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from workloads.api.experiment import Limits
from workloads.api.units import UnitRef

ProfilePart = Literal["train", "evaluate", "grade", "report"]
"""The parts of a profile that say where pods run."""
Follows = Literal["checkpoint", "evaluation"]
"""Results that an added stage may read."""


@dataclass(frozen=True)
class Step:
    """One container of a pod with several, which run one after the other.

    An untrusted one executes model output and gets no credentials.
    """

    name: str
    trusted: bool = True


@dataclass(frozen=True)
class Stage:
    """One kind of task.

    `name`: part of Job names, and the role label of Jobs and pods. It is the `type` of the tasks of a built-in stage;
    tasks of added stages have the type `stage`. `unit_kind`: the kind of its units, which is part of store keys. It
    equals the name, except that imports make units of trainings. `inputs`: the kinds of units of which one must be
    done, or have committed a checkpoint, before a task is made. `final_marker`: the marker that a unit of this kind has
    when it is done. `program`: the module that runs a task, as `python -P -m <program> <task key>`. `activity`: the
    text shown while a task of it runs. `profile_part`: the part of the profile whose image and resources its pods get.
    `work_gib`: the limit in GiB of a pod's working folder, if the profile states none. `slots`: how many of its tasks
    one experiment runs at a time; None: any number. `shares_slots_of`: in a cluster, its tasks take slots of this
    stage. `uses_gpu`: on one machine, each of its tasks gets a separate GPU. `reads_base`: its tasks wait until the
    base's weights are on their volume, and use a cache of compiled code. `mounts_weights`: its pods mount the volume of
    the base's weights. `is_remade`: the final marker is the whole result, so that a unit whose files are corrupt is
    made again. `waits_for_others`: its programs wait for another trainer, so limits.noProgressSeconds does not apply to
    them. `steps`: the containers of its pods, in order; empty: one container. `follows`: for an added stage, its input:
    it has a unit for each checkpoint, or for each graded evaluation. `version`: for an added stage; raise it when the
    same input could give another result.
    """

    name: str
    unit_kind: str
    inputs: tuple[str, ...]
    final_marker: str
    program: str
    activity: str
    profile_part: ProfilePart
    work_gib: int
    slots: Callable[[Limits], int] | None = None
    shares_slots_of: str | None = None
    uses_gpu: bool = False
    reads_base: bool = False
    mounts_weights: bool = False
    is_remade: bool = False
    waits_for_others: bool = False
    steps: tuple[Step, ...] = ()
    follows: Follows | None = None
    version: str = ""

    @property
    def container(self) -> str:
        """The name of its pods' only container: the last part of the program's name."""
        return self.program.rpartition(".")[2].replace("_", "-")

    def unit(self, digest: str) -> UnitRef:
        return UnitRef.model_validate({"kind": self.unit_kind, "digest": digest})
