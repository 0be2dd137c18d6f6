"""TensorBoard event files. Extra: export-tensorboard."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from tensorboardX import SummaryWriter

from workloads.exporters.metrics import values
from workloads.exporters.tracked import SHARES, Tracked


def write(experiment: str, runs: Iterable[Tracked], folder: Path, now: datetime) -> None:
    """A folder of event files per run under `folder`/`experiment`. `now` is every event's wall time.

    Training is there twice, against steps (train/loss) and against samples (train_by_samples/loss); evaluations against
    samples, with their intervals as margins under Custom Scalars. Raises FileExistsError.
    """
    place = folder / experiment
    if place.exists():
        raise FileExistsError(str(place))
    for run in runs:
        with SummaryWriter(str(place / run.id.removeprefix(f"{experiment}-"))) as writer:
            _write(writer, run, now.timestamp())


def _write(writer: SummaryWriter, run: Tracked, seconds: float) -> None:
    for point in run.training:
        for name, value in values(point).items():
            writer.add_scalar(f"train/{name}", value, point.step, seconds)
            writer.add_scalar(f"train_by_samples/{name}", value, point.samples, seconds)
    for evaluated in run.evaluations:
        for tag, value in evaluated.values.items():
            writer.add_scalar(tag, value, evaluated.samples, seconds)
    writer.add_custom_scalars(_margins(run))
    writer.add_text("params", _table(run.params), walltime=seconds)
    writer.add_text("provenance", _table(run.tags), walltime=seconds)


def _margins(run: Tracked) -> dict[str, dict[str, list[object]]]:
    """By benchmark and budget: a chart per share, value, low and high."""
    names = dict.fromkeys(point.name for point in run.evaluations)
    return {
        name: {
            metric: ["Margin", [f"eval/{name}/{metric}{part}" for part in ("", "_low", "_high")]] for metric in SHARES
        }
        for name in names
    }


def _table(pairs: object) -> str:
    assert isinstance(pairs, dict)
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in pairs.items())])
