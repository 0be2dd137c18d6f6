"""The evaluation pods of a namespace: which pods count, who gets the next one, and never more than the limit at
once.
"""

import random
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from prometheus_client import generate_latest

from controller.executors.kubernetes.metrics import Metrics
from controller.executors.kubernetes.quota import (
    CLAIM_SECONDS,
    WAITING_SECONDS,
    Claim,
    EvaluationLimit,
    QuotaLedger,
    QuotaQueue,
    holders,
)
from controller.executors.kubernetes.task_index import TaskIndex
from controller.planner.actions import Action, Decision, Start, Status, WriteTask
from controller.planner.planner import decide
from controller.planner.round import owner_of
from controller.snapshot.types import JobsSnapshot
from tests.controller.experiments import experiment, external, run
from tests.controller.simulate import Controller
from tests.controller.world import Weather, World
from workloads.api.evaluation_matrix import train_unit
from workloads.api.experiment import FrozenExperiment, Limits
from workloads.api.tasks import Owner

NOW = datetime(2026, 2, 16, 9, 0, tzinfo=UTC)
ASH, BIRCH, CEDAR = (Owner(experiment=name, uid8=f"{name:0<8}") for name in ("ash", "birch", "cedar"))
KEY = "units/generate/00/tasks/1.json"


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def item(role: str = "generate", key: str = KEY, owner: Owner = ASH, **told: Any) -> dict[str, Any]:
    labels = {"potstill.dev/experiment": owner.experiment, "potstill.dev/uid8": owner.uid8, "potstill.dev/role": role}
    created = {"creationTimestamp": "2026-02-16T08:00:00Z", "annotations": {"potstill.dev/task": key}}
    return {"metadata": {**created, "labels": labels, **told.pop("metadata", {})}, "status": told}


def condition(kind: str) -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": "True", "lastTransitionTime": "2026-02-16T08:30:00Z"}]}


def deleted(time: str) -> dict[str, Any]:
    return {"metadata": {"deletionTimestamp": time}}


@pytest.mark.parametrize(
    ("jobs", "pods", "count"),
    [
        ([item()], [], 1),
        ([item()], [item(phase="Running")], 1),
        ([item(role="train"), item(role="prefetch")], [item(role="grade", phase="Running")], 0),
        ([item(metadata={"annotations": {}})], [], 0),
        ([item(**condition("Complete"))], [item(phase="Succeeded")], 0),
        ([item(**condition("Failed"))], [item(phase="Failed")], 0),
        ([item(**condition("Complete"))], [item(phase="Running")], 1),
        ([item(**deleted("2026-02-16T08:59:00Z"))], [], 1),
        ([item(**deleted("2026-02-16T08:40:00Z"))], [], 0),
        ([], [item(phase="Pending")], 1),
        ([], [item(phase="Running", **deleted("2026-02-16T08:59:00Z"))], 1),
        ([], [item(phase="Running", **deleted("2026-02-16T08:40:00Z"))], 0),
        ([item(), item(key="units/generate/01/tasks/1.json", owner=BIRCH)], [], 2),
    ],
    ids=[
        "a Job that was just posted",
        "a Job and its pod are one",
        "other roles",
        "somebody else's, without a task",
        "done",
        "failed",
        "its pod has not ended yet",
        "being deleted",
        "stuck on a dead node",
        "a pod whose Job is gone",
        "one that is ending",
        "one that is stuck",
        "two",
    ],
)
def test_jobs_pods_and_claims_count_as_evaluation_pods(jobs: list[Any], pods: list[Any], count: int) -> None:
    assert len(holders(jobs, pods, {}, NOW)) == count


def test_pods_of_others_are_subtracted_from_the_pool_and_own_pods_are_not() -> None:
    line = QuotaQueue(3, {"a": ASH, "b": BIRCH, "c": BIRCH})
    assert [line.pool(owner).slots for owner in (ASH, BIRCH, CEDAR)] == [1, 2, 0]
    assert QuotaQueue(1, {"a": ASH, "b": BIRCH}).pool(CEDAR).slots < 0


