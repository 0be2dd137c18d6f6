"""A run's data as its trainer will see it, read here when the base's tokenizer and the data are here or can come."""

from collections.abc import Sequence
from pathlib import Path

from workloads.contents import ContentError, cache_folder
from workloads.contract.experiment import FrozenExperiment, FrozenRun
from workloads.contract.tasks import FileSource, ModelSource
from workloads.contract.units import TrainInputs
from workloads.data.end_token import EndToken, end_token
from workloads.data.samples import TrainingData, prepare, training_rows
from workloads.data.sources import fetch_data, is_here, localise_data
from workloads.models.files import model_folder
from workloads.store import StoreError
from workloads.text.tokenizer import TextTokenizer, load_tokenizer


class NotReadableHere(Exception):
    """The base or the data is not on this machine: only a training pod opens it."""


def read_training_data(
    frozen: FrozenExperiment, run: FrozenRun, *, fetch: bool = False
) -> tuple[TrainingData, TextTokenizer]:
    """`fetch`: whether data that is not here is fetched, and kept in the cache.

    A hub base's tokenizer files are fetched if the hub's cache lacks them. Raises NotReadableHere, and BadData or
    BadTemplate as the trainer would.
    """
    assert isinstance(run.inputs, TrainInputs)
    tokenizer, end = _tokenizer(frozen.base)
    paths = _paths(run.sources, fetch=fetch)
    return prepare(paths, run.inputs, tokenizer, end, cache_folder()), tokenizer


def count_rows(base: ModelSource, sources: Sequence[FileSource], inputs: TrainInputs) -> int:
    """Rows that there are to train on, for runs that state epochs; data is fetched if need be.

    Raises NotReadableHere, BadData and BadTemplate.
    """
    tokenizer, end = _tokenizer(base)
    return training_rows(_paths(sources, fetch=True), inputs, tokenizer, end, cache_folder())


def _tokenizer(base: ModelSource) -> tuple[TextTokenizer, EndToken]:
    try:
        folder = model_folder(base)
    except (ContentError, StoreError) as error:
        raise NotReadableHere(
            f"the base {base.location} is not here, so its tokenizer is not either: {error}"
        ) from error
    if not (folder / "tokenizer.json").is_file() and "://" not in base.location and not folder.is_dir():
        raise NotReadableHere(f"the base {base.location} is not here, so its tokenizer is not either")
    tokenizer = load_tokenizer(folder)
    return tokenizer, end_token(folder, tokenizer)


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
