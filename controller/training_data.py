"""A run's data as its trainer will see it, read here when the base's tokenizer and the file are here."""

from pathlib import Path

from workloads.contract.experiment import FrozenExperiment, FrozenRun
from workloads.contract.units import TrainInputs
from workloads.data.end_token import end_token
from workloads.data.samples import TrainingData, prepare
from workloads.text.tokenizer import TextTokenizer, load_tokenizer


class NotReadableHere(Exception):
    """The base or the data is not on this machine: only a training pod opens it."""


def read_training_data(frozen: FrozenExperiment, run: FrozenRun) -> tuple[TrainingData, TextTokenizer]:
    """Raises NotReadableHere, and BadData or BadTemplate as the trainer would."""
    assert isinstance(run.inputs, TrainInputs)
    assert run.data_source is not None
    base, data = base_folder(frozen.base.location), Path(run.data_source.location)
    if not data.is_file():
        raise NotReadableHere(f"{run.data_source.location} is not a file here")
    tokenizer = load_tokenizer(base)
    return prepare(data, run.inputs, tokenizer, end_token(base, tokenizer)), tokenizer


def base_folder(location: str) -> Path:
    """The folder with a base's tokenizer and configuration: a directory, or the hub's cache. Nothing is fetched.

    Raises NotReadableHere.
    """
    folder: Path | None = None
    if location.startswith("hub://"):
        from huggingface_hub import try_to_load_from_cache

        name, _, revision = location.removeprefix("hub://").partition("@")
        found = [try_to_load_from_cache(name, file, revision=revision) for file in ("config.json", "tokenizer.json")]
        folder = Path(str(found[1])).parent if all(isinstance(path, str) for path in found) else None
    elif "://" not in location and Path(location).is_dir():
        folder = Path(location)
    if folder is None:
        raise NotReadableHere(f"the base {location} is not here, so its tokenizer is not either")
    return folder
