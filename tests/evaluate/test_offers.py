import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.evaluate.models import write_dense
from tests.evaluate.world import TRANSFORMERS, World
from tests.tools.progress import Told
from workloads.api import store_keys
from workloads.api.records import ExitCode
from workloads.api.tasks import GenerateMember, GenerateTask, ModelSource, Offer, TaskRef
from workloads.api.units import ModelContent
from workloads.engines.base import Adapter, Decoding, Demands, Finished, Foreseen, Request
from workloads.engines.transformers.engine import TransformersEngine
from workloads.engines.vllm.config import ADAPTER_RANKS, VllmSettings, complete
from workloads.evaluate import program as program_module
from workloads.evaluate.engine_start import demands_of, room_at_start, start_engine
from workloads.evaluate.evaluation import Evaluation
from workloads.evaluate.offers import Offers, linger
from workloads.evaluate.prompts import Prompt
from workloads.program import ProgramError, run_program
from workloads.storage.base import AlreadyExists, StoreError
from workloads.storage.content_digest import directory_content
from workloads.storage.directory import DirectoryStore

LIMITS = iter(range(3, 200))


@pytest.fixture
def world(dense: Path, tmp_path: Path) -> World:
    """Its engine needs several steps."""
    return World(tmp_path, dense, TRANSFORMERS.model_copy(update={"flags": {"batch_rows": 2}}))


def offer(world: World, host: GenerateTask, sequence: int, member: GenerateMember) -> GenerateTask:
    """Acts like the controller: writes the task, then the next entry of the log."""
    task = world.order(member, host=TaskRef(unit=host.unit, number=host.number))
    key = store_keys.offer_key(host.unit, host.number, sequence)
    world.store.put_new(key, Offer(task_key=task.key).to_json())
    return task


def entries(world: World, host: GenerateTask) -> list[str | None]:
    listed = world.store.list(store_keys.offers_prefix(host.unit, host.number))
    return [Offer.model_validate_json(world.store.get(info.key)).task_key for info in listed]


