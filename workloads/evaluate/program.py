"""`python -m workloads.evaluate <task key>`: one engine runs all members of a generate task that it supports."""

import logging
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from workloads.api import store_keys
from workloads.api.model import digest_of
from workloads.api.records import Canary, ExitCode, Failure, Progress
from workloads.api.tasks import GenerateMember, GenerateTask
from workloads.engines.base import BadAdapter, Foreseen
from workloads.engines.watchdog import Watchdog, end_process
from workloads.evaluate.adapter_cache import AdapterCache, check_canary_tokens
from workloads.evaluate.claims import claim_members
from workloads.evaluate.engine_start import begin_start, demands_of, room_at_start, start_engine
from workloads.evaluate.evaluation import Evaluation
from workloads.evaluate.offers import LINGERING, Offers, linger
from workloads.evaluate.prepare import Bench, Prepared, prepare
from workloads.evaluate.session import Session, Tally, by_adapter, fail_member, prepare_all
from workloads.evaluate.trained_weights import TrainedWeights
from workloads.models.shapes import BadShapes, read_shapes
from workloads.models.weight_files import weights_size
from workloads.program import Context, ProgramError
from workloads.storage.base import StoreError
from workloads.storage.content_digest import ContentError, localise_model
from workloads.storage.markers import Corrupt
from workloads.text.tokenizer import BadTokenizer, load_tokenizer

logger = logging.getLogger("potstill")
START_SECONDS = 1800.0
STALL_SECONDS = 600.0
CRASH = 1


def evaluate(context: Context[GenerateTask]) -> None:
    """Commits outputs of every member, or writes its failure. Raises the first failure if no member was done."""
    with (
        tempfile.TemporaryDirectory(prefix="potstill-", ignore_cleanup_errors=True) as folder,
        AdapterCache(context.store, Path(folder) / "adapters") as adapters,
        Watchdog(_ender(context)) as watchdog,
    ):
        task, offers = context.task, Offers(context.store, context.task)
        trained = TrainedWeights(context.store, Path(folder) / "weights")
        bay = EngineBay(context, Path(folder), adapters, trained, watchdog, Tally(), offers)
        try:
            bay.work(task)
            while task.idle_timeout_seconds or task.takes_offers:
                seconds = task.idle_timeout_seconds if task.idle_timeout_seconds and bay.lingers() else 0.0
                offered = linger(offers, seconds, context.terminated)
                if offered is None:
                    break
                bay.work(offered)
        finally:
            bay.close()
    if bay.tally.first_failure is not None and bay.tally.done == 0:
        raise bay.tally.first_failure


@dataclass(frozen=True)
class EngineDemand:
    """An engine for a base and stated flags (`key`: the digests of both), and whether other tasks may join."""

    key: tuple[str, str]
    directory: Path
    bench: Bench
    foreseen: Foreseen
    shared: bool


