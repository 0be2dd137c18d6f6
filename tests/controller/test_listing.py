"""A round lists units that a notice, a Job or an own write marks as changed.

For others the last listing is reused, and no action is decided on it without a new LIST.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest

from controller.events import EventLog
from controller.planner.actions import Decision
from controller.rounds import Rounds
from controller.snapshot.listing import OPEN_SECONDS, ByNotice, ListBudget
from controller.snapshot.notices import OLD_SECONDS, NoticeBoard
from controller.snapshot.types import Job, JobsSnapshot, StoreSnapshot
from tests.controller.experiments import START, experiment, external, run
from tests.controller.tiny_program import commit
from tests.simulation.memory_store import Client, Objects
from tests.simulation.scheduler import Scheduler
from workloads.api import store_keys
from workloads.api.evaluation_matrix import train_unit
from workloads.api.experiment import FrozenExperiment
from workloads.api.records import CheckpointRecord, OutputsRecord, Progress
from workloads.api.tasks import Owner, RunnableTask
from workloads.api.units import UnitRef


@dataclass
class Running:
    """An executor whose Jobs run from their start."""

    jobs: dict[str, Job] = field(default_factory=dict)

    def view(self) -> JobsSnapshot:
        return JobsSnapshot(dict(self.jobs))

    def admit(self, view: JobsSnapshot, decide: Callable[[JobsSnapshot], Decision]) -> Decision:
        return decide(view)

    def gone(self, owners: object) -> frozenset[Owner]:
        return frozenset()

    def start(self, task: RunnableTask) -> None:
        self.jobs[task.key] = Job(task.key, "running", START, started=START)

    def stop(self, key: str) -> None: ...

    def discard(self, key: str) -> None:
        del self.jobs[key]

    def fetch_weights(self) -> None: ...


class Setting:
    """One experiment with a running training and a running evaluation of the base, in a store that counts LISTs."""

    def __init__(self, frozen: FrozenExperiment | None = None) -> None:
        self.frozen = frozen or experiment((run("a", (50, 100)),), ("sums",))
        self.objects = Objects(Scheduler(0, START))
        self.store = Client(self.objects)
        self.now = START
        self.board = NoticeBoard(self.store)
        self.executor = Running()
        self.rounds = self.new_rounds()
        self.train = train_unit(self.frozen.runs[0])

    def new_rounds(self) -> Rounds:
        def clock() -> float:
            return (self.now - START).total_seconds()

        self.listing = ByNotice(self.board, ListBudget(clock), ("ns", "e"), clock, lambda: 0.5)
        log = EventLog(self.store, self.frozen.name, self.frozen.uid8, "writer")
        return Rounds(self.frozen, self.store, self.executor, log, listing=self.listing)

    def round(self, seconds: float = 10.0) -> int:
        """Makes a round, and returns how many units it listed."""
        self.now += timedelta(seconds=seconds)
        self.board.refresh()
        before = self.objects.unit_lists
        self.decision = self.rounds.next("run", lambda: self.now)
        return self.objects.unit_lists - before

    def started(self, *, notices: bool = True) -> None:
        """Runs rounds until nothing happens."""
        for _ in range(4):
            self.round()
            for key in self.executor.jobs if notices else ():
                if self.notice(key) not in self.objects.standing:
                    self.store.put(self.notice(key), b"started")
        self.round()

    @staticmethod
    def notice(task: str) -> str:
        return task.replace("units/", store_keys.NOTICES).replace("tasks/", "")

    def commit(self, samples: int, *, notice: bool = True) -> None:
        record = CheckpointRecord(samples=samples, step=1)
        files = {"adapter_model.safetensors": f"{samples}", "adapter_config.json": "{}"}
        commit(self.store, self.train, 1, store_keys.checkpoint_marker(samples), files, record)
        if notice:
            self.store.put(store_keys.notice_key(self.train, 1), str(samples).encode())

    def checkpoints(self) -> int:
        return self.decision.status.counts.checkpoints


@pytest.fixture
def setting() -> Setting:
    found = Setting()
    found.started()
    return found


def test_where_nothing_happens_no_unit_is_listed(setting: Setting) -> None:
    assert [setting.round() for _ in range(10)] == [0] * 10
    assert not setting.listing.polls


def test_a_notice_has_its_unit_listed_and_no_other(setting: Setting) -> None:
    setting.commit(50)
    assert setting.board.refresh() == {("ns", "e")}
    setting.round(0.0)
    assert setting.checkpoints() == 1
    setting.round()
    assert setting.board.refresh() == frozenset()


def test_a_lost_notice_delays_by_minutes(setting: Setting) -> None:
    setting.commit(50, notice=False)
    setting.round()
    assert setting.checkpoints() == 0
    waited = 10.0
    while setting.checkpoints() == 0 and waited < 10_000:
        setting.round()
        waited += 10.0
    assert waited <= 1.2 * OPEN_SECONDS + 20


def test_programs_that_write_no_notices_are_listed_every_round() -> None:
    setting = Setting()
    setting.started(notices=False)
    assert setting.listing.polls
    setting.commit(50, notice=False)
    setting.round()
    assert setting.checkpoints() == 1


def test_a_change_of_a_job_has_its_unit_listed(setting: Setting) -> None:
    key = store_keys.task_key(setting.train, 1)
    setting.commit(50, notice=False)
    setting.executor.jobs[key] = replace(setting.executor.jobs[key], phase="ended", ended=setting.now, exit_code=1)
    setting.round()
    assert setting.checkpoints() == 1


def test_a_job_that_waits_to_run_is_not_listed_for() -> None:
    setting = Setting()
    setting.round()
    for key, job in setting.executor.jobs.items():
        setting.executor.jobs[key] = replace(job, phase="pending", started=None)
    setting.round()
    setting.round()
    assert [setting.round() for _ in range(3)] == [0, 0, 0]


def test_every_round_looks_for_published_checkpoints() -> None:
    frozen = experiment((external("theirs", (50,), published=True),), ("sums",))
    setting = Setting(frozen)
    setting.started()
    assert setting.listing.polls
    record = CheckpointRecord(samples=50, step=1)
    commit(setting.store, setting.train, 1, store_keys.checkpoint_marker(50), {"adapter_model.safetensors": ""}, record)
    setting.round()
    assert setting.checkpoints() == 1


def test_an_action_is_decided_on_units_that_were_listed_in_its_round(setting: Setting) -> None:
    """The outputs exist without a notice. The training's Job is lost: only its own attempt is made again."""
    seen = setting.rounds.seen
    assert isinstance(seen, StoreSnapshot)
    base = next(unit for unit in seen.units if unit.kind == "generate")
    outputs = OutputsRecord(
        engine=setting.frozen.engine, outputs=1, generated_tokens=1, finish_reasons={"stop": 1},
        prompts_sha256="a" * 64, tokenizer_sha256="b" * 64, seconds=1.0, versions={},
    )  # fmt: skip
    commit(setting.store, base, 1, store_keys.OUTPUTS, {"outputs.jsonl": "{}"}, outputs)
    for key in list(setting.executor.jobs):
        setting.executor.jobs.pop(key)
    for _ in range(3):
        setting.round(1000.0)
    assert store_keys.task_key(setting.train, 2) in setting.objects.standing
    assert store_keys.end_key(base, 1) in setting.objects.standing
    assert store_keys.task_key(base, 2) not in setting.objects.standing


