"""Loss and accuracy against training samples, also while trainings and evaluations run."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from controller.planner.evaluations import EvaluationState, resolve_evaluations
from controller.snapshot.types import StoreSnapshot, UnitView
from controller.ui.live import LiveView
from controller.ui.metric_files import MetricFiles, Steps
from workloads.api import store_keys
from workloads.api.evaluation_matrix import train_unit
from workloads.api.experiment import FrozenExperiment, FrozenRun
from workloads.api.manifest import Manifest
from workloads.api.records import CheckpointRecord, GradesRecord
from workloads.api.units import TrainInputs
from workloads.results.stats.share import Share
from workloads.results.tables import TableRow, row_of
from workloads.storage.base import StoreError
from workloads.storage.markers import Corrupt, newest_state

LOSS_POINTS = 400
METRIC_NAMES = ("accuracy", "completed")


@dataclass(frozen=True)
class LossCurve:
    """`points`: (samples, loss), at most LOSS_POINTS; `validation` at checkpoints. Loss in nats per supervised token.

    `steps`: the last step. `running`: whether more steps will come. `note`: why something is missing.
    """

    run: str
    label: str
    points: tuple[tuple[int, float], ...]
    validation: tuple[tuple[int, float], ...]
    steps: int
    running: bool
    note: str | None = None


@dataclass(frozen=True)
class SharePoint:
    """k of n outputs of a checkpoint at `samples`. `low` and `high`: 95% interval in 0..1; None if unknown."""

    samples: int
    model: str
    k: int
    n: int
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ShareSeries:
    """`shown`: whether the tables show the run at this budget."""

    run: str
    label: str
    shown: bool
    points: tuple[SharePoint, ...]


@dataclass(frozen=True)
class ShareCurve:
    """`base`: on the parts of the benchmark on which checkpoints are evaluated.

    None if it is not graded, or not evaluated.
    """

    benchmark: str
    metric: str
    budget_tokens: int
    base: SharePoint | None
    series: tuple[ShareSeries, ...]


@dataclass(frozen=True)
class Curves:
    losses: tuple[LossCurve, ...]
    shares: tuple[ShareCurve, ...]


def curves(frozen: FrozenExperiment, live: LiveView, manifest: Manifest | None, files: MetricFiles) -> Curves:
    """`manifest`: None if there is none; evaluations that failed according to it are left out. Raises StoreError."""
    losses = (_loss_curve(run, live, files) for run in frozen.runs if run.role == "run")
    return Curves(tuple(losses), tuple(_share_curves(frozen, live.seen, manifest)))


def _loss_curve(run: FrozenRun, live: LiveView, files: MetricFiles) -> LossCurve:
    """Returns the curve: from the file of all steps if the training is done, otherwise from the newest resume state and
    later progress.
    """
    view = live.seen.unit(train_unit(run))
    done = view.markers.get(store_keys.DONE)
    saved = done or newest_state(view.markers.values())
    steps: Steps = ()
    note = None
    try:
        steps = files.of(saved) if saved is not None else ()
    except (Corrupt, StoreError) as error:  # a state may also have been deleted since the listing
        note = f"losses cannot be read: {error}" if done is not None or isinstance(error, Corrupt) else None
    points = [(samples, loss) for _, samples, loss in steps]
    last = steps[-1][0] if steps else 0
    if done is None and isinstance(run.inputs, TrainInputs):
        tail = [(step, loss) for step, loss in live.trails.get(run.name, ()) if step > last]
        points += [(min(step * run.inputs.batch_size, run.inputs.samples), loss) for step, loss in tail]
        last = tail[-1][0] if tail else last
    return LossCurve(
        run=run.name,
        label=run.label,
        points=tuple(thinned(points)),
        validation=tuple(_validation(view)),
        steps=last,
        running=done is None,
        note=note,
    )


def _validation(view: UnitView) -> list[tuple[int, float]]:
    records = (marker.record for marker in view.markers.values())
    found = [r for r in records if isinstance(r, CheckpointRecord) and r.validation_loss is not None]
    return sorted((record.samples, record.validation_loss or 0.0) for record in found)


def thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Returns at most LOSS_POINTS of them, evenly spaced, including the last."""
    stride = max(1, -(-len(points) // LOSS_POINTS))
    return [point for index, point in enumerate(points, 1) if index % stride == 0 or index == len(points)]


def _share_curves(frozen: FrozenExperiment, seen: StoreSnapshot, manifest: Manifest | None) -> Iterator[ShareCurve]:
    pieces = resolve_evaluations(frozen, seen)
    failed = {e.id for e in manifest.evaluations if e.state == "failed"} if manifest is not None else set()
    graded = [piece for piece in pieces if piece.want.id not in failed and _is_whole(piece, pieces, seen)]
    for benchmark in frozen.benchmarks:
        parts = set(benchmark.checkpoint_parts)
        own = [piece for piece in graded if piece.want.benchmark.name == benchmark.name]
        base = [piece for piece in own if piece.want.model.run is None and piece.want.part.name in parts]
        for metric in METRIC_NAMES:
            for budget in frozen.budgets:
                series = tuple(
                    ShareSeries(run.name, run.label, run.budget_tokens == budget, points)
                    for run in frozen.runs
                    if run.role == "run" and (points := _points(frozen, run, own, seen, manifest, metric, budget))
                )
                if series:
                    point = _point(frozen, "base", 0, base, seen, metric, budget)
                    yield ShareCurve(benchmark.name, metric, budget, point, series)


def _is_whole(piece: EvaluationState, pieces: Iterable[EvaluationState], seen: StoreSnapshot) -> bool:
    """Returns whether all the model's parts of the benchmark are graded.

    Fewer parts would be a different set of problems.
    """
    model, benchmark = piece.want.model, piece.want.benchmark.name
    if model.run is None:
        return _grades(piece, seen) is not None
    asked = [p for p in pieces if p.want.model == model and p.want.benchmark.name == benchmark]
    return all(_grades(p, seen) is not None for p in asked)


def _grades(piece: EvaluationState, seen: StoreSnapshot) -> GradesRecord | None:
    marker = seen.unit(piece.grade_unit).markers.get(store_keys.GRADES) if piece.grade_unit is not None else None
    return marker.record if marker is not None and isinstance(marker.record, GradesRecord) else None


def _points(
    frozen: FrozenExperiment,
    run: FrozenRun,
    own: Sequence[EvaluationState],
    seen: StoreSnapshot,
    manifest: Manifest | None,
    metric: str,
    budget: int,
) -> tuple[SharePoint, ...]:
    by_samples: dict[int, list[EvaluationState]] = {}
    for piece in own:
        if piece.want.model.run == run:
            by_samples.setdefault(piece.want.model.samples, []).append(piece)
    found = []
    for samples, pieces in sorted(by_samples.items()):
        model = pieces[0].want.model.id
        point = _from_manifest(manifest, model, samples, pieces[0].want.benchmark.name, metric, budget)
        point = point or _point(frozen, model, samples, pieces, seen, metric, budget)
        found += [point] if point is not None else []
    return tuple(found)


def _from_manifest(
    manifest: Manifest | None, model: str, samples: int, benchmark: str, metric: str, budget: int
) -> SharePoint | None:
    """Returns the value in the report's table; None while the manifest lacks parts."""
    known = next((item for item in manifest.models if item.id == model), None) if manifest is not None else None
    row: TableRow | None = (
        row_of(manifest, known, benchmark, budget) if manifest is not None and known is not None else None
    )
    if row is None or row.missing:
        return None
    share = row.accuracy if metric == "accuracy" else row.completed
    return _share_point(model, samples, share) if share.n else None


def _point(
    frozen: FrozenExperiment,
    model: str,
    samples: int,
    pieces: Sequence[EvaluationState],
    seen: StoreSnapshot,
    metric: str,
    budget: int,
) -> SharePoint | None:
    """Computes the point from counts in the grades' markers.

    Several outputs of one problem have no interval until the manifest exists: it needs the verdicts of each problem.
    """
    records = [record for piece in pieces if (record := _grades(piece, seen)) is not None]
    counted = [item for record in records for item in record.budgets if item.budget == budget]
    k = sum(item.right if metric == "accuracy" else item.completed for item in counted)
    n = sum(item.outputs - item.errors for item in counted)
    if not n:
        return None
    if frozen.sampling.n > 1:
        return SharePoint(samples, model, k, n, None, None)
    return _share_point(model, samples, Share(k, n))


def _share_point(model: str, samples: int, share: Share) -> SharePoint:
    low, high = share.interval or (None, None)
    return SharePoint(samples, model, share.k, share.n, low, high)
