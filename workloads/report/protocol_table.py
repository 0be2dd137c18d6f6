"""Further tables of the report: data and filter, cost, provenance."""

from collections.abc import Iterable
from dataclasses import dataclass

from workloads.api.manifest import Manifest, ManifestRun
from workloads.api.units import Lora, TrainInputs


@dataclass(frozen=True)
class ProtocolTables:
    """A table with a title. `notes` are below it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def protocol_tables(manifest: Manifest) -> tuple[ProtocolTables, ...]:
    made = (_settings(manifest), _data(manifest), _cost(manifest), _units(manifest), _protocol(manifest))
    return tuple(item for item in made if item.rows)


def _settings(manifest: Manifest) -> ProtocolTables:
    columns = ("Run", "Data", "Limit", "Overlong", "Samples", "Batch", "LoRA", "Learning rate", "Seed", "State")
    rows = []
    for run in manifest.runs:
        training = _trained(run.inputs) if isinstance(run.inputs, TrainInputs) else ("",) * 7
        rows.append((run.label, run.data_name or "", *training, run.state))
    return ProtocolTables("Runs", columns, tuple(rows), ("Limit: tokens of prompt and response together.",))


def _trained(inputs: TrainInputs) -> tuple[str, ...]:
    return (
        f"{inputs.sequence_tokens:,}",
        inputs.overlong,
        f"{inputs.samples:,}",
        str(inputs.batch_size),
        _lora(inputs.lora) if inputs.lora is not None else "none: all weights",
        f"{inputs.learning_rate:g}, {inputs.schedule}",
        str(inputs.seed),
    )


def _lora(lora: Lora) -> str:
    return f"rank {lora.rank}, alpha {lora.alpha:g}, {'+'.join(lora.target)}"


def _data(manifest: Manifest) -> ProtocolTables:
    sizes = ("Rows", "Kept", "Dropped", "Truncated", "Consumed", "Lengths p50 / p90 / max", "Kept p50 / max")
    columns = ("Run", *sizes, "Teach </think>", "Teach the end")
    rows = []
    for run in manifest.runs:
        if run.data is None:
            continue
        data, all_, kept = run.data, run.data.length_percentiles, run.data.kept_length_percentiles
        consumed = f"{data.consumed:,}"
        if data.distinct_consumed != data.consumed:
            consumed += f" ({data.distinct_consumed:,} distinct)"
        rows.append(
            (
                run.label,
                f"{data.rows:,}",
                _of(data.kept, data.rows),
                _of(data.dropped, data.rows),
                _of(data.truncated, data.rows),
                consumed,
                f"{all_['p50']:,} / {all_['p90']:,} / {all_['max']:,}",
                f"{kept['p50']:,} / {kept['max']:,}",
                f"{data.supervises_think_close:.0%}",
                f"{data.supervises_end:.0%}",
            )
        )
    notes = [f"{run.label}: {warning}" for run in manifest.runs for warning in run.warnings]
    return ProtocolTables("Data and filter", columns, tuple(rows), tuple(notes))


def _of(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole:.0%})" if whole else "0"


def _cost(manifest: Manifest) -> ProtocolTables:
    """Returns training and generation of committed results; attempts without a result are not counted."""
    rows = [_run_cost(manifest, run) for run in manifest.runs]
    rows.append(("Base", "", "", "", *_generation(manifest, {"base"}), ""))
    columns = ("Run", "Device", "Training, s", "Tokens/s", "Generation, s", "Generated tokens", "Device-hours")
    totals = [_device_hours(manifest, run) for run in manifest.runs]
    note = (
        f"All runs: {sum(totals):.2f} device-hours (GPU-hours on GPUs). Training and generation of committed results, "
        "one device per generation; attempts without a result and the time to start are not in it."
    )
    return ProtocolTables("Cost", columns, tuple(rows), (note,))


def _run_cost(manifest: Manifest, run: ManifestRun) -> tuple[str, ...]:
    device = f"{run.devices} x {run.device}" if run.device else ""
    seconds = "" if run.train_seconds is None else f"{run.train_seconds:,.0f}"
    speed = "" if run.tokens_per_second is None else f"{run.tokens_per_second:,.0f}"
    ids = {model.id for model in manifest.models if model.run == run.name}
    return (run.label, device, seconds, speed, *_generation(manifest, ids), f"{_device_hours(manifest, run):.2f}")


def _device_hours(manifest: Manifest, run: ManifestRun) -> float:
    ids = {model.id for model in manifest.models if model.run == run.name}
    return ((run.train_seconds or 0.0) * (run.devices or 1) + sum(_generation_seconds(manifest, ids))) / 3600


def _generation(manifest: Manifest, ids: set[str]) -> tuple[str, str]:
    tokens = sum(sum(e.tokens) for e in manifest.evaluations if e.model in ids)
    return f"{sum(_generation_seconds(manifest, ids)):,.0f}", f"{tokens:,}"


def _generation_seconds(manifest: Manifest, ids: set[str]) -> Iterable[float]:
    return (e.generate_seconds or 0.0 for e in manifest.evaluations if e.model in ids)


def _units(manifest: Manifest) -> ProtocolTables:
    rows = [("experiment", f"{manifest.experiment} {manifest.uid8}", f"spec sha256 {manifest.spec_sha256}")]
    rows.append(("base", manifest.base_name, manifest.base_content))
    rows += [("run", run.label, f"unit train/{run.digest}; attempts {run.attempts}") for run in manifest.runs]
    rows += [("benchmark", item.name, f"sha256 {item.content}") for item in manifest.benchmarks]
    rows += [("checkpoint", model.id, model.content or model.state) for model in manifest.models if model.run]
    return ProtocolTables("Provenance", ("What", "Name", "Content or digest"), tuple(rows))


def _protocol(manifest: Manifest) -> ProtocolTables:
    """Returns how outputs were made and graded, and the versions used."""
    sampling = manifest.sampling
    rows = [
        ("sampling", f"temperature {sampling.temperature:g}, top p {sampling.top_p:g}, n {sampling.n}"),
        ("budgets", ", ".join(f"{budget:,}" for budget in manifest.budgets) + " new tokens, generated once"),
    ]
    engines = {
        f"{e.engine.name} {e.engine.version}, {e.engine.dtype}, {e.engine.gpu}, "
        + ", ".join(f"{key}={value}" for key, value in sorted(e.engine.flags.items()))
        for e in manifest.evaluations
        if e.engine
    }
    rows += [("engine", engine) for engine in sorted(engines)]
    graders = {e.grader_version for e in manifest.evaluations if e.grader_version}
    sandboxes = {e.sandbox for e in manifest.evaluations if e.sandbox}
    rows += [("grader", version) for version in sorted(graders)]
    pythons = {e.grader_python for e in manifest.evaluations if e.grader_python}
    rows += [("graded with Python", version) for version in sorted(pythons)]
    rows += [("code ran in", ", ".join(layers)) for layers in sorted(sandboxes)]
    canaries = [e.canary_error for e in manifest.evaluations if e.canary_error is not None]
    if canaries:
        rows.append(("canary", f"engine and trainer differ by at most {max(canaries):.3g} nats a token"))
    versions = {", ".join(f"{k} {v}" for k, v in sorted(run.versions.items())) for run in manifest.runs if run.versions}
    rows += [("training", version) for version in sorted(versions)]
    return ProtocolTables("Protocol and versions", ("What", "Value"), tuple(rows))
