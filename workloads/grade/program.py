"""The grading program: reads outputs from the store and writes verdicts at every budget to the store.

On a laptop one process does all (`all`); in a pod three containers do one step each. `fetch` and `compare` have
credentials and never run generated programs; `execute` (see `steps`) runs them and has neither credentials nor golds.
`compare` reads the outputs from the store again, because `execute` could have changed the copies.
"""

import logging
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pydantic import ValidationError
from tokenizers import Tokenizer

from workloads.api import store_keys
from workloads.api.grade_counts import counts
from workloads.api.model import sha256_of
from workloads.api.records import ExitCode, GradesRecord, Marker, Output, OutputsRecord, Progress
from workloads.api.tasks import GradeMember, GradeTask, pointers
from workloads.api.units import GRADER_VERSION
from workloads.benchmarks.load import load, load_file
from workloads.benchmarks.model import Benchmark, BenchmarkError
from workloads.benchmarks.pattern import PatternError
from workloads.grade.grading import Graded, grade_items, orders_for, work_of
from workloads.grade.items import Generated, Item, entry_points_of, read_outputs
from workloads.grade.progress import GradingProgress
from workloads.grade.steps import Executed, execute_here, read_outcomes, write_orders
from workloads.graders.base import Grader
from workloads.graders.extraction.completion import Rule
from workloads.graders.extraction.pattern import pattern_of
from workloads.graders.registry import GRADERS, added_version
from workloads.program import Context, ProgramError, Terminated, other_version
from workloads.registry import RegistryError
from workloads.sandbox.pool import Unsupported
from workloads.storage.base import AlreadyExists, NotFound, StoreError
from workloads.storage.content_digest import BUILTIN_PREFIX, localise_file
from workloads.storage.markers import Corrupt, fetch, read_marker

STEPS = ("fetch", "execute", "compare")
PHASES = {"all": "grading", "fetch": "fetching outputs", "execute": "running programs", "compare": "grading"}
"""The text of each step in the progress record."""
FILE = "grades.jsonl"
READS = 2
"""How often a blob is read before it counts as damaged, because the transfer may have failed."""

logger = logging.getLogger("potstill")


@dataclass(frozen=True)
class Question:
    """A member with all inputs of its verdicts, read and checked."""

    member: GradeMember
    benchmark: Benchmark
    items: tuple[Item, ...]

    @property
    def problems(self) -> int:
        return len({item.problem for item in self.items})


def grade(context: Context[GradeTask], step: str, work: Path | None, workers: int) -> None:
    """Runs one step, or `all`. If a member fails, the others continue."""
    failures: list[Exception] = []
    members = claim(context)

    def report(done: int, problems: Mapping[str, int]) -> None:
        context.progress(_progress(context, PHASES[step], done, len(members), problems))
        context.stop_if_terminated()

    counting = GradingProgress([member.unit.digest for member in members], report)
    with tempfile.TemporaryDirectory(prefix="potstill-grade-") as scratch:
        for member in members:
            counting.begin(member.unit.digest)
            try:
                question = read_question(context, member, Path(scratch))
                if step == "fetch":
                    assert work is not None
                    write_orders(work, member.unit.digest, orders_for(question.benchmark, question.items))
                else:
                    counting.ask(question.problems, work_of(question.benchmark, question.items))
                    _finish(context, question, work if step == "compare" else None, Path(scratch), workers, counting)
            except (StoreError, Terminated):
                raise
            except (ProgramError, BenchmarkError, Corrupt, OSError, ValueError) as error:
                context.fail_member(member.unit, member.number, error)
                failures.append(error)
    if failures and len(failures) == len(members):
        raise failures[0]


