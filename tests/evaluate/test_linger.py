import threading
from pathlib import Path

import pytest

from tests.evaluate.world import World
from workloads.contract import layout
from workloads.contract.records import ExitCode
from workloads.contract.tasks import GenerateMember, GenerateTask, Offer, TaskRef
from workloads.evaluate import program as program_module
from workloads.evaluate.linger import Offers, linger
from workloads.store import AlreadyExists

LIMITS = iter(range(3, 200))


@pytest.fixture
def world(dense: Path, tmp_path: Path) -> World:
    return World(tmp_path, dense)


def offer(world: World, host: GenerateTask, sequence: int, member: GenerateMember) -> GenerateTask:
    """What the controller does: the task, then the next entry of the log."""
    task = world.order(member, host=TaskRef(unit=host.unit, number=host.number))
    key = layout.offer_key(host.unit, host.number, sequence)
    world.store.put_new(key, Offer(task_key=task.key).to_json())
    return task


def entries(world: World, host: GenerateTask) -> list[str | None]:
    listed = world.store.list(layout.offers_prefix(host.unit, host.number))
    return [Offer.model_validate_json(world.store.get(info.key)).task_key for info in listed]


def test_what_is_offered_is_worked_by_the_same_engine_and_the_log_is_closed(
    world: World, adapters: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[object] = []
    start = program_module.start_engine

    def counted(*arguments: object) -> object:
        starts.append(arguments)
        return start(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(program_module, "start_engine", counted)
    host = world.order(world.member(), linger_seconds=0.2)
    later = [world.member(world.checkpoint(adapters[index], index + 1)) for index in (0, 1)]
    offered = [offer(world, host, index + 1, member) for index, member in enumerate(later)]
    assert world.run(host) == ExitCode.OK
    assert all(world.marker(member.unit) for member in later)
    assert entries(world, host) == [offered[0].key, offered[1].key, None]
    assert len(starts) == 1


def offer_when(
    ready: threading.Barrier, world: World, key: str, task: GenerateTask, refused: list[GenerateTask]
) -> None:
    ready.wait()
    try:
        world.store.put_new(key, Offer(task_key=task.key).to_json())
    except AlreadyExists:
        refused.append(task)


def test_an_engine_that_was_not_asked_to_linger_leaves_no_log(world: World) -> None:
    host = world.order(world.member())
    assert world.run(host) == ExitCode.OK
    assert entries(world, host) == []


def test_a_task_offered_at_the_last_moment_is_taken_or_its_offer_refused_never_lost(world: World) -> None:
    """The controller and the closing engine race for the same number: whoever loses sees it."""
    for _ in range(20):
        host = world.order(world.member(limit_tokens=next(LIMITS)))
        task = world.order(world.member(limit_tokens=next(LIMITS)))
        key = layout.offer_key(host.unit, host.number, 1)
        ready, refused = threading.Barrier(2), list[GenerateTask]()
        thread = threading.Thread(target=offer_when, args=(ready, world, key, task, refused))
        thread.start()
        offers = Offers(world.store, host)
        ready.wait()
        taken = linger(offers, 0.0, threading.Event(), poll_seconds=0.01)
        thread.join()
        assert (taken is not None) != bool(refused)
        if taken is not None:
            assert taken.key == task.key
            assert linger(offers, 0.0, threading.Event()) is None
        assert entries(world, host)[-1] is None


def test_sigterm_ends_the_wait_and_closes_the_log(world: World) -> None:
    host = world.order(world.member())
    terminated = threading.Event()
    terminated.set()
    assert linger(Offers(world.store, host), 3600.0, terminated) is None
    assert entries(world, host) == [None]


def test_a_second_attempt_does_not_reopen_a_closed_log(world: World) -> None:
    host = world.order(world.member())
    assert linger(Offers(world.store, host), 0.0, threading.Event()) is None
    assert linger(Offers(world.store, host), 3600.0, threading.Event()) is None
    assert entries(world, host) == [None]
