"""Which engines take a task that is offered to them, in place of a Job of its own: those that linger, and those at work
that say that they have room for more.

The task's evaluations then join the engine's batch: no start is paid for, and their results come sooner than from an
engine of their own. One that is being started has promised room too. What was offered and is not taken yet counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from controller.decide.ends import guests, unfinished
from controller.decide.standing import owner_of
from controller.view import ExecutorView, StoreView, UnitView, members_of
from workloads.contract.experiment import FrozenExperiment
from workloads.contract.model import digest_of
from workloads.contract.tasks import GenerateMember, GenerateTask, TaskRef
from workloads.contract.units import UnitRef

LINGERING = "lingering"
"""The phase of a generate task's progress in which it has nothing to do and waits for offers."""


@dataclass(frozen=True)
class Host:
    """An engine's task and the next entry of its log. `room`: evaluations that it takes now; None: any number.

    `engine`: the digest of its base, its flags and its version.
    """

    task: TaskRef
    sequence: int
    base: str
    engine: str
    room: int | None


def hosts(frozen: FrozenExperiment, store: StoreView, executor: ExecutorView) -> list[Host]:
    """Ours that have an open log and room for more."""
    owner = owner_of(frozen)
    found = []
    for view in store.units.values():
        for attempt in view.open_attempts:
            task, job, progress = attempt.task, executor.jobs.get(attempt.task.key), attempt.progress
            if not isinstance(task, GenerateTask) or task.owner != owner or task.host is not None:
                continue
            if job is None or job.phase != "running" or progress is None or None in attempt.offers:
                continue
            own = _undecided(store, task)
            joined = [unit for guest in guests(attempt, store) for unit in _undecided(store, guest)]
            if progress.phase == LINGERING:
                room = 0 if joined else None
            else:
                untaken = [unit for unit in joined if unit.digest not in progress.members]
                room = min(progress.room - len(untaken), frozen.limits.group_members - len(own) - len(joined))
            if room is None or room > 0:
                reference = TaskRef(unit=task.unit, number=task.number)
                sequence = len(attempt.offers) + 1
                found.append(Host(reference, sequence, _base(task.members), _engine(task.members[0]), room))
    return found


def chosen(engines: Sequence[Host], task: GenerateTask, *, suspected: bool, must_wait: bool) -> Host | None:
    """The one that is to have the task, or a part of it: one that lingers, else the one at work with the most room.

    One with room for a part only, and only where the rest would have to wait (`must_wait`): else it is sooner done by
    an engine of its own.
    """
    alike = [host for host in engines if host.base == _base(task.members)]
    lingering = next((host for host in alike if host.room is None), None)
    if lingering is not None or suspected:
        return lingering
    engine = {_engine(member) for member in task.members}
    working = [(host.room, host) for host in alike if host.room is not None and {host.engine} == engine]
    if not working:
        return None
    room, host = max(working, key=lambda one: one[0])
    return host if must_wait or room >= len(task.members) else None


def split(task: GenerateTask, host: Host) -> tuple[GenerateTask, GenerateTask | None]:
    """What the host is to have of the task, as many members as it has room for and those of one model together; and
    what is left.
    """
    count = len(task.members)
    if host.room is not None and host.room < count:
        last = task.members[host.room - 1].inputs.model
        count = next((n for n in range(host.room, count) if task.members[n].inputs.model != last), count)
    part = task.model_copy(
        update={"members": task.members[:count], "host": host.task, "linger_seconds": 0.0, "takes_offers": False}
    )
    left = task.members[count:]
    if not left:
        return part, None
    return part, task.model_copy(update={"unit": left[0].unit, "number": left[0].number, "members": left})


def _undecided(store: StoreView, task: GenerateTask) -> list[UnitRef]:
    """Its members that have neither a result nor a failure."""
    numbers = dict(members_of(task))
    return [unit for unit in unfinished(store, task) if not _failed(store.unit(unit), numbers[unit])]


def _failed(view: UnitView, number: int) -> bool:
    return any(attempt.failure is not None for attempt in view.attempts if attempt.number == number)


def _base(members: Sequence[GenerateMember]) -> str:
    return members[0].inputs.model.base


def _engine(member: GenerateMember) -> str:
    return digest_of(member.inputs.engine)