@dataclass
class EngineBay:
    """Holds at most one engine at a time, as long as the next members can use it."""

    context: Context[GenerateTask]
    folder: Path
    adapters: AdapterCache
    trained: TrainedWeights
    watchdog: Watchdog
    tally: Tally
    offers: Offers
    session: Session | None = None
    wanted: EngineDemand | None = None
    """The requirements of the current engine."""
    _later: deque[tuple[tuple[str, str], GenerateTask, Sequence[GenerateMember]]] = field(default_factory=deque)
    """Members that need another engine than the current one, by its key."""
    _parts: int = 0
    """The number of later members for which another engine must be started."""

    def work(self, task: GenerateTask) -> None:
        """Runs the members of the task that belong to it, those of one engine together, and tasks that join them."""
        if self.session is None:
            begin_start(task.members[0].inputs.engine)
        claimed = by_engine(task, claim_members(self.context.store, task))
        self._later.extend((key, task, members) for key, members in claimed.items())
        while self._later:
            key, task, members = self._later.popleft()
            self._work(key, task, members)

    def _join(self) -> Sequence[Prepared]:
        """Returns members of offered tasks that the current engine can run. Others wait for another engine."""
        assert self.session is not None
        assert self.wanted is not None
        task: GenerateTask | None = None
        prepared: list[Prepared] = []
        try:
            task = self.offers.take()
            if task is None:
                return ()
            claimed = by_engine(task, claim_members(self.context.store, task))
            for member in claimed.pop(self.wanted.key, []):
                prepared += prepare_all(self.context, self.tally, [member], partial(prepare, self.wanted.bench))
        except StoreError as error:  # it may work again when there are results to commit
            logger.warning("no offer is taken for now: %s", error)
            for one in prepared:
                self._release(one)
            if task is not None:
                self.offers.put_back(task)
            return ()
        for key, members in claimed.items():
            self._postpone(key, task, members)
        found: list[Prepared] = []
        for one in by_adapter(prepared):
            if self.session.engine.accepts(demands_of([one.evaluation], foreseen_by(task))):
                found.append(one)
            else:
                self._release(one)
                self._postpone(self.wanted.key, task, [one.evaluation.member])
        return found

    def _postpone(self, key: tuple[str, str], task: GenerateTask, members: Sequence[GenerateMember]) -> None:
        assert self.session is not None
        logger.info("%d of the offered tasks need a separate engine, which starts after this one", len(members))
        self._later.append((key, task, members))
        self.session.more = None

    def _work(self, key: tuple[str, str], task: GenerateTask, members: Sequence[GenerateMember]) -> None:
        """If a model cannot be used, only its members fail."""
        try:
            directory, canaries = self._weights(task, members[0])
            bench = self._bench(directory, canaries)
        except (ProgramError, ContentError, Corrupt) as error:
            for member in members:
                fail_member(self.context, self.tally, member, error)
            return
        prepared = prepare_all(self.context, self.tally, members, partial(prepare, bench))
        if prepared:
            self._run(EngineDemand(key, directory, bench, foreseen_by(task), task.takes_offers), prepared)

    def _weights(self, task: GenerateTask, member: GenerateMember) -> tuple[Path, tuple[Canary, ...]]:
        """Raises ProgramError, ContentError, Corrupt, StoreError."""
        if member.checkpoint is None:
            return localise_model(member.weights or task.base), ()
        return self.trained.fetch(member.checkpoint)

    def _run(self, wanted: EngineDemand, prepared: Sequence[Prepared]) -> None:
        """If no engine can meet the requirements of all together, the most demanding ones are tried separately."""
        asked = [demands_of([one.evaluation], wanted.foreseen) for one in prepared]
        if self.session and self.wanted and self.wanted.key == wanted.key:
            served = [self.session.engine.accepts(demands) for demands in asked]
            if len(set(served)) > 1:
                self._run_apart(wanted, prepared, later=[not one for one in served])
                return
        try:
            session = self._session(wanted, prepared)
        except (ProgramError, ContentError) as error:
            most = max(asked, key=lambda one: (one.rank, one.target == "all", one.longest_tokens))
            largest = [demands == most for demands in asked]
            if not all(largest):
                logger.warning("no engine for %d evaluations together: %s", len(prepared), error)
                self._run_apart(wanted, prepared, later=largest)
                return
            for one in prepared:
                fail_member(self.context, self.tally, one.evaluation.member, error)
                self._release(one)
            return
        session.more = self._join if self._takes_more(wanted) else None
        session.work(prepared)

    def _run_apart(self, wanted: EngineDemand, prepared: Sequence[Prepared], *, later: Sequence[bool]) -> None:
        first, second = (
            [one for one, last in zip(prepared, later, strict=True) if last is turn] for turn in (False, True)
        )
        self._parts += 1
        self._run(wanted, first)
        self._parts -= 1
        self._run(wanted, second)

    def _takes_more(self, wanted: EngineDemand) -> bool:
        """Returns whether more tasks may join: not beside a suspect, and not if others wait for this engine to end."""
        log_is_open = self.context.task.takes_offers or self.context.task.idle_timeout_seconds > 0
        return log_is_open and wanted.shared and not self._later and not self._parts

    def _session(self, wanted: EngineDemand, prepared: Sequence[Prepared]) -> Session:
        """Returns the current session if it fits, else a new one in its place. Raises ProgramError."""
        evaluations = [one.evaluation for one in prepared]
        demands, bench = demands_of(evaluations, wanted.foreseen), wanted.bench
        if self.session and self.wanted and self.wanted.key == wanted.key and self.session.engine.accepts(demands):
            return self.session
        self.close()
        room = room_at_start(evaluations[0].member.inputs.engine, evaluations, demands, bench.shapes.context_tokens)
        self._report_start(evaluations, wanted.directory, room if self._takes_more(wanted) else 0)
        self.watchdog.expect("starting the engine", START_SECONDS)
        try:
            asked = evaluations[0].member.inputs.engine
            engine = start_engine(asked, wanted.directory, bench.shapes, bench.tokenizer, demands)
        finally:
            self.watchdog.rest()
        self.wanted = wanted
        self.session = Session(
            self.context,
            engine,
            bench.shapes,
            self.adapters,
            bench.tokenizer,
            self.watchdog,
            self.tally,
            STALL_SECONDS,
        )
        return self.session

    def _release(self, prepared: Prepared) -> None:
        if prepared.evaluation.adapter is not None:
            self.adapters.release(prepared.evaluation.adapter)

    def lingers(self) -> bool:
        """Returns whether an engine can take offers; if so, writes the phase to the progress record."""
        if self.session is not None:
            self.session.report(LINGERING)
        return self.session is not None

    def close(self) -> None:
        if self.session is not None:
            self.session.engine.close()
            self.session = None

    def _bench(self, directory: Path, canaries: tuple[Canary, ...]) -> Bench:
        try:
            shapes, tokenizer = read_shapes(directory), load_tokenizer(directory)
        except (BadShapes, BadTokenizer) as error:
            raise ProgramError(ExitCode.BAD_CONFIGURATION, type(error).__name__, str(error)) from error
        self.context.store.put_new(store_keys.blob_key(tokenizer.sha256), tokenizer.path.read_bytes())
        try:
            check_canary_tokens(canaries, shapes.vocabulary)
        except BadAdapter as error:
            raise ProgramError(ExitCode.BAD_DATA, "BadWeights", str(error)) from error
        return Bench(shapes, tokenizer, self.folder, self.adapters, self.context.stop_if_terminated, canaries)

    def _report_start(self, evaluations: Sequence[Evaluation], directory: Path, room: int) -> None:
        engine = evaluations[0].member.inputs.engine.name
        self.context.progress(
            Progress(
                attempt=self.context.task.number,
                updated=self.context.now(),
                phase=f"starting {engine} (weights {weights_size(directory)})",
                done=0,
                total=sum(one.total for one in evaluations),
                counted="outputs",
                members={one.digest: 0 for one in evaluations},
                room=room,
            )
        )


def foreseen_by(task: GenerateTask) -> Foreseen:
    return Foreseen(task.lora_target, task.lora_rank)


def by_engine(task: GenerateTask, members: Sequence[GenerateMember]) -> dict[tuple[str, str], list[GenerateMember]]:
    """Groups members by the digests of the weights and of the engine's flags."""
    found: dict[tuple[str, str], list[GenerateMember]] = {}
    for member in members:
        key = (digest_of(member.checkpoint or member.weights or task.base), digest_of(member.inputs.engine))
        found.setdefault(key, []).append(member)
    return found


def _ender(context: Context[GenerateTask]) -> Callable[[str, str], None]:
    """Returns the watchdog's action for a hung engine: writes the stacks to the attempt's failure, and ends like a
    crash.
    """

    def end(message: str, stacks: str) -> None:
        failure = Failure(exit_code=CRASH, reason="EngineHung", message=message, traceback=stacks)
        try:
            context.store.put(store_keys.failure_key(context.task.unit, context.task.number), failure.to_json())
        except StoreError as error:
            logger.warning("could not write the failure:  %s", error)
        end_process(CRASH)

    return end