def test_a_pod_is_owed_to_each_that_waited_longer() -> None:
    line = QuotaQueue(2, {"a": ASH}, (BIRCH, CEDAR))
    assert [line.pool(owner).reserved_for_others for owner in (BIRCH, CEDAR, ASH)] == [0, 1, 2]
    assert line.next() == (BIRCH,)
    assert QuotaQueue(2, {"a": ASH, "b": ASH, "c": ASH}, (BIRCH,)).next() == ()


def test_the_message_names_the_holder_of_the_pods_and_how_many_waited_longer() -> None:
    line = QuotaQueue(2, {"a": ASH, "b": ASH, "c": BIRCH}, (BIRCH, CEDAR))
    said = "the namespace's limit of evaluation pods is 2, used by ash (2), birch (1)"
    assert [line.pool(owner).quota_message for owner in (BIRCH, CEDAR)] == [said, f"{said}; 1 waited longer"]
    many = {str(n): Owner(experiment=f"e{n}", uid8="0" * 8) for n in range(5)}
    assert QuotaQueue(5, many).pool(ASH).quota_message.endswith("used by e0 (1), e1 (1), e2 (1) and 2 more")


def decision(*keys: str, limited: bool = False, taking: FrozenExperiment | None = None) -> Decision:
    """The decision with these generating tasks; `taking`: whether one of them is a new task."""
    actions: tuple[Action, ...] = ()
    if taking is not None:
        new = decide(taking, World(Weather(), 0).store_view(owner_of(taking)), JobsSnapshot({}), NOW).actions
        actions = tuple(action for action in new if isinstance(action, WriteTask))[:1]
    return Decision(actions, Status(()), frozenset(keys), limited)


def test_a_decision_counts_before_its_job_is_seen() -> None:
    ledger = QuotaLedger().with_seen({"b"}, NOW).after_decision(ASH, decision("a", "b"), NOW)
    assert ledger.claims == {"a": Claim(ASH, NOW)}
    assert holders([], [], ledger.claims, NOW) == {"a": ASH}
    assert ledger.after_decision(ASH, decision(), NOW).claims == {}
    assert ledger.after_decision(BIRCH, decision(), NOW).claims.keys() == {"a"}
    blind = Decision((), Status(()))
    assert ledger.after_decision(ASH, blind, NOW) == ledger


def test_a_claim_ends_when_its_job_is_seen_or_is_not_confirmed() -> None:
    ledger = QuotaLedger(claims={"a": Claim(ASH, NOW)})
    assert ledger.with_seen({"a"}, NOW).with_seen((), NOW).claims == {}, "a Job that was seen and has gone is gone"
    assert ledger.with_seen((), after(CLAIM_SECONDS - 1)).claims.keys() == {"a"}
    assert ledger.with_seen((), after(CLAIM_SECONDS)).claims == {}


def test_a_job_that_was_seen_and_deleted_is_not_claimed_from_a_stale_view() -> None:
    """Its Experiment is deleted: a last round sees the open task, and its Job is not in the copy."""
    ledger = QuotaLedger().after_decision(ASH, decision("a"), NOW).with_seen({"a"}, after(1)).with_seen((), after(2))
    assert ledger.after_decision(ASH, decision("a"), after(3)).claims == {}


def test_who_asked_first_is_first_until_it_takes_a_pod() -> None:
    frozen = experiment((), ("sums",))
    ledger = QuotaLedger()
    for seconds, owner in enumerate((BIRCH, ASH, CEDAR, BIRCH)):
        ledger = ledger.after_decision(owner, decision(limited=True), after(seconds))
    assert ledger.waiting(after(5)) == (BIRCH, ASH, CEDAR)
    ledger = ledger.after_decision(BIRCH, decision("a", limited=True, taking=frozen), after(6))
    assert ledger.waiting(after(6)) == (ASH, CEDAR, BIRCH)
    assert ledger.after_decision(ASH, decision("b"), after(7)).waiting(after(7)) == (CEDAR, BIRCH)
    assert ledger.without(CEDAR).waiting(after(7)) == (ASH, BIRCH)


