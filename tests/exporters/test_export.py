"""The output of `potstill export`, read back with the trackers' libraries."""

import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from controller.cli import app
from controller.cli.common import DEFAULT_STORE
from controller.cli.export import Tracker, follow_experiment, reader_of, writer_for
from tests.results.made_manifest import evaluation, manifest
from workloads.api import store_keys
from workloads.api.manifest import LossPoint, Manifest
from workloads.api.records import Progress, StateRecord, TrainRecord
from workloads.api.units import Columns, Lora, Template, TrainInputs, UnitRef
from workloads.exporters.metrics import METRICS
from workloads.storage.base import Store, open_store
from workloads.storage.markers import commit_marker
from workloads.train.metrics import Metric, to_lines

NOW = datetime(2026, 2, 16, tzinfo=UTC)
STEPS = 300
"""More than a manifest contains."""
LOSSES = [1 / (step + 1) for step in range(1, STEPS + 1)]


@pytest.fixture
def found(tmp_path: Path) -> Path:
    """A manifest in a store, with its trainer's record of every step."""
    store = open_store((tmp_path / "store").as_uri())
    made = manifest(evaluation("base", "R" * 80 + "W" * 20), evaluation("mine@100", "R" * 60 + "n" * 40))
    run = made.runs[0].model_copy(
        update={"inputs": inputs(), "losses": (point(STEPS),), "versions": {"torch": "2.13.0"}}
    )
    made = made.model_copy(update={"runs": (run,)})
    metrics = tmp_path / METRICS
    metrics.write_bytes(to_lines([metric(step) for step in range(1, STEPS + 1)]))
    unit = UnitRef(kind="train", digest=run.digest)
    commit_marker(store, unit, 1, store_keys.DONE, {METRICS: metrics}, record(), now=datetime(2026, 2, 16, tzinfo=UTC))
    key = store_keys.manifest_key(made.experiment, made.uid8)
    store.put(key, made.to_json())
    return tmp_path / "store" / key


def inputs() -> TrainInputs:
    return TrainInputs(
        base_content="hub:base@0", data_content="0" * 64, columns=Columns(), template=Template(), samples=3000,
        batch_size=10, sequence_tokens=4096, overlong="drop", on_short="fail", checkpoints=(100,),
        lora=Lora(rank=32, alpha=32, target=("attention", "experts")), learning_rate=2e-4, schedule="cosine",
        warmup_steps=0, weight_decay=0, gradient_clip=1, validation_share=0, precision="bfloat16", seed=16,
    )  # fmt: skip


def point(step: int) -> LossPoint:
    return LossPoint(step=step, samples=10 * step, loss=LOSSES[step - 1], learning_rate=2e-4, tokens_per_second=1e4)


def metric(step: int) -> Metric:
    return Metric(
        step=step, samples=10 * step, loss=LOSSES[step - 1], learning_rate=2e-4, gradient_norm=1, tokens=9,
        supervised_tokens=5, tokens_per_second=1e4,
    )  # fmt: skip


def record() -> TrainRecord:
    return TrainRecord(
        samples=3000, steps=STEPS, data=None, final_loss=LOSSES[-1], train_seconds=60, tokens_per_second=1e4,
        device="cpu", devices=1, versions={"torch": "2.13.0"},
    )  # fmt: skip


def export(tracker: str, where: Path, to: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["export", tracker, str(where), "--out", str(to), *options], env={"COLUMNS": "400"})


