"""Chooses a running engine for a task, so that the task needs no Job.

An engine can take a task when it is idle, when it reports free capacity, or while it starts. The task's evaluations
join the engine's batch, so they need not wait for the start of a new engine.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controller.planner.outcomes import offered_tasks, undecided
from controller.planner.round import Round
from controller.snapshot.types import Attempt
from workloads.api.model import digest_of
from workloads.api.records import Progress
from workloads.api.tasks import GenerateMember, GenerateTask, TaskRef

LINGERING = "lingering"
"""The phase in which a generate task's engine is idle and waits for offers."""


@dataclass(frozen=True)
class RunningEngine:
    """An engine's task and the next entry of its log.

    `free_capacity`: evaluations that it can take now; None: any number. `most`: evaluations that it can be given
    without exceeding the size of a group.

    `engine`: the digest of its flags and version. `limit_tokens`: the longest output that it was started for.
    """

    task: TaskRef
    sequence: int
    base: str
    engine: str
    limit_tokens: int
    free_capacity: int | None
    most: int


def running_engines(round_: Round) -> list[RunningEngine]:
    """Returns this experiment's engines with an open log and free capacity that this round does not close."""
    promised = _promised(round_)
    engines = []
    for attempt in round_.open_attempts():
        task, job, progress = attempt.task, round_.jobs.jobs.get(attempt.task.key), attempt.progress
        if not isinstance(task, GenerateTask) or task.owner != round_.owner or task.host is not None:
            continue
        if job is None or job.phase != "running" or progress is None or None in attempt.offers:
            continue
        if (task.unit, task.number) in round_.closed or promised[task.key] - set(attempt.offers):
            continue
        engine = _running_engine(task, attempt, progress, round_)
        if engine.most > 0 and (engine.free_capacity is None or engine.free_capacity > 0):
            engines.append(engine)
    return engines


def _running_engine(task: GenerateTask, attempt: Attempt, progress: Progress, round_: Round) -> RunningEngine:
    """Returns the engine. Offers that it has not taken yet count as taken.

    Its capacity is 0 if it has a suspect, if it is idle and has an open offer, and if its own first evaluation failed:
    that one is tried again when its task has ended.
    """
    tasks = (task, *offered_tasks(attempt, round_.store))
    left = {shared_task.key: undecided(round_.store, shared_task) for shared_task in tasks}
    joined = [unit for key, units in left.items() if key != task.key for unit in units]
    group_members = round_.experiment.limits.group_members
    most = group_members - len(left[task.key]) - len(joined)
    shared = all(shared_task.takes_offers for shared_task in tasks if left[shared_task.key])
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
        group_members if room is None else most,
    )


def _promised(round_: Round) -> Mapping[str, set[str]]:
    """Returns by the engine's task the open tasks that were written for it, offered or not (a crash may have come
    between).
    """
    keys: defaultdict[str, set[str]] = defaultdict(set)
    for attempt in round_.open_attempts():
        if isinstance(attempt.task, GenerateTask) and attempt.task.host is not None:
            keys[attempt.task.host.key].add(attempt.task.key)
    return keys


def chosen(
    engines: Sequence[RunningEngine], task: GenerateTask, *, suspected: bool, must_wait: bool
) -> RunningEngine | None:
    """Returns the engine that takes the task or a part of it; None if no engine takes it.

    An idle engine comes first, then the running one with the most free capacity. A running one with too little capacity
    for the whole task is chosen only if a new engine could not start now (`must_wait`), because otherwise a new engine
    is faster.
    """
    alike = [host for host in engines if host.base == _base(task.members)]
    lingering = next((host for host in alike if host.free_capacity is None), None)
    if lingering is not None or suspected:
        return lingering
    engine, longest = {_engine(member) for member in task.members}, _longest(task.members)
    working = [
        (host.free_capacity, host)
        for host in alike
        if host.free_capacity is not None and {host.engine} == engine and host.limit_tokens >= longest
    ]
    if not working:
        return None
    room, host = max(working, key=lambda pair: pair[0])
    return host if must_wait or room >= len(task.members) else None


def split_offers(task: GenerateTask, host: RunningEngine) -> tuple[GenerateTask, GenerateTask | None]:
    """Returns (the part that the engine takes, the rest or None).

    The part has as many members as the engine has capacity for. Further members of the last member's model are added up
    to the largest group.
    """
    count = len(task.members)
    if host.free_capacity is not None and host.free_capacity < count:
        last = task.members[host.free_capacity - 1].inputs.model
        count = next((n for n in range(host.free_capacity, count) if task.members[n].inputs.model != last), count)
        count = min(count, host.most)
    part = task.model_copy(update={"members": task.members[:count], "host": host.task, "idle_timeout_seconds": 0.0})
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