def test_an_experiment_that_stops_asking_blocks_no_other_and_keeps_its_place() -> None:
    ledger = (
        QuotaLedger()
        .after_decision(ASH, decision(limited=True), NOW)
        .after_decision(BIRCH, decision(limited=True), after(10))
    )
    assert ledger.waiting(after(WAITING_SECONDS + 1)) == (BIRCH,)
    again = ledger.after_decision(ASH, decision(limited=True), after(WAITING_SECONDS + 2))
    assert again.waiting(after(WAITING_SECONDS + 2)) == (ASH, BIRCH)


def limit(most: int, wake: Callable[[str], None] = lambda _: None) -> EvaluationLimit:
    """The limit before the first LIST."""
    return EvaluationLimit(most, TaskIndex(evaluations=True), lambda: NOW, wake)


def take(key: str, view: JobsSnapshot) -> Decision:
    """Takes one more if a slot is free, like `decide`, which takes a moment."""
    [pool] = view.pools
    threading.Event().wait(0.001)
    return decision(key) if pool.slots - pool.reserved_for_others > 0 else decision(limited=True)


def test_many_workers_at_once_take_no_more_than_there_are() -> None:
    shared, begin = limit(3), threading.Barrier(16)
    taken: list[frozenset[str] | None] = []

    def work(number: int) -> None:
        begin.wait()
        owner = Owner(experiment=f"e{number}", uid8="0" * 8)
        taken.append(shared.admit(owner, JobsSnapshot({}), lambda view: take(str(number), view)).generating)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(len(keys or ()) for keys in taken) == 3


def test_the_next_in_line_is_called_when_a_decision_or_an_end_makes_room() -> None:
    called: list[str] = []
    shared = limit(1, called.append)
    for owner in (ASH, BIRCH, CEDAR):
        shared.admit(owner, JobsSnapshot({}), partial(take, owner.experiment))
    assert called == []
    shared.admit(ASH, JobsSnapshot({}), lambda _: decision())
    assert called == ["birch"]
    shared.forget(BIRCH)
    assert called == ["birch", "cedar"]
    shared.admit(CEDAR, JobsSnapshot({}), lambda view: take("cedar", view))
    shared.changed()
    assert called == ["birch", "cedar"], "nobody waits any more"


def test_without_a_limit_there_is_no_pool() -> None:
    seen: list[JobsSnapshot] = []

    def see(view: JobsSnapshot) -> Decision:
        seen.append(view)
        return decision()

    limit(0).admit(ASH, JobsSnapshot({}), see)
    assert seen == [JobsSnapshot({})]


def exported(shared: EvaluationLimit) -> dict[str, float]:
    metrics = Metrics()
    metrics.watch_limit("lab", shared.line)
    lines = generate_latest(metrics.registry).decode().splitlines()
    named = (line.rpartition(" ") for line in lines if line.startswith("potstill_evaluation_pods"))
    return {name: float(value) for name, _, value in named}


def test_the_limit_is_exported_unchanged() -> None:
    shared = limit(1)
    for owner in (ASH, BIRCH, CEDAR):
        shared.admit(owner, JobsSnapshot({}), partial(take, owner.experiment))
    name = 'potstill_evaluation_pods{}{{namespace="lab"}}'
    assert exported(shared) == {name.format(""): 1, name.format("_limit"): 1, name.format("_waiting"): 2}
    shared.forget(BIRCH)
    assert exported(shared)[name.format("_waiting")] == 1
    assert exported(limit(0)) == {}


