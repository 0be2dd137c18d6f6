"""Which engines take a task that is offered to them, in place of a Job of its own: those that linger, and those at work
that say that they have room for more.

The task's evaluations then join the engine's batch: no start is paid for, and their results come sooner than from an
engine of their own. One that is being started promises room too.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from controller.planner.actions import CloseTask
from controller.planner.outcomes import offered_tasks, undecided
from controller.planner.unit_state import owner_of
from controller.snapshot.types import Attempt, JobsSnapshot, StoreSnapshot
from workloads.api.experiment import FrozenExperiment
from workloads.api.model import digest_of
from workloads.api.records import Progress
from workloads.api.tasks import GenerateMember, GenerateTask, TaskRef

LINGERING = "lingering"
"""The phase of a generate task's progress in which it has nothing to do and waits for offers."""


@dataclass(frozen=True)
class RunningEngine:
    """An engine's task and the next entry of its log. `room`: evaluations that it takes now; None: any number. `most`:
    that it may be given, so that it has no more than a group may have.

    `engine`: the digest of its flags and version. `limit_tokens`: the longest output that it was started for.
    """

    task: TaskRef
    sequence: int
    base: str
    engine: str
    limit_tokens: int
    room: int | None
    most: int


def running_engines(
    frozen: FrozenExperiment, store: StoreSnapshot, executor: JobsSnapshot, closing: Iterable[CloseTask]
) -> list[RunningEngine]:
    """Ours that have an open log and room for more, and that this round does not close."""
    owner = owner_of(frozen)
    closed = {(close.unit, close.end.number) for close in closing}
    promised = _promised(store)
    found = []
    for view in store.units.values():
        for attempt in view.open_attempts:
            task, job, progress = attempt.task, executor.jobs.get(attempt.task.key), attempt.progress
            if not isinstance(task, GenerateTask) or task.owner != owner or task.host is not None:
                continue
            if job is None or job.phase != "running" or progress is None or None in attempt.offers:
                continue
            if (view.unit, attempt.number) in closed or promised[task.key] - set(attempt.offers):
                continue
            host = _host(task, attempt, progress, frozen, store)
            if host.most > 0 and (host.room is None or host.room > 0):
                found.append(host)
    return found


def _host(
    task: GenerateTask, attempt: Attempt, progress: Progress, frozen: FrozenExperiment, store: StoreSnapshot
) -> RunningEngine:
    """What was offered and is not taken yet counts. One that has a suspect, or lingers beside an offer, has no room;
    nor has one whose own first evaluation failed: that can go again when its task has ended.
    """
    here = (task, *offered_tasks(attempt, store))
    left = {one.key: undecided(store, one) for one in here}
    joined = [unit for key, units in left.items() if key != task.key for unit in units]
    most = frozen.limits.group_members - len(left[task.key]) - len(joined)
    shared = all(one.takes_offers for one in here if left[one.key])
    room: int | None
    if attempt.failure is not None:
        room = 0
    elif progress.phase == LINGERING:
        room = 0 if joined else None
    elif not shared:
        room = 0
    else:
        room = min(progress.room - sum(1 for unit in joined if unit.digest not in progress.members), most)
    return RunningEngine(
        TaskRef(unit=task.unit, number=task.number),
        len(attempt.offers) + 1,
        _base(task.members),
        _engine(task.members[0]),
        _longest(task.members),
        room,
        frozen.limits.group_members if room is None else most,
    )


def _promised(store: StoreSnapshot) -> Mapping[str, set[str]]:
    """By the engine's task: open tasks that were written for it, offered or not (a crash may have come between)."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for view in store.units.values():
        for attempt in view.open_attempts:
            if isinstance(attempt.task, GenerateTask) and attempt.task.host is not None:
                found[attempt.task.host.key].add(attempt.task.key)
    return found


def chosen(
    engines: Sequence[RunningEngine], task: GenerateTask, *, suspected: bool, must_wait: bool
) -> RunningEngine | None:
    """The one that is to have the task, or a part of it: one that lingers, else the one at work with the most room.

    One with room for a part only, and only where the rest would have to wait (`must_wait`): else it is sooner done by
    an engine of its own.
    """
    alike = [host for host in engines if host.base == _base(task.members)]
    lingering = next((host for host in alike if host.room is None), None)
    if lingering is not None or suspected:
        return lingering
    engine, longest = {_engine(member) for member in task.members}, _longest(task.members)
    working = [
        (host.room, host)
        for host in alike
        if host.room is not None and {host.engine} == engine and host.limit_tokens >= longest
    ]
    if not working:
        return None
    room, host = max(working, key=lambda one: one[0])
    return host if must_wait or room >= len(task.members) else None


def split_offers(task: GenerateTask, host: RunningEngine) -> tuple[GenerateTask, GenerateTask | None]:
    """What the host is to have of the task, as many members as it has room for and those of one model together where a
    group may have so many; and what is left.
    """
    count = len(task.members)
    if host.room is not None and host.room < count:
        last = task.members[host.room - 1].inputs.model
        count = next((n for n in range(host.room, count) if task.members[n].inputs.model != last), count)
        count = min(count, host.most)
    part = task.model_copy(update={"members": task.members[:count], "host": host.task, "linger_seconds": 0.0})
    left = task.members[count:]
    if not left:
        return part, None
    return part, task.model_copy(update={"unit": left[0].unit, "number": left[0].number, "members": left})


def _base(members: Sequence[GenerateMember]) -> str:
    return members[0].inputs.model.base


def _longest(members: Sequence[GenerateMember]) -> int:
    return max(member.inputs.limit_tokens for member in members)


def _engine(member: GenerateMember) -> str:
    return digest_of(member.inputs.engine)