def claim(context: Context[GradeTask]) -> list[GradeMember]:
    """Returns members whose number belongs to this task and whose grades are not committed yet."""
    pointer_of = {pointer.unit: pointer for pointer in pointers(context.task)}
    claimed = []
    for member in context.task.members:
        pointer = pointer_of.get(member.unit)
        if pointer is not None:
            try:
                context.store.put_new(pointer.key, pointer.to_json())
            except AlreadyExists:
                logger.info("%s: attempt %d is another task's; it is skipped", member.unit, member.number)
                continue
        if context.store.head(store_keys.end_key(member.unit, member.number)) is not None:
            logger.info("%s: attempt %d is closed; it is skipped", member.unit, member.number)
        elif read_marker(context.store, member.unit, store_keys.GRADES) is None:
            claimed.append(member)
    return claimed


def read_question(context: Context[GradeTask], member: GradeMember, scratch: Path) -> Question:
    """Raises Corrupt, BenchmarkError, ProgramError (bad data or configuration), StoreError."""
    version_here = added_version(_grader(member).name) or GRADER_VERSION
    if member.inputs.grader_version != version_here:
        raise other_version(member.inputs.grader_version, version_here)
    marker = read_marker(context.store, member.outputs, store_keys.OUTPUTS)
    if marker is None or not isinstance(marker.record, OutputsRecord):
        raise ProgramError(ExitCode.BAD_DATA, "NoOutputs", f"{member.outputs} has no committed outputs to grade")
    if marker.content != member.inputs.outputs_content:
        message = f"{member.outputs}: the outputs are {marker.content[:12]}, not {member.inputs.outputs_content[:12]}"
        raise ProgramError(ExitCode.BAD_DATA, "OtherOutputs", message)
    benchmark = _benchmark(member, scratch)
    outputs = tuple(_outputs(context, marker, scratch / member.outputs.digest))
    known = set(benchmark.ids)
    for output in outputs:
        if output.problem not in known:
            message = f"{member.outputs}: problem {output.problem!r} is not in {member.benchmark_name}"
            raise ProgramError(ExitCode.BAD_DATA, "UnknownProblem", message)
    tokenizer = _tokenizer(context, marker.record.tokenizer_sha256)
    special = {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}

    def decode(token_ids: Sequence[int]) -> str:
        return str(tokenizer.decode(list(token_ids), skip_special_tokens=False))

    generated = (_generated(output, special) for output in outputs)
    inputs = member.inputs
    entry_points = entry_points_of(benchmark)
    items = read_outputs(generated, inputs.budgets, _rule(member), inputs.prefill, decode, entry_points)
    return Question(member, benchmark, tuple(items))


def _generated(output: Output, special: set[int]) -> Generated:
    """The end token is not text, but it counts as a generated token."""
    ids = output.token_ids
    ended = output.finish_reason == "stop" and bool(ids) and ids[-1] in special
    return Generated(
        output.problem, output.index, ids[:-1] if ended else ids, output.finish_reason, end_tokens=int(ended)
    )


def _benchmark(member: GradeMember, scratch: Path) -> Benchmark:
    inputs = member.inputs
    path = localise_file(member.benchmark, scratch)
    if member.benchmark.location.startswith(BUILTIN_PREFIX):
        return load(member.benchmark.location)
    return load_file(path, member.benchmark_name, inputs.grader, inputs.completion, inputs.completion_pattern)


def _grader(member: GradeMember) -> Grader:
    """Raises ProgramError if this image does not have the grader."""
    try:
        return GRADERS.require(member.inputs.grader)
    except RegistryError as error:
        message = f"grader: {error}. Install the distribution that has it in the image"
        raise ProgramError(ExitCode.BAD_CONFIGURATION, "UnknownGrader", message) from error


def _rule(member: GradeMember) -> Rule:
    inputs = member.inputs
    try:
        pattern = None if inputs.completion_pattern is None else pattern_of(inputs.completion_pattern)
    except PatternError as e:
        message = f"completionPattern {inputs.completion_pattern!r} {e}"
        raise ProgramError(ExitCode.BAD_CONFIGURATION, "BadPattern", message) from e
    return Rule(inputs.completion, inputs.thinking, pattern, choice=_grader(member).keeps_box_text)


