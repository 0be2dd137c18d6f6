"""Every state that two controllers of one small experiment can reach: the real planner, all interleavings, a few faults.

A step is one controller's look, one action of one controller, one commit of one program, a fault, or a passage of time.
A controller acts on the state that it saw, even if the other has changed it since. `explore` follows every step from
the beginning, checks every state, and then that an end can be reached from each: no state is stuck.
"""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from controller.planner.actions import Action, CloseTask, Discard, Start, Stop, WriteManifest, WritePointers, WriteTask
from controller.planner.planner import decide
from controller.planner.retry_policy import retry_state
from controller.planner.round import owner_of
from controller.snapshot.types import (
    Attempt,
    Folded,
    Job,
    JobsSnapshot,
    StoreSnapshot,
    UnitView,
    members_of,
)
from tests.controller.experiments import START
from tests.simulation.bounds import beyond_bounds
from workloads.api import store_keys
from workloads.api.experiment import FrozenExperiment
from workloads.api.model import sha256_of
from workloads.api.records import CheckpointRecord, Marker, StateRecord, TaskEnd
from workloads.api.tasks import MemberPointer, RunnableTask, TrainTask, parse_task, pointers
from workloads.api.units import UnitRef
from workloads.stages.registry import final_marker

STEP_SECONDS = 130.0
"""A passage of time that is longer than a task may wait for its start."""
MAX_PASSAGES = 8


@dataclass(frozen=True)
class Control:
    """One controller: its pending actions, the state that it folded last, and whether it has finished."""

    todo: tuple[str, ...] = ()
    folded: tuple[str, int, int] | None = None
    finished: bool = False


@dataclass(frozen=True)
class State:
    """`store`: the content by key. `jobs`: (task's key, phase, exit code, start time).

    `unseen`: tasks whose Job is deleted and whose process still runs.
    """

    store: frozenset[tuple[str, str]] = frozenset()
    jobs: frozenset[tuple[str, str, int, int]] = frozenset()
    unseen: frozenset[str] = frozenset()
    controls: tuple[Control, Control] = (Control(), Control())
    passages: int = 0
    faults: int = 0


@dataclass(frozen=True)
class Explored:
    states: int
    ends: int
    stranded: int
    """States from which the end cannot be reached."""
    example: tuple[str, ...] = ()
    """The steps to one of these states."""


