"""A complete world of the real code: controllers (observe, decide, act), `publish`, `gc` and `retry` on one store in
memory.

All actors take turns at every call to the store. The store checks at each write that committed files do not change;
`settle` runs the world until its experiments have ended and checks the other promises.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from controller.accept import accept
from controller.events import EventLog
from controller.gc.collector import look, restore_parked, sweep
from controller.gc.sweep import plan_sweep
from controller.lease import OwnersWatch
from controller.planner.actions import Status
from controller.planner.round import owner_of
from controller.retry import retry
from controller.rounds import Rounds
from controller.snapshot.listing import ByNotice, ListBudget
from controller.snapshot.notices import NoticeBoard
from tests.controller.experiments import START
from tests.simulation.bounds import beyond_bounds
from tests.simulation.machine import Machine, Weather
from tests.simulation.memory_store import Client, Objects
from tests.simulation.scheduler import Actor, Scheduler
from workloads.api import store_keys
from workloads.api.experiment import FrozenExperiment
from workloads.api.records import Marker, TaskEnd
from workloads.api.tasks import Owner, parse_task
from workloads.api.units import UnitRef
from workloads.stages.registry import final_marker
from workloads.storage.base import StoreError
from workloads.storage.markers import Corrupt, verify

FLOOR_SECONDS = 3600.0
FAIR = Weather()
UNREADABLE = (b"", b"<html>", b"{}", b'{"schemaVersion": 99}', b"\xff\xfe")
MAX_TURNS = 60_000


@dataclass(frozen=True)
class Faults:
    """`fails`, `stale`: probabilities per call of a controller (`stale`: per LIST); programs' calls fail ten times less
    often. `crash_turns`: a controller is killed about every `crash_turns` turns, 0: never. `skew_seconds`: the error of
    the second machine's clock.
    """

    weather: Weather = FAIR
    fails: float = 0.0
    stale: float = 0.0
    crash_turns: int = 0
    skew_seconds: float = 0.0


@dataclass
class World:
    seed: int
    faults: Faults = Faults()
    scheduler: Scheduler = field(init=False)
    objects: Objects = field(init=False)
    machines: list[Machine] = field(default_factory=list)
    finished: dict[str, Status] = field(default_factory=dict)
    """The last status, by controller."""
    expected: set[str] = field(default_factory=set)
    """Controllers that must finish."""
    crashes: int = 0
    by_notice: bool = False
    """Controllers list units when notices name them, like those in a cluster."""
    _end_controller: dict[str, Callable[[], None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(self.seed, START)
        self.objects = Objects(self.scheduler)

    @property
    def over(self) -> bool:
        return self.expected <= self.finished.keys()

    def client(self, share: float = 1.0) -> Client:
        return Client(self.objects, self.faults.fails * share, self.faults.stale if share == 1.0 else 0.0)

    def machine(self, name: str) -> Machine:
        """Returns a machine with its own records. Both controllers see the processes that they start there."""

        def clock() -> float:
            return self.scheduler.now.timestamp()

        watch = OwnersWatch(self.client(0.0), clock)
        made = Machine(name, self.scheduler, lambda: self.client(0.1), self.faults.weather, watch)
        self.machines.append(made)
        return made

    def controller(self, name: str, frozen: FrozenExperiment, machine: Machine, skew_seconds: float = 0.0) -> None:
        """Runs the experiment until it is finished, and again after each crash."""
        alive = [True]
        self.expected.add(name)

        def clock() -> datetime:
            return self.scheduler.now + timedelta(seconds=skew_seconds)

        def body() -> None:
            client = self.client()
            with_patience(lambda: accept(frozen, client), self.scheduler)
            board = NoticeBoard(client)
            listing = self._listing(board, name) if self.by_notice else None
            rounds = Rounds(frozen, client, machine, EventLog(client, frozen.name, frozen.uid8, name), listing=listing)
            while True:
                if self.by_notice:
                    with suppress(StoreError):
                        board.refresh()
                decision = rounds.next("run", clock)
                if decision.status.finished is not None:
                    self.finished[name] = decision.status
                    alive[0] = False
                    return
                if rounds.trouble is not None or rounds.lost_race or not decision.actions:
                    self.scheduler.sleep(5.0)

        current: list[Actor] = [self.scheduler.spawn(name, body)]

        def crash() -> None:
            chance = self.scheduler.random
            while alive[0]:
                self.scheduler.sleep(chance.uniform(0, 2 * self.faults.crash_turns * self.scheduler.turn_seconds))
                if alive[0] and not current[0].over:
                    current[0].killed = True
                    self.crashes += 1
                    current[0] = self.scheduler.spawn(name, body, after_seconds=chance.choice([0.0, 5.0, 200.0]))

        def end() -> None:
            alive[0] = False
            current[0].killed = True
            self.finished.pop(name, None)

        self._end_controller[name] = end
        if self.faults.crash_turns:
            self.scheduler.spawn(f"crashes of {name}", crash)

    def _listing(self, board: NoticeBoard, name: str) -> ByNotice:
        def seconds() -> float:
            return self.scheduler.now.timestamp()

        return ByNotice(board, ListBudget(seconds), ("simulated", name), seconds, self.scheduler.random.random)

    def forger(self, every_seconds: float = 10.0) -> None:
        """Writes notices of attempts that write none, and under invalid names, and deletes those of others."""

        def body() -> None:
            chance = self.scheduler.random
            while not self.over:
                self.scheduler.sleep(chance.uniform(0, 2 * every_seconds))
                standing = sorted(self.objects.standing)
                tasks = [key for key in standing if re.fullmatch(r"units/.*/tasks/\d+\.json", key)]
                notices = [key for key in standing if key.startswith(store_keys.NOTICES)]
                if tasks:
                    forged = chance.choice(tasks).removeprefix(store_keys.UNITS).replace("tasks/", "")
                    self.objects.put(store_keys.NOTICES + forged, b"forged " + str(chance.random()).encode())
                self.objects.put(f"{store_keys.NOTICES}train/nothing/{chance.randrange(9)}", b"junk")
                if notices:
                    self.objects.delete(chance.choice(notices))

        self.scheduler.spawn("forger", body)

    def garbage_collector(self, every_seconds: float = 300.0) -> None:
        """Runs `potstill gc --delete` repeatedly, is killed sometimes, and deletes no object that is younger than an
        hour.
        """

        def body() -> None:
            client = self.client(0.1)
            while not self.over:
                now = self.scheduler.now.timestamp()
                try:
                    restore_parked(client)
                    plan = plan_sweep(look(client), now, FLOOR_SECONDS)
                    sweep(client, plan, lambda: look(client), now, FLOOR_SECONDS)
                except (StoreError, Corrupt):
                    pass
                self.scheduler.sleep(self.scheduler.random.uniform(0, every_seconds))

        self._again_after_kills("gc", body, 2 * every_seconds)

    def person(self, frozen: FrozenExperiment, every_seconds: float = 200.0) -> None:
        """A user who retries every failed unit without a look at the reason."""

        def body() -> None:
            client = self.client(0.1)
            while not self.over:
                with suppress(StoreError):
                    retry(frozen, client)
                self.scheduler.sleep(self.scheduler.random.uniform(0, every_seconds))

        self._again_after_kills("retry", body, 2 * every_seconds)

    def vandal(self, names: re.Pattern[str], every_seconds: float = 30.0, most: int = 1_000_000) -> list[str]:
        """Overwrites `most` records with matching keys with unreadable data.

        Returns the keys, and appends to them while it runs.
        """
        damaged: list[str] = []

        def body() -> None:
            chance = self.scheduler.random
            while not self.over and len(damaged) < most:
                self.scheduler.sleep(chance.uniform(0, every_seconds))
                standing = [key for key in self.objects.standing if names.fullmatch(key) and key not in damaged]
                if standing:
                    key = chance.choice(standing)
                    self.objects.damage(key, chance.choice(UNREADABLE))
                    damaged.append(key)

        self.scheduler.spawn("vandal", body)
        return damaged

    def _again_after_kills(self, name: str, body: Callable[[], None], every_seconds: float) -> None:
        current = [self.scheduler.spawn(name, body)]

        def kill() -> None:
            while not self.over:
                self.scheduler.sleep(self.scheduler.random.uniform(0, 2 * every_seconds))
                if not current[0].over:
                    current[0].killed = True
                    current[0] = self.scheduler.spawn(name, body, 1.0)

        self.scheduler.spawn(f"kills of {name}", kill)

    def vanishes(self, name: str, frozen: FrozenExperiment, after_seconds: float) -> None:
        """Controller and programs stop permanently, and the experiment's folder is deleted, as docs/store.md
        describes.
        """

        self.expected.remove(name)

        def body() -> None:
            self._end_controller[name]()
            for machine in self.machines:
                for key, actor in machine.actors.items():
                    data = self.objects.standing.get(key)
                    if data is not None and parse_task(data.data).owner == owner_of(frozen) and not actor.over:
                        actor.killed = True
                        machine.jobs.pop(key, None)
            for key in [key for key in self.objects.standing if key.startswith(f"experiments/{frozen.name}/")]:
                self.objects.delete(key)

        self.scheduler.spawn(f"the end of {name}", body, after_seconds)

    def settle(self, frozen: Iterable[FrozenExperiment]) -> None:
        """Raises AssertionError when a promise is broken, or not all controllers have finished in MAX_TURNS."""
        try:
            while not self.over:
                assert self.scheduler.turns < MAX_TURNS, f"seed {self.seed}: {self._unfinished()}"
                self.scheduler.step()
            self._check(list(frozen))
        finally:
            self.scheduler.end()

    def _unfinished(self) -> str:
        names = [actor.name for actor in self.scheduler.actors]
        return f"not finished after {MAX_TURNS} turns, at {self.scheduler.now}; actors {names}"

    def _check(self, experiments: list[FrozenExperiment]) -> None:
        for machine in self.machines:
            twice = [key for key, count in Counter(machine.started).items() if count > 1 and not machine.zombies]
            assert not twice, f"started twice on {machine.name}: {twice}"
        standing = self.objects.standing
        reader = Client(self.objects)
        for key, one in standing.items():
            if "/markers/" in key and one.data not in UNREADABLE:
                problems = verify(reader, Marker.model_validate_json(one.data), deep=True)
                assert not problems, f"{key}: {problems}"
        for frozen in experiments:
            self._check_bounds(frozen)

    def _check_bounds(self, frozen: FrozenExperiment) -> None:
        """Each attempt has an end, and there are not more than the limits allow."""
        owner, limits = owner_of(frozen), frozen.limits
        reports = {store_keys.unit_prefix(status.report) for status in self.finished.values() if status.report}
        for unit, numbers in self._attempts(owner).items():
            retried = max((n for n in numbers if f"{unit}tasks/{n}.retry.json" in self.objects.standing), default=0)
            ends = []
            for number in sorted(numbers):
                data = self.objects.standing.get(f"{unit}tasks/{number}.end.json")
                if data is None and unit.startswith("units/report/") and unit not in reports:
                    continue  # of a manifest that was written again: `gc` deletes it
                if data is None and self.faults.stale and self._is_done(unit):
                    continue  # a LIST showed the result and not the task: no unit waits for it
                assert data is not None, f"{unit}tasks/{number}.json has no end"
                if data is None or number <= retried or data.data in UNREADABLE:
                    continue
                ends.append(TaskEnd.model_validate_json(data.data))
            assert (broken := beyond_bounds(ends, self._moved(unit), limits)) is None, f"{unit}: {broken}"

    def _is_done(self, unit: str) -> bool:
        _, kind, digest, _ = unit.split("/")
        name = final_marker(kind)
        return store_keys.marker_key(UnitRef(kind=kind, digest=digest), name) in self.objects.standing

    def _attempts(self, owner: Owner) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for key, one in self.objects.standing.items():
            unit, tasks, name = key.partition("tasks/")
            is_task = tasks and name.removesuffix(".json").isdigit() and one.data not in UNREADABLE
            if is_task and parse_task(one.data).owner == owner:
                found.setdefault(unit, []).append(int(name.removesuffix(".json")))
        return found

    def _moved(self, unit: str) -> set[int]:
        return {
            Marker.model_validate_json(one.data).attempt
            for key, one in self.objects.standing.items()
            if key.startswith(f"{unit}markers/") and one.data not in UNREADABLE
        }


def with_patience(call: Callable[[], object], scheduler: Scheduler) -> None:
    while True:
        try:
            call()
        except StoreError:
            scheduler.sleep(5.0)
        else:
            return