class Namespace:
    """Rounds of several controllers in one world, whose copy of Jobs is as old as the last `look`."""

    def __init__(self, world: World, most: int, chance: random.Random) -> None:
        self.world = world
        self.most = most
        self.chance = chance
        self.ledger = QuotaLedger()
        self.copy: dict[str, Owner | None] = {}
        self.turns: Counter[str] = Counter()

    def look(self) -> None:
        """Delivers the watch's events: by key, the owner of each live Job, None for an ended one."""
        self.copy = {
            key: sim.task.owner if sim.job.phase != "ended" else None
            for key, sim in self.world.jobs.items()
            if sim.task.type == "generate"
        }

    def decided(self, controller: Controller) -> Decision:
        world, owner = self.world, owner_of(controller.frozen)
        self.ledger = self.ledger.with_seen(self.copy, world.now)
        held = {key: one for key, one in self.copy.items() if one is not None}
        line = QuotaQueue(
            self.most, held | {k: c.owner for k, c in self.ledger.claims.items()}, self.ledger.waiting(world.now)
        )
        world.pools = (line.pool(owner),)
        decided = controller.look(world)
        self.ledger = self.ledger.after_decision(owner, decided, world.now)
        self.turns[owner.experiment] += any(
            isinstance(action, Start) and action.task.type == "generate" for action in decided.actions
        )
        return decided

    def check(self) -> None:
        live = [s for s in self.world.jobs.values() if s.task.type == "generate" and s.job.phase != "ended"]
        assert len(live) <= self.most


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_the_limit_holds_at_every_step_and_all_experiments_end(seed: int) -> None:
    """Rounds of four experiments are interleaved action by action; Jobs are seen late, crash and are preempted."""
    chance = random.Random(seed)
    weather = Weather(crash=0.1, preempt=0.1, work_ticks=1 + seed % 3)
    limits = Limits(attempts=100, preemptions=200, group_members=2, idle_timeout_seconds=20.0 * (seed % 2))
    controllers = [
        Controller(
            experiment((run(f"r{n}", (50, 100), seed=n),), (f"b{n}",), name=f"e{n}", uid8=f"{n:08}", limits=limits)
        )
        for n in range(4)
    ]
    namespace = Namespace(World(weather, seed), 1 + seed % 2, chance)
    world = namespace.world
    for _ in range(3000):
        working = [c.act(world, namespace.decided(c).actions) for c in chance.sample(controllers, 4)]
        while working:
            one = chance.choice(working)
            if next(one, "over") == "over":
                working.remove(one)
            namespace.check()
            if chance.random() < 0.2:
                world.tick()
            if chance.random() < 0.2:
                namespace.look()
        world.tick()
        if all(controller.status is not None and controller.status.finished for controller in controllers):
            break
    assert [c.status.finished for c in controllers if c.status] == ["Succeeded"] * 4


def test_an_experiment_with_much_to_evaluate_takes_turns_with_one_that_has_little() -> None:
    limits = Limits(group_members=1, evaluation_slots=8)
    much = experiment((), tuple(f"b{n}" for n in range(20)), name="much", uid8="1" * 8, limits=limits)
    little = experiment((), ("own",), name="little", uid8="2" * 8, limits=limits)
    namespace = Namespace(World(Weather(), 0), 1, random.Random(0))
    controllers = [Controller(much), Controller(little)]
    for _ in range(60):
        for controller in controllers:
            for _ in controller.act(namespace.world, namespace.decided(controller).actions):
                namespace.check()
            namespace.look()
        namespace.world.tick()
        if controllers[1].status is not None and controllers[1].status.finished:
            break
    assert controllers[1].status is not None
    assert controllers[1].status.finished == "Succeeded"
    assert namespace.turns["much"] <= namespace.turns["little"] + 3


@pytest.mark.slow
def test_an_engine_that_others_join_is_not_kept_running_while_another_experiment_waits() -> None:
    limits, samples = Limits(group_members=8), tuple(range(1, 200))
    much = experiment((external("a", samples, published=True),), ("sums",), name="much", uid8="1" * 8, limits=limits)
    little = experiment((), ("own",), name="little", uid8="2" * 8, limits=limits)
    namespace = Namespace(World(Weather(rows=4), 0), 1, random.Random(0))
    world, controllers = namespace.world, [Controller(much)]
    for one in samples:
        world.publish(train_unit(much.runs[0]), one)
    for number in range(40):
        for controller in controllers:
            for _ in controller.act(world, namespace.decided(controller).actions):
                namespace.check()
            namespace.look()
        world.tick()
        if number == 8:
            before = len(world.completed)
            assert before, "the engine is running"
            controllers.append(Controller(little))
        if namespace.turns["little"]:
            break
    assert namespace.turns["little"]
    assert len(world.completed) - before < 4 * limits.group_members