class Explorer:
    """`faults`: the largest number of faults, of the kinds crash (of a controller or program), preemption, and lost Jobs whose process
    has died or works on."""

    def __init__(self, frozen: FrozenExperiment, faults: int, *, zombies: bool = True, only: str | None = None) -> None:
        """`only`: a kind of unit; no other unit is run, and the exploration ends with these units."""
        self._frozen = frozen
        self._only = only
        self._owner = owner_of(frozen)
        self._zombies = zombies
        self._actions: dict[str, Action] = {}
        self._begin = State(faults=faults)
        self._view = cache(self._view_uncached)
        self._task = cache(parse_task)
        self._decided = cache(self._decide)

    def explore(self, most: int = 2_000_000) -> Explored:
        """Raises AssertionError at the first state that breaks a promise, with the steps to this state."""
        came: dict[State, tuple[State, str] | None] = {self._begin: None}
        before: dict[State, list[State]] = {}
        ends: list[State] = []
        queue = deque([self._begin])
        while queue:
            state = queue.popleft()
            self._check(state, came)
            if self._is_end(state):
                ends.append(state)
                continue
            for what, after in self._steps(state):
                before.setdefault(after, []).append(state)
                if after not in came:
                    came[after] = (state, what)
                    queue.append(after)
                    assert len(came) <= most, f"more than {most} states"
        reaching = set(ends)
        queue = deque(ends)
        while queue:
            for earlier in before.get(queue.popleft(), ()):
                if earlier not in reaching:
                    reaching.add(earlier)
                    queue.append(earlier)
        stranded = [state for state in came if state not in reaching]
        return Explored(len(came), len(ends), len(stranded), path(stranded[0], came) if stranded else ())

    def _is_end(self, state: State) -> bool:
        if self._only is None:
            return all(control.finished for control in state.controls)
        if any(control.todo for control in state.controls) or any(job[1] == "running" for job in state.jobs):
            return False
        if self._decided(state.store, state.jobs, None, state.passages)[0]:
            return False
        units = self._view(state.store).units.values()
        over = [
            unit.done or retry_state(unit, self._owner, self._frozen.limits).exhausted is not None for unit in units
        ]
        return bool(over) and all(over)

    def _steps(self, state: State) -> Iterator[tuple[str, State]]:
        quiet = True
        for index, control in enumerate(state.controls):
            if control.finished:
                continue
            if control.todo:
                quiet = False
                yield f"{index} does {control.todo[0]}", self._act(state, index)
                if state.faults:
                    yield f"{index} crashes", with_control(fewer(state), index, replace(control, todo=()))
                continue
            todo, finished = self._decided(state.store, state.jobs, control.folded, state.passages)
            if todo or finished:
                quiet = False
                yield f"{index} looks", with_control(state, index, replace(control, todo=todo, finished=finished))
        yield from self._programs(state)
        working = any(phase == "running" for _, phase, _, _ in state.jobs)
        if quiet and not working and state.passages < MAX_PASSAGES:
            yield "time passes", replace(state, passages=state.passages + 1)

    def _decide(
        self, store: frozenset[tuple[str, str]], jobs: Any, folded: tuple[str, int, int] | None, passages: int
    ) -> tuple[tuple[str, ...], bool]:
        now = at(passages)
        seen = Folded(folded[0], sha256_of(folded[0].encode()), folded[1], at(folded[2])) if folded else None
        view = replace(self._view(store), folded=seen)
        decision = decide(self._frozen, view, JobsSnapshot({job.key: job for job in map(job_of, jobs)}), now)
        names = []
        for action in decision.actions:
            if self._only is not None and kind_of(action) not in {None, self._only}:
                continue
            for part in parts(action):
                name = repr(part) if isinstance(part, CloseTask | WriteManifest) else named(part)
                self._actions[name] = part
                names.append(name)
        return tuple(names), decision.status.finished is not None

    def _act(self, state: State, index: int) -> State:
        control = state.controls[index]
        action, left = self._actions[control.todo[0]], replace(control, todo=control.todo[1:])
        lost = replace(control, todo=())
        there = dict(state.store)
        match action:
            case WriteTask(task=task):
                return self._put(state, index, task.key, task.to_json().decode(), left, lost)
            case WritePointers(task=task):
                (pointer,) = pointers(task)
                return self._put(state, index, pointer.key, pointer.to_json().decode(), left, left)
            case CloseTask(unit=unit, end=end):
                return self._put(state, index, store_keys.end_key(unit, end.number), end.to_json().decode(), left, lost)
            case Start(task=task):
                if store_keys.end_key(task.unit, task.number) in there:
                    return with_control(state, index, lost)
                known = task.key in {key for key, *_ in state.jobs}
                jobs = state.jobs if known else state.jobs | {(task.key, "running", 0, state.passages)}
                return with_control(replace(state, jobs=jobs), index, left)
            case Stop(key=key):
                jobs = frozenset((k, "ended", 15, s) if k == key and p == "running" else (k, p, c, s)
                                 for k, p, c, s in state.jobs)  # fmt: skip
                return with_control(replace(state, jobs=jobs), index, left)
            case Discard(key=key):
                return with_control(without_job(state, key), index, left)
            case WriteManifest(of=of, grades=grades):
                return with_control(state, index, replace(left, folded=(of, grades, state.passages)))
        raise AssertionError(f"{type(action).__name__} is not modelled")

    def _put(self, state: State, index: int, key: str, data: str, left: Control, lost: Control) -> State:
        standing = dict(state.store).get(key)
        if standing is not None:
            return with_control(state, index, left if standing == data else lost)
        return with_control(replace(state, store=state.store | {(key, data)}), index, left)

    def _programs(self, state: State) -> Iterator[tuple[str, State]]:
        for key, phase, _, since in state.jobs:
            if phase != "running":
                continue
            yield f"{key} works", self._work(state, key, seen=True)
            if not state.faults:
                continue
            hurt = without_job(fewer(state), key)
            yield f"{key} crashes", replace(hurt, jobs=hurt.jobs | {(key, "ended", 137, since)})
            yield f"{key} is preempted", replace(hurt, jobs=hurt.jobs | {(key, "preempted", 143, since)})
            yield f"{key} is lost", hurt
            if self._zombies:
                yield f"{key} works on unseen", replace(hurt, unseen=hurt.unseen | {key})
        for key in state.unseen:
            yield f"{key} works unseen", self._work(state, key, seen=False)

    def _work(self, state: State, key: str, *, seen: bool) -> State:
        """Its next commit, or its end."""
        there = dict(state.store)
        task = self._task(there[key].encode())
        assert not isinstance(task, MemberPointer)
        for unit, number, name in commits(task):
            marker = store_keys.marker_key(unit, name)
            own = store_keys.task_key(unit, number)
            if marker in there or store_keys.end_key(unit, number) in there or own not in there:
                continue
            record = self._task(there[own].encode())
            lead = store_keys.task_key(record.lead, record.lead_number) if isinstance(record, MemberPointer) else own
            if lead == key:
                return replace(state, store=state.store | {(marker, str(number))})
        if not seen:
            return replace(state, unseen=state.unseen - {key})
        since = next(since for k, _, _, since in state.jobs if k == key)
        return replace(without_job(state, key), jobs=without_job(state, key).jobs | {(key, "ended", 0, since)})

    def _view_uncached(self, store: frozenset[tuple[str, str]]) -> StoreSnapshot:
        tasks: dict[UnitRef, list[Any]] = {}
        ends: dict[tuple[str, str, int], TaskEnd] = {}
        markers: dict[tuple[str, str], dict[str, Marker]] = {}
        for key, data in store:
            _, kind, digest, rest = key.split("/", 3)
            if rest.startswith("markers/"):
                name = rest.removeprefix("markers/").removesuffix(".json")
                unit = UnitRef(kind=kind, digest=digest)
                markers.setdefault((kind, digest), {})[name] = marker_of(unit, name, int(data))
            elif rest.endswith(".end.json"):
                end = TaskEnd.model_validate_json(data)
                ends[kind, digest, end.number] = end
            else:
                task = self._task(data.encode())
                tasks.setdefault(task.unit, []).append(task)
        units = {*tasks, *(UnitRef(kind=k, digest=d) for k, d in markers)}
        return StoreSnapshot(
            {
                unit: UnitView(
                    unit,
                    tuple(
                        Attempt(task, ends.get((unit.kind, unit.digest, task.number)))
                        for task in sorted(tasks.get(unit, []), key=lambda task: task.number)
                    ),
                    markers.get((unit.kind, unit.digest), {}),
                )
                for unit in units
            }
        )

    def _check(self, state: State, came: Any) -> None:
        view = self._view(state.store)
        limits = self._frozen.limits
        working = Counter(
            unit for key, phase, *_ in state.jobs if phase == "running"
            for unit, _ in members_of(self._runnable(state, key))
        )  # fmt: skip
        for unit, seen in view.units.items():
            where = f"{unit}: {path(state, came)}"
            assert len(seen.open_attempts) <= 1, f"two attempts at one time of {where}"
            assert working[unit] <= 1 or not self._zombies, f"two Jobs at {where}"
            ends = [attempt.end for attempt in seen.attempts if attempt.end is not None]
            moved = {marker.attempt for marker in seen.markers.values()}
            assert (broken := beyond_bounds(ends, moved, limits)) is None, f"{broken} of {where}"

    def _runnable(self, state: State, key: str) -> RunnableTask:
        task = self._task(dict(state.store)[key].encode())
        assert not isinstance(task, MemberPointer)
        return task


