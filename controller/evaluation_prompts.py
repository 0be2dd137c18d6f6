"""Makes the prompts of an evaluation on this machine, with the functions that the evaluation uses."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from controller.training_data import NotReadableHere, base_folder
from workloads.api.experiment import FrozenBenchmark, FrozenExperiment
from workloads.api.units import Prompting
from workloads.evaluate.problems import read_problems
from workloads.evaluate.prompts import Prompt, make_prompt
from workloads.storage.content_digest import ContentError, localise_file
from workloads.text.tokenizer import TextTokenizer, load_tokenizer


class UnknownModel(ValueError):
    """The experiment has no model of this name. The message lists the names that it has."""


def prompting_of_model(benchmark: FrozenBenchmark, model: str) -> Prompting:
    """Returns how the benchmark is presented to `model`: base, a run's or candidate's name, run@samples or run@last.

    Raises UnknownModel.
    """
    if model == "base":
        return benchmark.base_prompting
    name = model.partition("@")[0]
    if name not in benchmark.trained_prompting:
        known = ", ".join(("base", *benchmark.trained_prompting))
        raise UnknownModel(f"there is no model {model}; there are: {known}")
    return benchmark.trained_prompting[name]


def problem_texts(benchmark: FrozenBenchmark, ids: Sequence[str] = ()) -> Mapping[str, str]:
    """Returns the texts of problems by id; without `ids` those of all problems, in the file's order.

    Raises NotReadableHere if only pods can read the file, BadBenchmark for a wrong file or an unknown id.
    """
    if "://" in benchmark.source.location:
        raise NotReadableHere(f"{benchmark.source.location} is read by pods only")
    try:
        with tempfile.TemporaryDirectory() as folder:
            return read_problems(localise_file(benchmark.source, Path(folder)), tuple(ids))
    except ContentError as error:
        raise NotReadableHere(str(error)) from error


def tokenizer_of_base(frozen: FrozenExperiment) -> TextTokenizer:
    """Raises NotReadableHere if the base is not on this machine, BadTokenizer."""
    return load_tokenizer(base_folder(frozen.base))


def make_prompts(tokenizer: TextTokenizer, prompting: Prompting, texts: Mapping[str, str]) -> list[Prompt]:
    """Returns one prompt for each problem, as token ids, exactly as the evaluation sends it. Raises BadPrompt."""
    return [make_prompt(tokenizer, prompting, problem, text) for problem, text in texts.items()]
