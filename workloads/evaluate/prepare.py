"""A member of a group made ready: problems read, prompts made, adapter fetched and checked. Nothing of the engine."""

from dataclasses import dataclass
from pathlib import Path

from workloads.commit import Corrupt, fetch, read_marker
from workloads.contents import localise_file
from workloads.contract.records import Canary, CheckpointRecord, ExitCode
from workloads.contract.tasks import AdapterSource, GenerateMember
from workloads.evaluate.adapters import CONFIG, WEIGHTS, check_adapter
from workloads.evaluate.engine import Adapter, BadAdapter, Decoding
from workloads.evaluate.evaluation import Evaluation
from workloads.evaluate.problems import BadBenchmark, read_problems
from workloads.evaluate.prompts import BadPrompt, check_context, make_prompt
from workloads.evaluate.shapes import ModelShapes
from workloads.program import ProgramError
from workloads.store import Store
from workloads.text.tokenizer import TextTokenizer


@dataclass(frozen=True)
class Bench:
    """What all members on one model share, and a folder for what they download."""

    store: Store
    shapes: ModelShapes
    tokenizer: TextTokenizer
    folder: Path


@dataclass(frozen=True)
class Prepared:
    evaluation: Evaluation
    canaries: tuple[Canary, ...]


def prepare(bench: Bench, member: GenerateMember) -> Prepared:
    """Raises ProgramError naming the member, StoreError, Corrupt, ContentError."""
    inputs = member.inputs
    try:
        path = localise_file(member.benchmark, bench.folder / "benchmarks")
        problems = read_problems(path, inputs.problems)
        prompts = [make_prompt(bench.tokenizer, inputs.prompting, problem, text) for problem, text in problems.items()]
        check_context(prompts, inputs.limit_tokens, bench.shapes.context_tokens)
        adapter, canaries = fetch_adapter(bench, member.adapter) if member.adapter else (None, ())
    except (BadBenchmark, BadPrompt) as error:
        raise ProgramError(ExitCode.BAD_CONFIGURATION, type(error).__name__, str(error), member.unit.digest) from error
    except BadAdapter as error:
        raise ProgramError(ExitCode.BAD_DATA, "BadAdapter", str(error), member.unit.digest) from error
    decoding = Decoding(
        temperature=inputs.sampling.temperature,
        top_p=inputs.sampling.top_p,
        limit_tokens=inputs.limit_tokens,
        stop_token_ids=inputs.stop_token_ids or bench.tokenizer.end_token_ids,
        stop_texts=inputs.prompting.stop,
    )
    return Prepared(Evaluation(member, prompts, adapter, decoding), canaries)


def fetch_adapter(bench: Bench, source: AdapterSource) -> tuple[Adapter, tuple[Canary, ...]]:
    """The adapter on disk, named by its content, and its canaries. Raises BadAdapter, Corrupt, StoreError."""
    marker = read_marker(bench.store, source.unit, source.marker)
    if marker is None or marker.content != source.content:
        stands = f"holds {marker.content[:12]}" if marker else "is not there"
        raise Corrupt(f"{source.unit}: marker {source.marker} {stands}; the task names {source.content[:12]}")
    into = bench.folder / "adapters" / source.content
    fetch(bench.store, marker, (WEIGHTS, CONFIG), into)
    canaries = marker.record.canaries if isinstance(marker.record, CheckpointRecord) else ()
    check_canary_tokens(canaries, bench.shapes.vocabulary)
    return check_adapter(source.content, into, bench.shapes), canaries


def check_canary_tokens(canaries: tuple[Canary, ...], vocabulary: int) -> None:
    """Raises BadAdapter for a canary that no engine could score."""
    for number, canary in enumerate(canaries):
        expected = len(canary.token_ids) - 1
        if not expected == len(canary.log_probs) == len(canary.base_log_probs) or expected < 1:
            raise BadAdapter(f"canary {number}: {expected + 1} tokens do not go with {len(canary.log_probs)} values")
        if not all(0 <= token_id < vocabulary for token_id in canary.token_ids):
            raise BadAdapter(f"canary {number} holds a token outside the base's vocabulary of {vocabulary}")
