"""`potstill publish`: checkpoints of another trainer, committed one by one."""

import json
from pathlib import Path

import pytest

from controller.cli.common import frozen_from
from controller.cli.publish import publish
from controller.experiment.errors import SpecError
from controller.planner.actions import Reason, Start, WriteTask
from controller.planner.planner import decide
from controller.planner.round import owner_of
from tests.controller.experiments import experiment, external
from tests.controller.world import Weather, World
from tests.storage.test_publish import CONFIG, ONE, adapter, safetensors, write
from workloads.api.evaluation_matrix import train_unit
from workloads.api.records import TaskEnd
from workloads.api.tasks import ImportTask
from workloads.api.units import ExternalInputs
from workloads.storage.base import Store, open_store
from workloads.storage.markers import list_markers


def spec(folder: Path, expect: list[int], name: str = "theirs") -> Path:
    """Writes an experiment with the run `mine`, whose checkpoints at `expect` samples are published."""
    base = {"config.json": json.dumps(CONFIG).encode(), "model.safetensors": safetensors({"w": ("F32", [1], ONE)})}
    write(folder / "base", base)
    path = folder / f"{name}.yaml"
    path.write_text(
        f"""
apiVersion: potstill.dev/v1alpha1
kind: Experiment
metadata: {{name: {name}}}
spec:
  base: {{model: ./base}}
  runs: [{{name: mine, checkpoints: {{publish: true, expect: {expect}}}}}]
  evaluation: {{benchmarks: [{{name: math-500, limit: 2}}], budgets: [16]}}
"""
    )
    return path


def committed_checkpoints(store: Store, path: Path) -> list[str]:
    return [marker.name for marker in list_markers(store, train_unit(frozen_from(path, None).runs[0]))]


def task_ends(store: Store) -> list[TaskEnd]:
    """The ends of all attempts to publish a checkpoint."""
    found = [info.key for info in store.list("units/train/") if info.key.endswith(".end.json")]
    return [TaskEnd.model_validate_json(store.get(key)) for key in found]


def test_published_checkpoints_stay_when_more_are_expected_later(tmp_path: Path) -> None:
    store = open_store((tmp_path / "store").as_uri())
    write(tmp_path / "adapter", adapter())
    publish(spec(tmp_path, [100]), tmp_path / "adapter", "mine", 100, store.url)
    more = spec(tmp_path, [100, 200])
    publish(more, tmp_path / "adapter", "mine", 200, store.url)
    assert committed_checkpoints(store, more) == ["checkpoint-000000100", "checkpoint-000000200"]
    assert [end.outcome for end in task_ends(store)] == ["succeeded", "succeeded"]


def test_another_checkpoint_at_the_same_samples_is_refused_and_the_first_stays(tmp_path: Path) -> None:
    store = open_store((tmp_path / "store").as_uri())
    path = spec(tmp_path, [100])
    write(tmp_path / "adapter", adapter())
    publish(path, tmp_path / "adapter", "mine", 100, store.url)
    write(tmp_path / "other", adapter(value=b"\0\0\0\0"))
    with pytest.raises(SpecError, match="has another checkpoint at 100 samples already"):
        publish(path, tmp_path / "other", "mine", 100, store.url)
    # superseded: another attempt committed the checkpoint of this name first
    assert [end.outcome for end in task_ends(store)] == ["succeeded", "superseded"]


def test_a_run_of_the_same_name_in_another_experiment_is_another_run(tmp_path: Path) -> None:
    store = open_store((tmp_path / "store").as_uri())
    write(tmp_path / "adapter", adapter())
    publish(spec(tmp_path, [100]), tmp_path / "adapter", "mine", 100, store.url)
    assert committed_checkpoints(store, spec(tmp_path, [100], name="ours")) == []


def test_no_job_is_started_while_potstill_publish_commits_a_checkpoint() -> None:
    """`potstill publish` writes a task, commits the checkpoint and writes the task end, all in its own process. Before the
    task end is written, the task looks as if it waits for a Job.
    """
    frozen = experiment((external("mine", (100,), published=True),), ())
    world = World(Weather(), seed=0)  # a simulated store and cluster; Weather has its faults and durations
    run = frozen.runs[0]
    assert isinstance(run.inputs, ExternalInputs)
    task = ImportTask(
        unit=train_unit(run),
        number=1,
        owner=owner_of(frozen),
        created=world.now,
        inputs=run.inputs,
        base=frozen.base,
        location="/adapters/mine",
        expect=run.checkpoints,
    )
    assert world.act(WriteTask(task, Reason("Published", "potstill publish")), task.owner)
    decision = decide(frozen, world.store_view(owner_of(frozen)), world.executor_view(), world.now)
    assert [action for action in decision.actions if isinstance(action, Start)] == []
