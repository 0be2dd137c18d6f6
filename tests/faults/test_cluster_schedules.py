"""The controller on a real control plane under drawn faults: every schedule ends in the manifest of an undisturbed run, with
one Job a task. `make soak-cluster` plays many more."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.executors.kubernetes.names import TASK_ANNOTATION
from tests.cluster.harness import ControlPlane
from tests.faults.cluster_faults import FaultyRun
from tests.faults.cluster_play import (
    DEADLINE_SECONDS,
    audited_plane,
    broken_promises,
    cluster_lab,
    play_on_cluster,
)
from tests.faults.cluster_stack import cluster_stack
from tests.faults.drive import Played, drive
from tests.faults.lab import Lab
from tests.faults.schedules import OF_S3, ON_CLUSTER, Fault, Schedule, draw_on_cluster

OF_THE_CLUSTER = Schedule(
    910,
    "s3",
    (
        Fault("create again", after=2, delay_seconds=0.0, lasts_seconds=0.5),
        Fault("API server killed", after=4, delay_seconds=0.0, lasts_seconds=1.0),
        Fault("kill controller", after=8, delay_seconds=0.0, lasts_seconds=0.5),
        Fault("etcd killed", after=12, delay_seconds=0.0, lasts_seconds=1.0),
    ),
)
OF_ITS_WORK = Schedule(
    911,
    "s3",
    (
        Fault("second controller", after=1, delay_seconds=0.0, lasts_seconds=4.0),
        Fault("evict train", after=2, delay_seconds=0.0, lasts_seconds=0.5),
        Fault("S3 answers 5xx", after=6, delay_seconds=0.0, lasts_seconds=2.0),
        Fault("other settings", after=10, delay_seconds=0.0, lasts_seconds=1.0),
    ),
)


def test_a_seed_draws_the_same_schedule_again() -> None:
    assert [draw_on_cluster(seed) for seed in range(40)] == [draw_on_cluster(seed) for seed in range(40)]


def test_two_hundred_schedules_hold_every_kind_of_fault() -> None:
    kinds = {fault.kind for seed in range(200) for fault in draw_on_cluster(seed).faults}
    assert kinds == {*ON_CLUSTER, *OF_S3}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster_lab(tmp_path_factory.mktemp("lab")) as found:
        yield found


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with audited_plane() as plane:
        yield plane


pytestmark = [pytest.mark.timeout(900), pytest.mark.long]


@pytest.mark.cluster
@pytest.mark.slow
def test_a_schedule_ends_in_the_undisturbed_manifest_with_one_job_for_each_task(
    made: Lab, plane: ControlPlane, tmp_path: Path
) -> None:
    played = play_on_cluster(made, OF_THE_CLUSTER, tmp_path / "schedule", plane, keep=True)
    assert played.broken == []
    assert [one.fault for one in played.recoveries if one.seconds is not None], "the faults came while it worked"


@pytest.mark.cluster
@pytest.mark.slow
def test_another_does_too_and_a_damaged_file_and_a_second_job_for_a_task_would_be_found(
    made: Lab, plane: ControlPlane, tmp_path: Path
) -> None:
    with cluster_stack(made, plane, tmp_path / "schedule") as running:
        drive(FaultyRun(running), OF_ITS_WORK, Played(OF_ITS_WORK), DEADLINE_SECONDS)
        assert broken_promises(running, made) == []
        file = next(running.store_folder.glob("units/train/*/attempts/*/checkpoint-*/**/adapter_model.safetensors"))
        file.write_bytes(b"damaged")
        job = next(job for job in running.jobs() if "-train-" in job["metadata"]["name"])
        again = {field: job["metadata"][field] for field in ("labels", "annotations", "ownerReferences")}
        template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "again", "image": "again"}]}}
        path = f"/apis/batch/v1/namespaces/{running.namespace}/jobs"
        body = {"metadata": {"name": "again", **again}, "spec": {"suspend": True, "template": template}}
        plane.api.post(path, body)
        broken = " ".join(broken_promises(running, made))
        assert "adapter_model.safetensors has 7 bytes" in broken
        assert f"2 Jobs were made for {again['annotations'][TASK_ANNOTATION]}" in broken
