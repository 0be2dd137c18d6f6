"""`python -m workloads.evaluate <task key>`: one engine for all members of a generate task that it can serve."""

import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from workloads.contents import ContentError, localise_model
from workloads.contract import layout
from workloads.contract.model import digest_of
from workloads.contract.records import ExitCode, Failure, Progress
from workloads.contract.tasks import GenerateMember, GenerateTask
from workloads.evaluate.claims import claim_members
from workloads.evaluate.engines import start_engine
from workloads.evaluate.prepare import Bench, prepare
from workloads.evaluate.session import Session, Tally, fail_member, prepare_all
from workloads.evaluate.shapes import BadModel, read_shapes
from workloads.evaluate.watchdog import Watchdog, end_process
from workloads.program import Context, ProgramError
from workloads.store import StoreError
from workloads.text.tokenizer import BadTokenizer, load_tokenizer

logger = logging.getLogger("potstill")
START_SECONDS = 1800.0
STALL_SECONDS = 600.0
CRASH = 1


def evaluate(context: Context[GenerateTask]) -> None:
    """Outputs of every member committed, or its failure written. Raises the first failure if no member was done."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="potstill-") as folder, Watchdog(_ender(context)) as watchdog:
        members = claim_members(context.store, context.task)
        for alike in _by_engine(context.task, members):
            _work(context, tally, alike, Path(folder), watchdog)
    if tally.first_failure is not None and tally.done == 0:
        raise tally.first_failure


def _by_engine(task: GenerateTask, members: Sequence[GenerateMember]) -> list[list[GenerateMember]]:
    """Members with equal weights and equal engines together, in the order of their first."""
    found: dict[tuple[str, str], list[GenerateMember]] = {}
    for member in members:
        model = member.weights or task.base
        found.setdefault((digest_of(model), digest_of(member.inputs.engine)), []).append(member)
    return list(found.values())


def _work(
    context: Context[GenerateTask],
    tally: Tally,
    members: Sequence[GenerateMember],
    folder: Path,
    watchdog: Watchdog,
) -> None:
    """A model or engine that cannot be used fails its members, not those of another model."""
    waiting = list(members)
    try:
        directory = localise_model(members[0].weights or context.task.base)
        bench = _bench(context, directory, folder)
        prepared = prepare_all(context, tally, members, lambda member: prepare(bench, member))
        waiting = [one.evaluation.member for one in prepared]
        if not prepared:
            return
        _report_start(context, waiting)
        watchdog.expect("starting the engine", START_SECONDS)
        evaluations = [one.evaluation for one in prepared]
        engine = start_engine(members[0].inputs.engine, directory, bench.shapes, bench.tokenizer, evaluations)
    except (ProgramError, ContentError) as error:
        for member in waiting:
            fail_member(context, tally, member, error)
        return
    finally:
        watchdog.rest()
    try:
        session = Session(context, engine, bench.tokenizer, watchdog, tally, STALL_SECONDS)
        for one in prepared:
            session.take(one)
        session.run()
    finally:
        engine.close()


def _ender(context: Context[GenerateTask]) -> Callable[[str, str], None]:
    """What the watchdog does with a hung engine: the stacks to the attempt's failure, and an end as after a crash."""

    def end(message: str, stacks: str) -> None:
        failure = Failure(exit_code=CRASH, reason="EngineHung", message=message, traceback=stacks)
        try:
            context.store.put(layout.failure_key(context.task.unit, context.task.number), failure.to_json())
        except StoreError as error:
            logger.warning("the failure could not be written: %s", error)
        end_process(CRASH)

    return end


def _bench(context: Context[GenerateTask], directory: Path, folder: Path) -> Bench:
    try:
        shapes, tokenizer = read_shapes(directory), load_tokenizer(directory)
    except (BadModel, BadTokenizer) as error:
        raise ProgramError(ExitCode.BAD_CONFIGURATION, type(error).__name__, str(error)) from error
    context.store.put_new(layout.blob_key(tokenizer.sha256), tokenizer.path.read_bytes())
    return Bench(context.store, shapes, tokenizer, folder)


def _report_start(context: Context[GenerateTask], members: Sequence[GenerateMember]) -> None:
    total = sum(len(member.inputs.problems) * member.inputs.sampling.n for member in members)
    context.progress(
        Progress(
            attempt=context.task.number,
            updated=context.now(),
            phase="starting the engine",
            done=0,
            total=total,
            counted="outputs",
            members={member.unit.digest: 0 for member in members},
        )
    )
