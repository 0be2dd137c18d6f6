"""A run's data as its trainer will see it, read here when the base's tokenizer and the file are here."""

from pathlib import Path

from workloads.api.experiment import FrozenExperiment, FrozenRun
from workloads.api.units import TrainInputs
from workloads.data.end_token import end_token
from workloads.data.samples import TrainingData, prepare
from workloads.text.tokenizer import TextTokenizer, load_tokenizer


class NotReadableHere(Exception):
    """The base or the data is not on this machine: only a training pod opens it."""


def read_training_data(frozen: FrozenExperiment, run: FrozenRun) -> tuple[TrainingData, TextTokenizer]:
    """Raises NotReadableHere, and BadData or BadTemplate as the trainer would."""
    assert isinstance(run.inputs, TrainInputs)
    assert run.data_source is not None
    base, data = Path(frozen.base.location), Path(run.data_source.location)
    if not base.is_dir():
        raise NotReadableHere(f"the base {frozen.base.location} is not here, so its tokenizer is not either")
    if not data.is_file():
        raise NotReadableHere(f"{run.data_source.location} is not a file here")
    tokenizer = load_tokenizer(base)
    return prepare(data, run.inputs, tokenizer, end_token(base, tokenizer)), tokenizer
