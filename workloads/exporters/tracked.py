"""Converts a manifest to the runs of a tracker: curves, parameters and provenance. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from workloads.api.manifest import LossPoint, Manifest, ManifestModel, ManifestRun
from workloads.api.units import TrainInputs
from workloads.results.stats.share import Share
from workloads.results.tables import row_of

SHARES = ("accuracy", "completed", "strict", "accuracy_completed")
Value = str | int | float | bool


@dataclass(frozen=True)
class EvaluationPoint:
    """A model's shares on one benchmark at one budget: `low` and `high` are the 95% interval.

    `samples`: trained samples; 0 for the base and for candidates. `name`: such as math-500/4096.
    """

    samples: int
    name: str
    shares: Mapping[str, Share]

    @property
    def values(self) -> dict[str, float]:
        """Returns eval/math-500/4096/accuracy, with _low, _high and _n. A share of no outputs is left out."""
        found: dict[str, float] = {}
        for metric, share in self.shares.items():
            if share.value is not None and share.interval is not None:
                tag = f"eval/{self.name}/{metric}"
                low, high = share.interval
                found |= {tag: share.value, f"{tag}_low": low, f"{tag}_high": high, f"{tag}_n": share.n}
        return found


@dataclass(frozen=True)
class Tracked:
    """One run of a tracker: a training with its checkpoints, the base, or a candidate. `id` is unique in a store.

    `live`: the newest step of a running training, which `training` may not have yet.
    """

    id: str
    name: str
    kind: Literal["run", "base", "candidate"]
    params: Mapping[str, Value]
    tags: Mapping[str, str]
    training: tuple[LossPoint, ...]
    evaluations: tuple[EvaluationPoint, ...]
    live: LossPoint | None = None

    @property
    def live_values(self) -> dict[str, float]:
        """Returns live/loss and live/tokens_per_second."""
        if self.live is None:
            return {}
        speed = self.live.tokens_per_second
        return {"live/loss": self.live.loss} | ({} if speed is None else {"live/tokens_per_second": speed})


def experiment_name(manifest: Manifest) -> str:
    return f"{manifest.experiment}-{manifest.uid8}"


def tracked(
    manifest: Manifest,
    training: Mapping[str, tuple[LossPoint, ...]],
    live: Mapping[str, LossPoint] = MappingProxyType({}),
) -> tuple[Tracked, ...]:
    """Returns the base, then runs and candidates in the manifest's order. `training`: every step's metrics, by run.

    While the experiment runs, a benchmark with missing parts is left out, because its shares would change.
    """
    base = next(model for model in manifest.models if model.kind == "base")
    runs = [_run(manifest, run, training.get(run.name, ())) for run in manifest.runs]
    runs = [replace(made, live=live.get(run.name)) for made, run in zip(runs, manifest.runs, strict=True)]
    return (_tracked(manifest, "base", "Base", "base", [base], {}, {}), *runs)


def _run(manifest: Manifest, run: ManifestRun, training: tuple[LossPoint, ...]) -> Tracked:
    models = [model for model in manifest.models if model.run == run.name]
    params = dict(_params(run.inputs)) if run.inputs is not None else {}
    tags = {"unit": f"train/{run.digest}", "state": run.state}
    tags |= {f"content/{model.samples}": model.content for model in models if model.content}
    tags |= {f"version/{name}": version for name, version in run.versions.items()}
    return _tracked(manifest, run.name, run.label, run.role, models, params, tags, training)


def _tracked(
    manifest: Manifest,
    name: str,
    label: str,
    kind: Literal["run", "base", "candidate"],
    models: list[ManifestModel],
    params: Mapping[str, Value],
    tags: Mapping[str, str],
    training: tuple[LossPoint, ...] = (),
) -> Tracked:
    return Tracked(
        id=f"{experiment_name(manifest)}-{name}",
        name=label,
        kind=kind,
        params={
            **params,
            "base": manifest.base_name,
            "budgets": ", ".join(map(str, manifest.budgets)),
            **_sampling(manifest),
        },
        tags={**tags, **_provenance(manifest, models)},
        training=training,
        evaluations=tuple(point for model in models for point in _points(manifest, model)),
    )


def _params(inputs: TrainInputs) -> Iterator[tuple[str, Value]]:
    """Yields the fields with their names in the experiment file; nested ones with dots."""
    fields = inputs.model_dump(mode="json", by_alias=True, exclude={"type", "template", "base_content", "data_content"})
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{key}", _value(item)) for key, item in value.items())
        else:
            yield name, _value(value)


def _value(value: object) -> Value:
    return value if isinstance(value, str | int | float | bool) else ", ".join(map(str, value or ()))  # type: ignore[call-overload]


def _sampling(manifest: Manifest) -> dict[str, Value]:
    fields = manifest.sampling.model_dump(mode="json", by_alias=True)
    return {f"sampling.{name}": value for name, value in fields.items()}


def _provenance(manifest: Manifest, models: list[ManifestModel]) -> dict[str, str]:
    ids = {model.id for model in models}
    mine = [item for item in manifest.evaluations if item.model in ids]
    engines = {f"{e.engine.name} {e.engine.version} {e.engine.dtype} {e.engine.gpu}" for e in mine if e.engine}
    return {
        "experiment": manifest.experiment,
        "uid8": manifest.uid8,
        "spec_sha256": manifest.spec_sha256,
        "base_content": manifest.base_content,
        "engine": ", ".join(sorted(engines)),
        "grader": ", ".join(sorted({item.grader_version for item in mine if item.grader_version})),
        **{f"benchmark/{item.name}": item.content for item in manifest.benchmarks},
    }


def _points(manifest: Manifest, model: ManifestModel) -> Iterator[EvaluationPoint]:
    for benchmark in manifest.benchmarks:
        for budget in manifest.budgets:
            row = row_of(manifest, model, benchmark.name, budget)
            unfinished = row is not None and row.missing and manifest.state == "running"
            if row is not None and row.accuracy.n and not unfinished:
                shares = {metric: getattr(row, metric) for metric in SHARES}
                yield EvaluationPoint(model.samples or 0, f"{benchmark.name}/{budget}", shares)
