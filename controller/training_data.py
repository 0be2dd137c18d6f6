"""Reads a run's data as its trainer will see it, if the base's tokenizer and the data are here or can be downloaded."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workloads.api.experiment import FrozenExperiment, FrozenRun
from workloads.api.tasks import FileSource, ModelSource
from workloads.api.units import TrainInputs
from workloads.data.end_token import end_token
from workloads.data.files import BadData
from workloads.data.samples import TrainingData, prepare, training_rows
from workloads.data.sources import fetch_data, is_here, localise_data
from workloads.models.files import model_folder
from workloads.models.fits import beyond_embedding
from workloads.storage.base import StoreError
from workloads.storage.content_digest import ContentError, cache_folder
from workloads.text.tokenizer import TextTokenizer, load_tokenizer


class NotReadableHere(Exception):
    """The base or the data is not on this machine: only a training pod can read it."""


def read_training_data(
    frozen: FrozenExperiment, run: FrozenRun, *, fetch: bool = False
) -> tuple[TrainingData, TextTokenizer]:
    """Reads the data. `fetch`: whether missing data is downloaded into the cache.

    A hub base's tokenizer files are downloaded if the hub's cache lacks them. Raises NotReadableHere, and BadData or
    BadTemplate like the trainer.
    """
    assert isinstance(run.inputs, TrainInputs)
    tokenizer, config = base_tokenizer(frozen.base)
    paths = _paths(run.sources, fetch=fetch)
    data = prepare(paths, run.inputs, tokenizer, end_token(base_folder(frozen.base), tokenizer), cache_folder())
    if (message := beyond_embedding(config, data.rows.largest)) is not None:
        raise BadData(message)
    return data, tokenizer


def thinking_warnings(run: FrozenRun, data: TrainingData) -> tuple[str, ...]:
    """Returns warnings from the data together with the run's `thinking`: `Name: text`, like the data's own warnings."""
    if not run.thinking or data.statistics.supervises_think_close > 0:
        return ()
    text = (
        "ThinkNotTaught: no sample teaches </think>, and an answer of this run counts only after it, so that outputs "
        "without it are unfinished: set thinking: false for the run if its model is not to think"
    )
    return (text,)


def count_rows(base: ModelSource, sources: Sequence[FileSource], inputs: TrainInputs) -> int:
    """Returns the number of rows to train on, for runs that state epochs. Downloads data if necessary.

    Raises NotReadableHere, BadData and BadTemplate.
    """
    tokenizer, _ = base_tokenizer(base)
    end = end_token(base_folder(base), tokenizer)
    return training_rows(_paths(sources, fetch=True), inputs, tokenizer, end, cache_folder())


def base_tokenizer(base: ModelSource) -> tuple[TextTokenizer, dict[str, Any]]:
    """Returns the base's tokenizer and its config.json. Raises NotReadableHere, BadTokenizer."""
    folder = base_folder(base)
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        config = {}
    return load_tokenizer(folder), config if isinstance(config, dict) else {}


def base_folder(base: ModelSource) -> Path:
    """Returns the folder with a base's tokenizer and configuration; downloads them if necessary.

    Raises NotReadableHere.
    """
    try:
        return model_folder(base)
    except (ContentError, StoreError) as error:
        raise NotReadableHere(
            f"the base {base.location} is not here, so its tokenizer is not either: {error}"
        ) from None


def _paths(sources: Sequence[FileSource], *, fetch: bool) -> list[Path]:
    paths = []
    for source in sources:
        if not fetch and not is_here(source):
            raise NotReadableHere(f"{source.location} is not a file here")
        try:
            paths.append(fetch_data(source) if fetch else localise_data(source, cache_folder()))
        except (ContentError, StoreError) as error:
            raise NotReadableHere(f"{source.location} is not a file here: {error}") from error
    return paths
