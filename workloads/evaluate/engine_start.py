"""Chooses the engine of a task, and starts it."""

from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from workloads.api.records import ExitCode
from workloads.api.units import EngineIdentity
from workloads.engines.base import BadBase, BadFlag, Demands, Engine, FirstGroup, Foreseen
from workloads.engines.memory import DoesNotFit
from workloads.engines.registry import ENGINES
from workloads.evaluate.evaluation import Evaluation
from workloads.models.safetensors_file import BadSafetensors
from workloads.models.shapes import ModelShapes
from workloads.models.weight_files import BadWeightFiles, check_weight_files
from workloads.program import ProgramError
from workloads.registry import RegistryError
from workloads.text.tokenizer import TextTokenizer


def check_version(asked: EngineIdentity) -> None:
    """Raises ProgramError if the engine is unknown or not installed, or its version is not the task's."""
    try:
        distributions = ENGINES.require(asked.name).distributions
    except RegistryError as error:
        message = f"engine: {error}. Install in the image the distribution that adds this engine"
        raise ProgramError(ExitCode.BAD_CONFIGURATION, "WrongEngine", message) from error
    for distribution in distributions:
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
    if distributions:
        raise ProgramError(ExitCode.BAD_CONFIGURATION, "WrongEngine", f"{asked.name} is not installed here")


def demands_of(evaluations: Sequence[Evaluation], foreseen: Foreseen) -> Demands:
    """Returns what the engine must support. Its `rank` is the largest of the adapters that exist, which may be greater
    than the foreseen one.
    """
    longest = max(
        len(prompt.token_ids) + evaluation.decoding.limit_tokens
        for evaluation in evaluations
        for prompt in evaluation.prompts
    )
    adapters = [evaluation.adapter for evaluation in evaluations if evaluation.adapter]
    everywhere = foreseen.target == "all" or any(adapter.target == "all" for adapter in adapters)
    rank = max((adapter.rank for adapter in adapters), default=0)
    return Demands(longest, rank, "all" if everywhere else "attention", foreseen.rank)


def begin_start(asked: EngineIdentity) -> None:
    """Prepares a start of this engine in parallel with other work. `start_engine` reports any error."""
    with suppress(BadFlag, ProgramError):
        check_version(asked)
        ENGINES.require(asked.name).prepare(asked)


def room_at_start(
    asked: EngineIdentity, evaluations: Sequence[Evaluation], demands: Demands, context_tokens: int
) -> int:
    """Returns how many evaluations, in addition to `evaluations`, a new engine will take at once, by its flags."""
    adapters = {evaluation.adapter.name for evaluation in evaluations if evaluation.adapter}
    requests = sum(evaluation.total for evaluation in evaluations) / len(evaluations)
    group = FirstGroup(len(evaluations), len(adapters), requests)
    return ENGINES.require(asked.name).room_at_start(asked, group, demands, context_tokens)


def start_engine(
    asked: EngineIdentity,
    directory: Path,
    shapes: ModelShapes,
    tokenizer: TextTokenizer,
    demands: Demands,
) -> Engine:
    """Raises ProgramError if base, engine, flags or memory do not fit the task. Any other error is a crash."""
    check_version(asked)
    try:
        if asked.flags.get("load_format") != "dummy":
            check_weight_files(directory)
        return ENGINES.require(asked.name).start(asked, directory, shapes, tokenizer, demands)
    except (BadBase, BadSafetensors, BadWeightFiles, DoesNotFit) as error:
        raise ProgramError(ExitCode.BAD_CONFIGURATION, type(error).__name__, str(error)) from error
    except BadFlag as error:
        raise ProgramError(ExitCode.BAD_CONFIGURATION, "BadEngineFlags", str(error)) from error
