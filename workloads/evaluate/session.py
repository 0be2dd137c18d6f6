"""A running engine and its group: loads adapters, checks their canaries, and commits outputs of each finished
evaluation.
"""

import logging
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from workloads.api import store_keys
from workloads.api.records import ExitCode, Progress
from workloads.api.tasks import GenerateMember, GenerateTask
from workloads.engines.base import BadAdapter, Engine, Finished, Request
from workloads.engines.watchdog import Watchdog
from workloads.evaluate.adapter_cache import AdapterCache
from workloads.evaluate.canary import check_canaries, coarsest_dtype
from workloads.evaluate.evaluation import Evaluation
from workloads.evaluate.offers import POLL_SECONDS
from workloads.evaluate.prepare import Prepared
from workloads.models.shapes import ModelShapes
from workloads.program import Context, ProgramError
from workloads.storage.content_digest import ContentError
from workloads.storage.markers import Corrupt, Superseded
from workloads.text.tokenizer import TextTokenizer

logger = logging.getLogger("potstill")
OWN_WEIGHTS = ""
"""The key of the engine's own weights among the names of checked adapters."""
SELDOM = 4
"""The pause between two requests for more offers, as a multiple of the first one's duration."""
REQUEST_ATTEMPTS = 3
"""How often a request that the engine gave up is submitted again."""


@dataclass
class Tally:
    """The results of the members so far, over all engines of the program."""

    done: int = 0
    first_failure: ProgramError | None = None