def test_progress_is_read_without_a_list(setting: Setting) -> None:
    told = Progress(attempt=1, updated=START, phase="training", done=7, total=9, counted="steps")
    setting.store.put(store_keys.progress_key(setting.train, 1), told.to_json())
    assert setting.round() == 0
    assert setting.decision.status.runs[0].done == 7


def test_the_notice_of_a_closed_attempt_is_deleted(setting: Setting) -> None:
    key = store_keys.task_key(setting.train, 1)
    assert setting.notice(key) in setting.objects.standing
    setting.executor.jobs[key] = replace(setting.executor.jobs[key], phase="ended", ended=setting.now, exit_code=1)
    setting.round()
    assert store_keys.end_key(setting.train, 1) in setting.objects.standing
    assert setting.notice(key) not in setting.objects.standing


def test_a_restarted_controller_sees_the_same(setting: Setting) -> None:
    setting.commit(50)
    setting.board = NoticeBoard(setting.store)
    setting.rounds = setting.new_rounds()
    setting.round()
    assert setting.checkpoints() == 1


def test_units_that_nothing_changes_are_listed_again_at_a_bounded_rate() -> None:
    now = [0.0]
    budget = ListBudget(lambda: now[0])
    taken = 0
    for tenth in range(1000):
        now[0] = tenth / 10
        taken += sum(budget.take(3.0) for _ in range(5))
    assert 200 <= taken <= 301


def stand(board_store: Client, key: str, modified: datetime) -> None:
    board_store.objects.scheduler.now = modified
    board_store.put(key, b"notice")


def test_old_notices_are_deleted_and_young_ones_stay() -> None:
    store = Client(Objects(Scheduler(0, START)))
    unit = UnitRef(kind="train", digest="a" * 64)
    stand(store, store_keys.notice_key(unit, 1), START)
    stand(store, store_keys.NOTICES + "forged", START)
    stand(store, store_keys.notice_key(unit, 2), START + timedelta(seconds=OLD_SECONDS / 2))
    stand(store, store_keys.notice_key(unit, 3), START + timedelta(seconds=OLD_SECONDS + 60))
    board = NoticeBoard(store)
    board.refresh()
    assert sorted(store.objects.standing) == [store_keys.notice_key(unit, 2), store_keys.notice_key(unit, 3)]
    assert board.has(unit, 3)
    assert not board.has(unit, 4)


def test_only_followers_of_a_changed_unit_are_woken() -> None:
    store = Client(Objects(Scheduler(0, START)))
    one, other = (UnitRef(kind="train", digest=letter * 64) for letter in "ab")
    board = NoticeBoard(store)
    board.follow(("ns", "first"), [one])
    board.follow(("ns", "second"), [one, other])
    store.put(store_keys.notice_key(one, 1), b"1")
    assert board.refresh() == {("ns", "first"), ("ns", "second")}
    store.put(store_keys.notice_key(other, 1), b"1")
    assert board.refresh() == {("ns", "second")}
    board.follow(("ns", "second"), [other])
    store.put(store_keys.notice_key(one, 1), b"2")
    assert board.refresh() == {("ns", "first")}
    board.unfollow(("ns", "first"))
    store.put(store_keys.notice_key(one, 1), b"3")
    assert board.refresh() == frozenset()