def commits(task: RunnableTask) -> Iterator[tuple[UnitRef, int, str]]:
    if isinstance(task, TrainTask):
        for samples in task.inputs.checkpoints:
            yield task.unit, task.number, store_keys.checkpoint_marker(samples)
        yield task.unit, task.number, store_keys.DONE
        return
    for unit, number in members_of(task):
        yield unit, number, final_marker(unit.kind)


@cache
def marker_of(unit: UnitRef, name: str, attempt: int) -> Marker:
    samples = int(name.partition("-")[2] or 0)
    record = CheckpointRecord(samples=samples, step=samples) if samples else StateRecord(samples=0, step=0)
    content = sha256_of(f"{unit.digest} {name}".encode())
    return Marker(unit=unit, name=name, attempt=attempt, content=content, files=(), created=START, record=record)


def parts(action: Action) -> Iterator[Action]:
    """A group's pointers are written one by one, and a crash may occur between any two."""
    if isinstance(action, WritePointers):
        lead = action.task.members[0]
        for member in action.task.members[1:]:
            yield WritePointers(action.task.model_copy(update={"members": (lead, member)}), action.why)
    else:
        yield action


def kind_of(action: Action) -> str | None:
    match action:
        case WriteTask(task=task) | Start(task=task) | WritePointers(task=task):
            return task.unit.kind
        case WriteManifest():
            return "manifest"
    return None


def named(action: Action) -> str:
    match action:
        case WriteTask(task=task) | Start(task=task):
            return f"{type(action).__name__} {task.to_json().decode()}"
        case WritePointers(task=task):
            return f"WritePointers {task.members[-1].unit} {task.to_json().decode()}"
    return f"{type(action).__name__} {getattr(action, 'key', '')}"


def at(passages: int) -> datetime:
    return START + timedelta(seconds=passages * STEP_SECONDS)


@cache
def job_of(job: tuple[str, str, int, int]) -> Job:
    key, phase, code, since = job
    if phase == "running":
        return Job(key, "running", at(since), started=at(since))
    preempted = phase == "preempted"
    return Job(key, "ended", at(since), started=at(since), ended=at(since), exit_code=code, preempted=preempted)


def without_job(state: State, key: str) -> State:
    return replace(state, jobs=frozenset(job for job in state.jobs if job[0] != key))


def fewer(state: State) -> State:
    return replace(state, faults=state.faults - 1)


def with_control(state: State, index: int, control: Control) -> State:
    """The controllers are interchangeable, so their order is normalised."""
    pair = [control if n == index else other for n, other in enumerate(state.controls)]
    first, second = sorted(pair, key=lambda one: (one.todo, one.folded or (), one.finished))
    return replace(state, controls=(first, second))


def path(state: State, came: Any) -> tuple[str, ...]:
    steps = []
    while came[state] is not None:
        state, what = came[state]
        steps.append(what if len(what) < 150 else what[:150] + "...")
    return tuple(reversed(steps))
