"""TensorBoard event files. Extra: export-tensorboard."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

from tensorboardX import SummaryWriter

from workloads.exporters.metrics import values
from workloads.exporters.tracked import SHARES, Tracked

EVENT_FILES = "events.out.tfevents.*"
WRITTEN = ".potstill-export.json"
"""In each run's folder: a list of what its event files contain."""


@dataclass
class Written:
    """`evaluations`: value by tag@samples. `texts`: the last written parameters and provenance."""

    step: int = 0
    live_step: int = 0
    evaluations: dict[str, float] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)


def update(experiment: str, runs: Iterable[Tracked], folder: Path, now: datetime) -> int:
    """Writes values that are missing in the run folders under `folder`/`experiment`. Returns how many values.

    `now` is every new event's wall time. Training is written twice, against steps (train/loss) and against samples
    (train_by_samples/loss); evaluations against samples, with their intervals as margins under Custom Scalars. A run
    whose evaluations have changed is written again from the start. Raises FileExistsError for a folder of another
    program.
    """
    return sum(
        _update(folder / experiment / run.id.removeprefix(f"{experiment}-"), run, now.timestamp()) for run in runs
    )


def _update(place: Path, run: Tracked, seconds: float) -> int:
    record = place / WRITTEN
    if place.exists() and not record.exists():
        raise FileExistsError(str(place))
    before = Written(**json.loads(record.read_text())) if record.exists() else Written()
    evaluations = _evaluations(run)
    if any(evaluations.get(key, value) != value for key, value in before.evaluations.items()):
        for file in place.glob(EVENT_FILES):
            file.unlink()
        before = Written()
    training = [point for point in run.training if point.step > before.step]
    fresh = {key: value for key, value in evaluations.items() if key not in before.evaluations}
    texts = [_table(run.params), _table(run.tags)]
    has_live = run.live is not None and run.live.step > max(before.live_step, before.step)
    if not (training or fresh or has_live or texts != before.texts):
        return 0
    written = 0
    place.mkdir(parents=True, exist_ok=True)
    if not record.exists():
        _save(record, Written())
    number = len(list(place.glob(EVENT_FILES)))  # the writer's own name has only seconds, so two may have the same name
    with SummaryWriter(str(place), filename_suffix=f".{number:06d}") as writer:
        for point in training:
            for name, value in values(point).items():
                writer.add_scalar(f"train/{name}", value, point.step, seconds)
                writer.add_scalar(f"train_by_samples/{name}", value, point.samples, seconds)
                written += 2
        for key, value in fresh.items():
            tag, _, samples = key.rpartition("@")
            writer.add_scalar(tag, value, int(samples), seconds)
            written += 1
        if has_live and run.live is not None:
            for tag, value in run.live_values.items():
                writer.add_scalar(tag, value, run.live.step, seconds)
                written += 1
        if fresh:
            writer.add_custom_scalars(_margins(run))
        if texts != before.texts:
            writer.add_text("params", texts[0], walltime=seconds)
            writer.add_text("provenance", texts[1], walltime=seconds)
    live_step = run.live.step if has_live and run.live is not None else before.live_step
    last = max([before.step, *(point.step for point in training)])
    _save(record, Written(last, live_step, before.evaluations | fresh, texts))
    return written


def _evaluations(run: Tracked) -> dict[str, float]:
    """Returns values by tag@samples."""
    return {f"{tag}@{point.samples}": value for point in run.evaluations for tag, value in point.values.items()}


def _save(record: Path, written: Written) -> None:
    unfinished = record.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(asdict(written)))
    unfinished.replace(record)


def _margins(run: Tracked) -> dict[str, dict[str, list[object]]]:
    """Returns by benchmark and budget a chart per share: value, low and high."""
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