def counted_starts(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    starts: list[object] = []
    start = start_engine

    def counted(*arguments: Any) -> object:
        starts.append(arguments)
        return start(*arguments)

    monkeypatch.setattr(program_module, "start_engine", counted)
    return starts


def run_and_tell(world: World, host: GenerateTask, told: Told) -> int:
    return run_program(GenerateTask, told.body(program_module.evaluate), [host.key], {"POTSTILL_STORE": world.url})


class AtWork:
    """An engine that reports capacity while it runs, and a callback that makes offers when it has begun.

    `submitted`: for each request, the number of unfinished requests before it.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, offers: Callable[[], object]) -> None:
        step, submit = TransformersEngine.step, TransformersEngine.submit
        self.submitted: dict[str, int] = {}
        self.begun = False

        def step_and_offer(engine: TransformersEngine) -> list[Finished]:
            if not self.begun:
                self.begun = True
                offers()
            return step(engine)

        def submit_and_tell(engine: TransformersEngine, request: Request) -> None:
            self.submitted[request.id] = engine.pending
            submit(engine, request)

        monkeypatch.setattr("workloads.evaluate.session.POLL_SECONDS", 0.0)
        monkeypatch.setattr("workloads.evaluate.session.SELDOM", 0.0)
        monkeypatch.setattr(TransformersEngine, "room", lambda *_: 2)
        monkeypatch.setattr(TransformersEngine, "wants", lambda *_: True)
        monkeypatch.setattr(TransformersEngine, "step", step_and_offer)
        monkeypatch.setattr(TransformersEngine, "submit", submit_and_tell)


def test_a_task_offered_to_a_running_engine_joins_its_tasks(
    world: World, adapters: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    starts, told = counted_starts(monkeypatch), Told()
    first, alone = world.member(), [world.member(world.checkpoint(adapters[index], index + 1)) for index in (0, 1)]
    host, offered = world.order(first, takes_offers=True), list[GenerateTask]()
    engine = AtWork(monkeypatch, lambda: offered.extend(offer(world, host, i + 1, m) for i, m in enumerate(alone)))
    assert run_and_tell(world, host, told) == ExitCode.OK
    assert all(world.marker(member.unit) for member in (first, *alone))
    assert len(starts) == 1
    assert entries(world, host) == [*(task.key for task in offered), None]
    joined = [count for name, count in engine.submitted.items() if not name.startswith(first.unit.digest)]
    assert len(joined) == 12
    assert min(joined) > 0, "it was taken when the engine had nothing else to do"
    assert max(progress.room for progress in told.progress) == 2
    taken = [progress for progress in told.progress if alone[0].unit.digest in progress.members]
    assert taken[0].done < len(world.problems)
    assert taken[-1].total == taken[-1].done == 3 * len(world.problems)


@pytest.mark.slow
def test_a_task_that_the_running_engine_cannot_serve_gets_a_separate_one_after_it(
    world: World, adapters: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole weights. Later offers wait too, because the engine reports no capacity."""
    other = write_dense(tmp_path / "other", seed=5)
    whole = ModelSource(location=str(other), content=directory_content(other))
    strange = world.member(model=ModelContent(base=whole.content)).model_copy(update={"weights": whole})
    first, last = world.member(), world.member(world.checkpoint(adapters[0], 1))
    starts, told = counted_starts(monkeypatch), Told()
    host, offered = world.order(first, takes_offers=True), list[GenerateTask]()
    AtWork(monkeypatch, lambda: offered.extend(offer(world, host, i + 1, m) for i, m in enumerate((strange, last))))
    assert run_and_tell(world, host, told) == ExitCode.OK
    assert all(world.marker(member.unit) for member in (first, strange, last))
    assert entries(world, host) == [*(task.key for task in offered), None]
    assert len(starts) == 3
    assert told.progress[-1].room == 0


def test_a_bad_adapter_fails_alone_and_the_engine_continues(
    world: World, adapters: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, good = world.member(), world.member(world.checkpoint(adapters[0], 1))
    bad = world.member(problems=("p0", "p9"))
    host = world.order(first, takes_offers=True)
    AtWork(monkeypatch, lambda: [offer(world, host, i + 1, m) for i, m in enumerate((bad, good))])
    assert world.run(host) == ExitCode.OK
    assert world.marker(first.unit)
    assert world.marker(good.unit)
    failure = world.failure(bad)
    assert failure is not None
    assert (failure.reason, failure.member) == ("BadBenchmark", bad.unit.digest)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["the offer", "its member"])
def test_a_store_that_does_not_answer_for_a_moment_loses_no_offer(
    world: World, adapters: list[Path], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    first, late = world.member(), world.member(world.checkpoint(adapters[0], 1))
    host, refused, starts = world.order(first, takes_offers=True), list[str](), counted_starts(monkeypatch)
    assert late.adapter is not None
    unreadable = {store_keys.offer_key(host.unit, 1, 1), store_keys.task_key(late.unit, 1)}
    if what == "its member":
        outputs, checkpoint = late.unit, late.adapter
        unreadable = {
            store_keys.marker_key(outputs, store_keys.OUTPUTS),
            store_keys.marker_key(checkpoint.unit, checkpoint.marker),
        }
    get = DirectoryStore.get_with_etag

    def sometimes(store: DirectoryStore, key: str) -> tuple[bytes, str]:
        """The entry of the log and the task that it names, or the member's markers, cannot be read the first time."""
        if engine.begun and key in unreadable:
            unreadable.remove(key)
            refused.append(key)
            raise StoreError(f"{key}: no answer")
        return get(store, key)

    monkeypatch.setattr(DirectoryStore, "get_with_etag", sometimes)
    engine = AtWork(monkeypatch, lambda: offer(world, host, 1, late))
    assert world.run(host) == ExitCode.OK
    assert len(refused) == 2
    assert world.marker(late.unit)
    assert len(starts) == 1


def test_an_engine_that_takes_offers_closes_its_log_though_none_came(world: World) -> None:
    host = world.order(world.member(), takes_offers=True)
    assert world.run(host) == ExitCode.OK
    assert entries(world, host) == [None]


def test_an_engine_without_room_says_so(world: World, adapters: list[Path]) -> None:
    """The transformers engine has one adapter at a time: offered evaluations would only wait."""
    told = Told()
    host = world.order(world.member(), world.member(world.checkpoint(adapters[0], 1)), takes_offers=True)
    assert run_and_tell(world, host, told) == ExitCode.OK
    assert {progress.room for progress in told.progress} == {0}


def test_the_same_engine_evaluates_offered_members_and_closes_the_log(
    world: World, adapters: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = counted_starts(monkeypatch)
    host = world.order(world.member(), idle_timeout_seconds=0.2)
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
    """The controller and the closing engine write the same number: the loser notices it."""
    for _ in range(20):
        host = world.order(world.member(limit_tokens=next(LIMITS)))
        task = world.order(world.member(limit_tokens=next(LIMITS)))
        key = store_keys.offer_key(host.unit, host.number, 1)
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


@pytest.mark.parametrize("takes_offers", [False, True])
def test_a_request_that_is_refused_at_once_fails_its_evaluation_while_the_others_are_under_way(
    world: World, monkeypatch: pytest.MonkeyPatch, takes_offers: bool
) -> None:
    """vLLM may refuse a request in this way; afterwards there is no capacity to report."""
    step, submit, refused = TransformersEngine.step, TransformersEngine.submit, list[Request]()

    def submit_or_refuse(engine: TransformersEngine, request: Request) -> None:
        if request.id.endswith("/p0"):
            refused.append(request)
        else:
            submit(engine, request)

    def step_or_tell(engine: TransformersEngine) -> list[Finished]:
        told = [Finished(request.id, (), "error", 0.0, "refused") for request in refused]
        refused.clear()
        return told or step(engine)

    monkeypatch.setattr(TransformersEngine, "submit", submit_or_refuse)
    monkeypatch.setattr(TransformersEngine, "step", step_or_tell)
    member = world.member()
    world.run(world.order(member, takes_offers=takes_offers))
    failure = world.failure(member)
    assert failure is not None
    assert (failure.reason, failure.member) == ("RequestFailed", member.unit.digest)


def test_an_offered_member_does_not_join_while_others_wait_for_a_separate_engine(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No engine can run two of the members together: the second gets its turn when the first has ended."""
    start, asked = start_engine, list[int]()

    def picky(inputs: Any, directory: Any, shapes: Any, tokenizer: Any, demands: Demands) -> Any:
        asked.append(demands.longest_tokens)
        if len(asked) == 1:
            raise ProgramError(ExitCode.BAD_CONFIGURATION, "DoesNotFit", "not together")
        return start(inputs, directory, shapes, tokenizer, demands)

    monkeypatch.setattr(program_module, "start_engine", picky)
    monkeypatch.setattr(TransformersEngine, "accepts", lambda _, demands: demands.longest_tokens <= asked[-1])
    small, big = world.member(limit_tokens=16), world.member(limit_tokens=40)
    host, late = world.order(small, big, takes_offers=True), world.member(limit_tokens=15)
    AtWork(monkeypatch, lambda: offer(world, host, 1, late))
    assert world.run(host) == ExitCode.OK
    ends = [world.marker(member.unit) for member in (small, big, late)]
    created = [marker.created for marker in ends if marker is not None]
    assert len(created) == 3
    assert created == sorted(created)


def test_a_starting_engine_reports_the_capacity_of_its_slots_and_rows(world: World, adapters: list[Path]) -> None:
    def room(count: int, requests: int, **flags: str | int | float | bool) -> int:
        asked = TRANSFORMERS.model_copy(update={"name": "vllm", "flags": flags})
        members = [world.member(world.checkpoint(adapters[number], number)) for number in range(count)]
        evaluations = [
            Evaluation(
                member,
                [Prompt("p", (1,), "")] * requests,
                Adapter(str(number), adapters[number], 8),
                Decoding(0.0, 1.0, 9, ()),
            )
            for number, member in enumerate(members)
        ]
        return room_at_start(asked, evaluations, demands_of(evaluations, Foreseen("all", 64)), 4096)

    assert room(1, 100) == 3
    assert room(1, 100, max_num_seqs=200) == 1
    assert room(2, 100, max_loras=2) == 0
    assert room(1, 1000) == 0
    assert room(1, 100, merge_adapters=True) == 0
    assert room(1, 100, max_num_seqs=-3) == 0


def test_an_engine_has_slots_for_the_largest_rank_that_is_to_come() -> None:
    assert complete(VllmSettings(), Demands(100, foreseen_rank=64), 4096).max_lora_rank == 64
    assert complete(VllmSettings(), Demands(100, rank=128, foreseen_rank=64), 4096).max_lora_rank == 128
    assert complete(VllmSettings(), Demands(100, foreseen_rank=4096), 4096).max_lora_rank == max(ADAPTER_RANKS)
