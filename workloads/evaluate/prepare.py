"""Prepares a member of a group without an engine: reads problems, makes prompts, requests the adapter."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workloads.api.records import Canary, ExitCode
from workloads.api.tasks import GenerateMember
from workloads.engines.base import BadAdapter, Decoding
from workloads.evaluate.adapter_cache import AdapterCache
from workloads.evaluate.evaluation import Evaluation
from workloads.evaluate.problems import BadBenchmark, read_problems
from workloads.evaluate.prompts import BadPrompt, check_context, make_prompt
from workloads.models.shapes import ModelShapes
from workloads.program import ProgramError
from workloads.storage.content_digest import localise_file
from workloads.text.tokenizer import TextTokenizer


@dataclass(frozen=True)
class Bench:
    """Data that all members with one model share, and a folder for downloaded benchmarks.

    `tick` is called while it waits, and may raise. `canaries`: those of whole weights that a training of
    Potstill wrote.
    """

    shapes: ModelShapes
    tokenizer: TextTokenizer
    folder: Path
    adapters: AdapterCache
    tick: Callable[[], None]
    canaries: tuple[Canary, ...] = ()


@dataclass(frozen=True)
class Prepared:
    evaluation: Evaluation
    canaries: tuple[Canary, ...]


def prepare(bench: Bench, member: GenerateMember) -> Prepared:
    """Raises ProgramError, which names the member, StoreError, Corrupt, ContentError."""
    inputs = member.inputs
    try:
        path = localise_file(member.benchmark, bench.folder / "benchmarks")
        problems = read_problems(path, inputs.problems)
        prompts = [make_prompt(bench.tokenizer, inputs.prompting, problem, text) for problem, text in problems.items()]
        check_context(prompts, inputs.limit_tokens, bench.shapes.context_tokens)
        adapter, canaries = None, bench.canaries
        if member.adapter is not None:
            adapter, canaries = bench.adapters.promise(member.adapter, bench.shapes, bench.tick)
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