@dataclass
class Session:
    """One engine and its evaluations. `stall_seconds`: the longest time without a token.

    `more`: returns offered members that this engine can run; None if it should get no more.
    """

    context: Context[GenerateTask]
    engine: Engine
    shapes: ModelShapes
    adapters: AdapterCache
    tokenizer: TextTokenizer
    watchdog: Watchdog
    tally: Tally
    stall_seconds: float
    more: Callable[[], Sequence[Prepared]] | None = None
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    """Running evaluations, by digest."""
    _committed: dict[str, int] = field(default_factory=dict)
    """The number of outputs of finished evaluations, by digest; the outputs themselves are not kept."""
    _asked: dict[str, tuple[Request, tuple[str, int]]] = field(default_factory=dict)
    _tries: dict[str, int] = field(default_factory=dict)
    _failed: list[Evaluation] = field(default_factory=list)
    """Failed evaluations with pending requests: the engine may have to load their adapters again."""
    _checked: dict[str, float | ProgramError | None] = field(default_factory=dict)
    _coming: deque[Prepared] = field(default_factory=deque)
    """Prepared evaluations in order, until the engine can take them."""
    _ask_again: float = 0.0
    _started: float = 0.0
    _tokens_before: int = 0

    def work(self, prepared: Sequence[Prepared]) -> None:
        """Submits each evaluation when the engine can take it, and runs until nothing is pending.

        Raises Terminated, StoreError.
        """
        self._started, self._tokens_before = time.monotonic(), self.engine.generated_tokens
        self._coming.extend(prepared)
        while self._coming or self.engine.pending:
            self.context.stop_if_terminated()
            self._ask_for_more()
            if self._next_is_wanted():
                self.take(self._coming[0])
                self._coming.popleft()
            else:
                self._step()
        for evaluation in self._failed:
            self._release(evaluation)
        self._failed.clear()

    def _ask_for_more(self) -> None:
        """The engine makes no steps meanwhile, so a slow store is asked rarely."""
        began = time.monotonic()
        if self.more is not None and began >= self._ask_again:
            self._coming.extend(self.more())
            now = time.monotonic()
            self._ask_again = now + max(POLL_SECONDS, SELDOM * (now - began))

    def _next_is_wanted(self) -> bool:
        """Returns whether the engine can take the next evaluation. Its adapter is downloaded while the engine works."""
        if not self._coming or not self.engine.wants(self._coming[0].evaluation.adapter):
            return False
        self._fetch(*islice(self._coming, 2))
        adapter = self._coming[0].evaluation.adapter
        return adapter is None or not self.engine.pending or self.adapters.arrived(adapter)

    def _fetch(self, *prepared: Prepared) -> None:
        for one in prepared:
            if one.evaluation.adapter is not None:
                self.adapters.begin(one.evaluation.adapter)

    def take(self, prepared: Prepared) -> None:
        """Loads the adapter, checks its canaries, and queues the requests; or fails the member."""
        evaluation = prepared.evaluation
        try:
            evaluation.canary_error = self._check(prepared)
        except (ProgramError, Corrupt) as error:
            fail_member(self.context, self.tally, evaluation.member, error)
            self._release(evaluation)
            return
        self.evaluations[evaluation.digest] = evaluation
        for request, place in evaluation.requests():
            self._asked[request.id] = (request, place)
            self._tries.pop(request.id, None)
            self.engine.submit(request)

    def _check(self, prepared: Prepared) -> float | None:
        """Returns the largest canary error, nats; None without canaries. Raises ProgramError, Corrupt, StoreError.

        An adapter is loaded and scored once. So are whole weights with canaries.
        """
        adapter, member = prepared.evaluation.adapter, prepared.evaluation.member
        if adapter is None:
            return self._check_weights(prepared) if prepared.canaries else None
        self.report("fetching adapter")
        try:
            adapter = self.adapters.wait(adapter, self.shapes, self.context.stop_if_terminated)
        except BadAdapter as error:
            raise ProgramError(ExitCode.BAD_DATA, "BadAdapter", str(error), member.unit.digest) from error
        if adapter.name not in self._checked:
            self.report("loading adapter", loading=member.unit.digest)
            self.watchdog.expect(
                f"loading adapter {adapter.name[:12]}", self.stall_seconds, lambda: self.engine.generated_tokens
            )
            try:
                self.engine.load(adapter)
                self._checked[adapter.name] = self._canary_error(prepared)
            except BadAdapter as error:
                self._checked[adapter.name] = ProgramError(ExitCode.BAD_DATA, "BadAdapter", str(error))
            finally:
                self.watchdog.rest()
            self.report("generating")
        return self._checked_as(adapter.name, prepared)

    def _check_weights(self, prepared: Prepared) -> float | None:
        """Does the same for the engine's own weights, which a training here wrote. Raises ProgramError."""
        if OWN_WEIGHTS not in self._checked:
            try:
                self._checked[OWN_WEIGHTS] = self._canary_error(prepared)
            except BadAdapter as error:
                self._checked[OWN_WEIGHTS] = ProgramError(ExitCode.BAD_DATA, "BadWeights", str(error))
        return self._checked_as(OWN_WEIGHTS, prepared)

    def _checked_as(self, name: str, prepared: Prepared) -> float | None:
        found = self._checked[name]
        if isinstance(found, ProgramError):
            raise ProgramError(found.exit_code, found.reason, found.message, prepared.evaluation.member.unit.digest)
        return found

    def _canary_error(self, prepared: Prepared) -> float | None:
        """Raises BadAdapter if the engine's log-probabilities differ from the trainer's."""
        adapter, canaries = prepared.evaluation.adapter, prepared.canaries
        name = f"adapter {adapter.name[:12]}" if adapter is not None else "the trained weights"
        if not canaries:
            logger.warning("%s: no canary: nothing says that it is computed as trained", name)
            return None
        token_ids = [canary.token_ids for canary in canaries]
        scores = self.engine.log_probs(token_ids, adapter, self.context.stop_if_terminated)
        result = check_canaries(canaries, scores, coarsest_dtype(prepared.evaluation.member.inputs.engine))
        logger.info("%s: %s", name, result)
        if not result.passed:
            raise BadAdapter(f"canary failed: {result}")
        return result.largest

    def _step(self) -> None:
        """Runs one step, and commits each evaluation that it finished. Raises StoreError."""
        self.watchdog.expect("generating", self.stall_seconds, lambda: self.engine.generated_tokens)
        finished = self.engine.step()
        self.watchdog.rest()
        for one in finished:
            self._take_finished(one)
        self.report("generating")

    def _take_finished(self, finished: Finished) -> None:
        request, place = self._asked[finished.id]
        evaluation = self.evaluations.get(request.group)
        if evaluation is None:
            return
        if finished.finish_reason == "error":
            self._again_or_fail(evaluation, request, finished)
            return
        evaluation.take(place, finished)
        del self._asked[finished.id]
        if evaluation.done == evaluation.total:
            self._commit(evaluation)

    def _again_or_fail(self, evaluation: Evaluation, request: Request, finished: Finished) -> None:
        tries = self._tries[request.id] = self._tries.get(request.id, 1) + 1
        logger.warning("request %s: %s", request.id, finished.error)
        if tries <= REQUEST_ATTEMPTS:
            self.engine.submit(request)
            return
        message = f"{request.id}: the engine gave it up {REQUEST_ATTEMPTS} times: {finished.error}"
        error = ProgramError(1, "RequestFailed", message, evaluation.digest)
        self._failed.append(self.evaluations.pop(evaluation.digest))
        fail_member(self.context, self.tally, evaluation.member, error)

    def _commit(self, evaluation: Evaluation) -> None:
        member = evaluation.member
        engine = member.inputs.engine
        ran = engine.model_copy(update={"flags": dict(sorted({**engine.flags, **self.engine.flags}.items()))})
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "outputs.jsonl"
            evaluation.write(path, self.tokenizer)
            record = evaluation.record(ran, self.engine.versions, self.tokenizer)
            try:
                self.context.commit(
                    store_keys.OUTPUTS, {path.name: path}, record, unit=member.unit, number=member.number
                )
            except Superseded as error:
                logger.warning("%s: another attempt's outputs are committed: %s", member.unit, error)
        self.tally.done += 1
        self._committed[evaluation.digest] = self.evaluations.pop(evaluation.digest).total
        self._release(evaluation)

    def _release(self, evaluation: Evaluation) -> None:
        if evaluation.adapter is not None:
            self.adapters.release(evaluation.adapter)

    def report(self, phase: str, loading: str | None = None) -> None:
        coming = [one.evaluation for one in self._coming if one.evaluation.digest not in self.evaluations]
        here = [*coming, *self.evaluations.values()]
        members = self._committed | {one.digest: one.done for one in here}
        done, total = sum(members.values()), sum(self._committed.values()) + sum(one.total for one in here)
        seconds = max(time.monotonic() - self._started, 1e-3)
        self.context.progress(
            Progress(
                attempt=self.context.task.number,
                updated=self.context.now(),
                phase=phase,
                done=done,
                total=total,
                counted="outputs",
                tokens_per_second=round((self.engine.generated_tokens - self._tokens_before) / seconds, 1),
                eta_seconds=round(seconds * (total - done) / done, 1) if done else None,
                members=members,
                loading=loading,
                room=self._room(),
            )
        )

    def _room(self) -> int:
        """Returns how many such evaluations the engine would begin at once, if all that it has are begun."""
        if self.more is None or self._coming or not self.evaluations or not self.engine.pending:
            return 0
        return self.engine.room(max(one.total for one in self.evaluations.values()))


def fail_member(context: Context[GenerateTask], tally: Tally, member: GenerateMember, error: Exception) -> None:
    """Writes the member's failure; the group continues."""
    if not isinstance(error, ProgramError):
        reason = "CorruptFiles" if isinstance(error, Corrupt) else "InputChanged"
        error = ProgramError(ExitCode.BAD_DATA, reason, str(error), member.unit.digest)
    context.fail_member(member.unit, member.number, error)
    tally.first_failure = tally.first_failure or error


def prepare_all(
    context: Context[GenerateTask],
    tally: Tally,
    members: Sequence[GenerateMember],
    prepare: Callable[[GenerateMember], Prepared],
) -> list[Prepared]:
    """Returns the members that can be prepared; the others fail alone. Evaluations of one adapter are adjacent.

    Raises StoreError.
    """
    prepared = []
    for member in members:
        context.stop_if_terminated()
        try:
            prepared.append(prepare(member))
        except (ProgramError, Corrupt, ContentError) as error:
            fail_member(context, tally, member, error)
    return by_adapter(prepared)


def by_adapter(prepared: Sequence[Prepared]) -> list[Prepared]:
    return sorted(prepared, key=lambda one: one.evaluation.adapter.name if one.evaluation.adapter else "")