@pytest.mark.slow
def test_tensorboard_reads_curves_against_steps_and_samples_and_evaluations_with_margins(
    found: Path, tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert export("tensorboard", found, tmp_path / "out").exit_code == 0
    events = EventAccumulator(str(tmp_path / "out" / "made-00000000" / "mine"), size_guidance={"scalars": 0})
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [
        (step, pytest.approx(LOSSES[step - 1])) for step in range(1, STEPS + 1)
    ]
    assert [e.step for e in events.Scalars("train_by_samples/tokens_per_second")][-1] == 10 * STEPS
    accuracy = "eval/math-500/4096/accuracy"
    read = {tag: events.Scalars(tag)[0] for tag in (accuracy, f"{accuracy}_low", f"{accuracy}_high", f"{accuracy}_n")}
    assert {event.step for event in read.values()} == {100}
    assert [event.value for event in read.values()] == pytest.approx([0.6, 0.502, 0.6906, 100], abs=0.001)
    assert (
        accuracy.encode()
        in events.summary_metadata["custom_scalars__config__"].plugin_data.content
        + repr(events.Tensors("custom_scalars__config__")).encode()
    )


@pytest.mark.slow
def test_mlflow_reads_runs_with_parameters_tags_and_metrics(
    found: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert export("mlflow", found, tmp_path / "out").exit_code == 0
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient

    client = MlflowClient((tmp_path / "out").as_uri())
    experiment = client.get_experiment_by_name("made-00000000")
    assert experiment is not None
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"Base", "Mine"}
    mine = runs["Mine"]
    assert mine.data.params["learningRate"] == "0.0002"
    assert mine.data.params["lora.target"] == "attention, experts"
    assert mine.data.tags["engine"] == "vllm 0.32.0 bfloat16 h200"
    assert mine.data.tags["unit"].startswith("train/")
    history = client.get_metric_history(mine.info.run_id, "train/loss")
    assert [(m.step, m.value) for m in history] == [(step, LOSSES[step - 1]) for step in range(1, STEPS + 1)]
    completed = client.get_metric_history(mine.info.run_id, "eval/math-500/4096/completed")
    assert [(m.step, m.value) for m in completed] == [(100, 0.6)]
    assert runs["Base"].data.metrics["eval/math-500/4096/accuracy"] == 0.8


@pytest.mark.slow
def test_wandb_has_an_offline_run_each_with_its_history(found: Path, tmp_path: Path) -> None:
    assert export("wandb", found, tmp_path / "out").exit_code == 0
    files = sorted((tmp_path / "out" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert [path.name for path in files] == ["run-made-00000000-base.wandb", "run-made-00000000-mine.wandb"]
    records = list(wandb_records(files[1]))
    run = next(record.run for record in records if record.HasField("run"))
    assert (run.display_name, run.project, run.job_type) == ("Mine", "made-00000000", "run")
    config = {item.key: item.value_json for item in run.config.update}
    assert config["learningRate"] == "0.0002"
    rows = [{item.nested_key[0] if item.nested_key else item.key: item.value_json for item in record.history.item}
            for record in records if record.HasField("history")]  # fmt: skip
    losses = [(int(row["train/step"]), float(row["train/loss"])) for row in rows if "train/loss" in row]
    assert losses == [(step, LOSSES[step - 1]) for step in range(1, STEPS + 1)]
    evaluated = next(row for row in rows if "eval/samples" in row)
    assert (evaluated["eval/samples"], evaluated["eval/math-500/4096/accuracy"]) == ("100", "0.6")
    axes = {record.metric.glob_name: record.metric.step_metric for record in records if record.HasField("metric")}
    assert axes["eval/*"] == "eval/samples"


def wandb_records(path: Path) -> Iterator[Any]:
    """W&B's own messages out of its log: a header of 7 bytes, then LevelDB's log format in blocks of 32 KiB.

    W&B's Python reader of it is gone since its core is no longer Python.
    """
    from wandb.proto import wandb_internal_pb2 as messages

    data, place, whole = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield vars(messages)["Record"].FromString(whole)
            whole = b""


@pytest.mark.slow
def test_a_manifest_without_its_store_has_the_points_that_it_keeps(found: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    alone = tmp_path / "manifest.json"
    alone.write_bytes(found.read_bytes())
    result = export("tensorboard", alone, tmp_path / "out")
    assert "at most 200 points a run" in result.output
    events = EventAccumulator(str(tmp_path / "out" / "made-00000000" / "mine"))
    events.Reload()
    assert [e.step for e in events.Scalars("train/loss")] == [STEPS]


def test_the_old_name_of_the_option_is_taken_still(found: Path, tmp_path: Path) -> None:
    arguments = ["export", "tensorboard", str(found), "--to", str(tmp_path / "out")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert (tmp_path / "out" / "made-00000000" / "mine").is_dir()


@pytest.mark.parametrize(("tracker", "target"), [("tensorboard", "http://h:1"), ("mlflow", "sqlite:///x.db")])
def test_a_url_that_the_tracker_does_not_take_is_refused(tracker: str, target: str, found: Path) -> None:
    refused = CliRunner().invoke(app, ["export", tracker, str(found), "--out", target], env={"COLUMNS": "400"})
    assert (refused.exit_code, "give a folder" in refused.output) == (2, True)


HALF = 100
ACCURACY = "eval/math-500/4096/accuracy"


@pytest.fixture
def running(tmp_path: Path) -> Path:
    """A manifest of a running experiment: one resume state, newer progress, and only the base is graded."""
    store = open_store((tmp_path / "store").as_uri())
    whole = manifest(evaluation("base", "R" * 80 + "W" * 20), evaluation("mine@100", "R" * 60 + "n" * 40))
    run = whole.runs[0].model_copy(update={"inputs": inputs(), "state": "running", "losses": (), "versions": {}})
    evaluations = tuple(item for item in whole.evaluations if item.model == "base")
    made = whole.model_copy(update={"runs": (run,), "state": "running", "evaluations": evaluations})
    unit = UnitRef(kind="train", digest=run.digest)
    metrics = tmp_path / METRICS
    metrics.write_bytes(to_lines([metric(step) for step in range(1, HALF + 1)]))
    state = StateRecord(step=HALF, samples=10 * HALF)
    commit_marker(store, unit, 1, store_keys.state_marker(HALF), {METRICS: metrics}, state, now=NOW)
    progress = Progress(
        attempt=1, updated=NOW, phase="training", done=HALF + 20, total=STEPS, counted="steps", loss=0.25,
        tokens_per_second=9e3,
    )  # fmt: skip
    store.put(store_keys.progress_key(unit, 1), progress.to_json())
    key = store_keys.manifest_key(made.experiment, made.uid8)
    store.put(key, made.to_json())
    return tmp_path / "store" / key


def finish(where: Path, verdicts: str = "R" * 60 + "n" * 40) -> None:
    """Ends the training and its evaluation."""
    made = Manifest.model_validate_json(where.read_bytes())
    store = open_store(where.parents[3].as_uri())
    metrics = where.parents[4] / METRICS
    metrics.write_bytes(to_lines([metric(step) for step in range(1, STEPS + 1)]))
    unit = UnitRef(kind="train", digest=made.runs[0].digest)
    commit_marker(store, unit, 1, store_keys.DONE, {METRICS: metrics}, record(), now=NOW)
    run = made.runs[0].model_copy(update={"state": "done", "versions": {"torch": "2.13.0"}})
    base = tuple(item for item in made.evaluations if item.model == "base")
    mine = manifest(evaluation("base", "R"), evaluation("mine@100", verdicts)).evaluations[-1]
    whole = made.model_copy(update={"runs": (run,), "state": "succeeded", "evaluations": (*base, mine)})
    store.put(store_keys.manifest_key(made.experiment, made.uid8), whole.to_json())


def scalars(out: Path, tag: str, run: str = "mine") -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out / "made-00000000" / run), size_guidance={"scalars": 0})
    events.Reload()
    return [(e.step, e.value) for e in events.Scalars(tag)] if tag in events.Tags()["scalars"] else []


@pytest.mark.slow
def test_tensorboard_gets_what_is_new_and_nothing_twice(running: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        assert export("tensorboard", running, out).exit_code == 0
    assert [step for step, _ in scalars(out, "train/loss")] == list(range(1, HALF + 1))
    assert scalars(out, "live/loss") == [(HALF + 20, 0.25)]
    assert scalars(out, ACCURACY) == []
    finish(running)
    for _ in range(2):
        assert export("tensorboard", running, out).exit_code == 0
    assert [step for step, _ in scalars(out, "train/loss")] == list(range(1, STEPS + 1))
    ((step, accuracy),) = scalars(out, ACCURACY)
    assert step == 100
    assert accuracy == pytest.approx(0.6)
    assert len(scalars(out, ACCURACY, "base")) == 1


@pytest.mark.slow
def test_tensorboard_gets_a_run_again_after_its_evaluation_has_changed(running: Path, tmp_path: Path) -> None:
    finish(running)
    assert export("tensorboard", running, tmp_path / "out").exit_code == 0
    finish(running, "R" * 50 + "n" * 50)
    assert export("tensorboard", running, tmp_path / "out").exit_code == 0
    assert scalars(tmp_path / "out", ACCURACY) == [(100, 0.5)]
    assert [step for step, _ in scalars(tmp_path / "out", "train/loss")] == list(range(1, STEPS + 1))


def test_a_folder_of_another_program_is_left_alone(found: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "made-00000000" / "mine").mkdir(parents=True)
    refused = export("tensorboard", found, tmp_path / "out")
    assert (refused.exit_code, "did not write it" in refused.output) == (2, True)


@pytest.mark.slow
def test_mlflow_gets_what_is_new_and_nothing_twice(
    running: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient

    out = tmp_path / "out"
    for _ in range(2):
        assert export("mlflow", running, out).exit_code == 0
    client = MlflowClient(out.as_uri())
    experiment = client.get_experiment_by_name("made-00000000")
    assert experiment is not None

    def history(tag: str) -> list[int]:
        (mine,) = [run for run in client.search_runs([experiment.experiment_id]) if run.info.run_name == "Mine"]
        return [metric.step for metric in client.get_metric_history(mine.info.run_id, tag)]

    assert history("train/loss") == list(range(1, HALF + 1))
    assert history("live/loss") == [HALF + 20]
    finish(running)
    for _ in range(2):
        assert export("mlflow", running, out).exit_code == 0
    assert history("train/loss") == list(range(1, STEPS + 1))
    assert history(ACCURACY) == [100]
    assert len(client.search_runs([experiment.experiment_id])) == 2


@pytest.mark.slow
def test_wandb_replaces_what_an_earlier_export_wrote(running: Path, tmp_path: Path) -> None:
    assert export("wandb", running, tmp_path / "out").exit_code == 0
    finish(running)
    assert export("wandb", running, tmp_path / "out").exit_code == 0
    files = sorted((tmp_path / "out" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert [path.name for path in files] == ["run-made-00000000-base.wandb", "run-made-00000000-mine.wandb"]
    assert wandb_steps(files[1]) == list(range(1, STEPS + 1))


def wandb_steps(path: Path) -> list[int]:
    rows = [{item.nested_key[0] if item.nested_key else item.key: item.value_json for item in record.history.item}
            for record in wandb_records(path) if record.HasField("history")]  # fmt: skip
    return [int(row["train/step"]) for row in rows if "train/step" in row]


@pytest.mark.slow
@pytest.mark.parametrize("tracker", ["tensorboard", "wandb"])
def test_follow_continues_until_the_experiment_has_ended(tracker: str, running: Path, tmp_path: Path) -> None:
    rounds, runs = threading.Semaphore(0), list[int]()

    def follow() -> None:
        with writer_for(Tracker(tracker), str(tmp_path / "out")) as write:

            def counted(manifest: Manifest, store: Store | None) -> int:
                written = write(manifest, store)
                rounds.release()
                return written

            runs.append(follow_experiment(reader_of(str(running), DEFAULT_STORE, None), counted, pause_seconds=0.1))

    thread = threading.Thread(target=follow)
    thread.start()
    for _ in range(2):
        assert rounds.acquire(timeout=120)
    finish(running)
    thread.join(timeout=120)
    assert not thread.is_alive()
    assert runs == [2]
    assert export(tracker, running, tmp_path / "again", "--follow").exit_code == 0
    if tracker == "tensorboard":
        assert [step for step, _ in scalars(tmp_path / "out", "train/loss")] == list(range(1, STEPS + 1))
    else:
        (path,) = (tmp_path / "out" / "wandb").glob("offline-run-*-mine/run-*.wandb")
        assert wandb_steps(path) == list(range(1, STEPS + 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tracker", "package"), [("wandb", "wandb"), ("mlflow", "mlflow"), ("tensorboard", "tensorboardX")]
)
def test_a_library_that_is_not_installed_is_named_with_its_extra(
    tracker: str, package: str, found: Path, tmp_path: Path
) -> None:
    without = f"import sys; sys.modules[{package!r}] = None; from controller.cli import main; main()"
    command = [sys.executable, "-c", without, "export", tracker, str(found), "--out", str(tmp_path / "out")]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "400"})
    assert result.returncode == 2, result.stderr
    assert f"pip install '.[export-{tracker}]'" in result.stderr


def test_every_share_has_its_interval(found: Path) -> None:
    from workloads.exporters.tracked import tracked

    runs = tracked(Manifest.model_validate_json(found.read_bytes()), {})
    for evaluated in (point for run in runs for point in run.evaluations):
        values = evaluated.values
        for tag in [tag for tag in values if tag.endswith("_n")]:
            name = tag.removesuffix("_n")
            assert values[f"{name}_low"] - 1e-9 <= values[name] <= values[f"{name}_high"] + 1e-9