def _outputs(context: Context[GradeTask], marker: Marker, folder: Path) -> Iterator[Output]:
    path = fetch(context.store, marker, ["outputs.jsonl"], folder)["outputs.jsonl"]
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if line:
            try:
                yield Output.model_validate_json(line)
            except ValidationError as e:
                raise Corrupt(f"{marker.unit}: outputs.jsonl:{number}: {e}") from e


def _tokenizer(context: Context[GradeTask], sha256: str) -> Tokenizer:
    """Returns the tokenizer with which the outputs were generated. Raises Corrupt, StoreError.

    Another tokenizer would give other texts, and other verdicts under the same digest.
    """
    key = store_keys.blob_key(sha256)
    remedy = f"put the base's tokenizer.json there (SHA-256 {sha256}) or restore it from a backup, then potstill retry"
    for _ in range(READS):
        try:
            data = context.store.get(key)
        except NotFound:
            raise Corrupt(f"the outputs' tokenizer {key} is missing: {remedy}") from None
        if (found := sha256_of(data)) == sha256:
            return Tokenizer.from_buffer(data)
    raise Corrupt(f"the outputs' tokenizer {key} is damaged: it hashes to {found}: {remedy}")


def _finish(
    context: Context[GradeTask],
    question: Question,
    work: Path | None,
    scratch: Path,
    workers: int,
    counting: GradingProgress,
) -> None:
    """Executes, unless the results are in `work`; compares; commits. Counts progress of the slow parts."""
    started = time.monotonic()
    member = question.member
    folder = scratch / member.unit.digest
    folder.mkdir()
    allowed = context.task.allow_unsandboxed
    executed = _executed(question, work, folder, workers, counting.ended, allow_unsandboxed=allowed)
    runs_here = work is None and _grader(member).runs_programs
    checked = _not_counted if runs_here else counting.ended
    try:
        graded = grade_items(question.benchmark, question.items, executed.outcomes, workers, checked)
    finally:
        executed.outcomes.close()
    path = folder / FILE
    path.write_bytes(b"".join(line.to_json() for line in graded.grades))
    record = _record(member, graded, executed, time.monotonic() - started)
    for budget in record.budgets:
        logger.info(
            "%s at %d: %d of %d right, %d completed, %d errors",
            member.benchmark_name, budget.budget, budget.right, budget.outputs, budget.completed, budget.errors,
        )  # fmt: skip
    context.commit(store_keys.GRADES, {FILE: path}, record, unit=member.unit, number=member.number)


def _executed(
    question: Question,
    work: Path | None,
    folder: Path,
    workers: int,
    ended: Callable[[str], None],
    *,
    allow_unsandboxed: bool,
) -> Executed:
    orders = orders_for(question.benchmark, question.items)
    if work is not None:
        return read_outcomes(work, question.member.unit.digest, orders)
    try:
        return execute_here(orders, workers, folder, ended, allow_unsandboxed=allow_unsandboxed)
    except Unsupported as e:
        raise ProgramError(ExitCode.BAD_CONFIGURATION, "NoSandbox", str(e)) from e


def _record(member: GradeMember, graded: Graded, executed: Executed, seconds: float) -> GradesRecord:
    packages = ("math-verify", "sympy", "latex2sympy2_extended", "numpy", "tokenizers")
    return GradesRecord(
        budgets=counts(graded.grades),
        grader_version=member.inputs.grader_version,
        sandbox=executed.layers,
        asked_again=executed.outcomes.asked_again + graded.asked_again,
        seconds=round(seconds, 3),
        versions={"python": platform.python_version(), **{name: version(name) for name in packages}},
    )


def _not_counted(key: str) -> None:
    """The problem was counted when its program had run."""


def _progress(context: Context[GradeTask], phase: str, done: int, total: int, problems: Mapping[str, int]) -> Progress:
    return Progress(
        attempt=context.task.number,
        updated=context.now(),
        phase=phase,
        done=done,
        total=total,
        counted="evaluations",
        members=dict(problems),
    )
