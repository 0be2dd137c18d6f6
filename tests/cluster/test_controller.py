"""The controller on a real control plane and a real S3 server; pods' programs really run."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from controller.kubernetes.api import connect
from controller.kubernetes.reflector import Pace
from controller.kubernetes.serve import Controller
from controller.spec.profile import Profile
from tests.cluster.harness import ControlPlane
from tests.cluster.harness.pod_runner import PodRunner, pod_runner
from tests.tools.processes import wait_until
from tests.tools.s3 import S3Server, s3_server
from tests.train.world import sums, write_base, write_rows
from workloads.contract.manifest import Manifest
from workloads.store import Store, open_store

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]
IMAGE = "registry.test/potstill@sha256:" + "0" * 64
PACE = Pace(watch_seconds=60, silent_seconds=75, first_seconds=0.1, longest_seconds=1.0)


@dataclass
class World:
    plane: ControlPlane
    namespace: str
    server: S3Server
    store: Store
    profile: Profile
    folder: Path
    runner: PodRunner

    @property
    def path(self) -> str:
        return f"/apis/potstill.dev/v1alpha1/namespaces/{self.namespace}/experiments"

    def controller(self) -> Controller:
        api = connect(self.plane.kubeconfig())
        return Controller(api, self.store, {"default": self.profile}, self.namespace, pace=PACE, busy_seconds=1.0)

    def get(self, name: str = "tiny") -> dict[str, Any]:
        return self.plane.api.get(f"{self.path}/{name}")

    def condition(self, kind: str, name: str = "tiny") -> dict[str, Any]:
        found = self.get(name).get("status", {}).get("conditions", [])
        return next((c for c in found if c["type"] == kind), {})

    def finished(self, name: str = "tiny", seconds: float = 600) -> dict[str, Any]:
        wait_until(
            lambda: self.condition("Finished", name).get("status") == "True", "the experiment is finished", seconds
        )
        return self.condition("Finished", name)

    def manifest(self, name: str = "tiny") -> Manifest:
        key = self.get(name)["status"]["manifest"].removeprefix(self.store.url.rstrip("/") + "/")
        return Manifest.model_validate_json(self.store.get(key))


def experiment(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "potstill.dev/v1alpha1",
        "kind": "Experiment",
        "metadata": {"name": "tiny"},
        "spec": {
            "base": {"model": "base"},
            "data": {"sums": {"uri": "sums.jsonl"}},
            "training": {"lora": {"rank": 4, "alpha": 8, "target": ["attention"]}, "batchSize": 4},
            "runs": [
                {
                    "name": "one", "data": "sums", "samples": 24, "sequenceTokens": 128,
                    "overlong": "drop", "checkpointEverySamples": 12,
                }
            ],
            "evaluation": {
                "benchmarks": [{"name": "own", "uri": "own.jsonl", "grader": "math"}],
                "budgets": [8, 16],
            },
        }
        | spec,
    }  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def world(
    crd: None, plane: ControlPlane, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    namespace = plane.namespace(labels={"pod-security.kubernetes.io/enforce": "restricted"})
    files = tmp_path / "files"
    write_base(files / "base")
    write_rows(files / "sums.jsonl", sums(40))
    write_rows(files / "own.jsonl", [{"id": f"p{n}", "prompt": f"{n} + {n}", "answer": str(2 * n)} for n in range(4)])
    access = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
    plane.api.post(f"/api/v1/namespaces/{namespace}/secrets", {"metadata": {"name": "store"}, "stringData": access})
    url = f"s3://{server.bucket}/{namespace}"
    pod = {"image": IMAGE, "terminationGraceSeconds": 5}
    profile = Profile.model_validate(
        {
            "engine": {"name": "transformers", "version": version("transformers")}, "directory": str(files),
            "store": {"url": url, "endpoint": server.endpoint, "region": "us-east-1", "secret": "store"},
            "train": pod, "evaluate": pod, "grade": pod, "report": pod,
        }
    )  # fmt: skip
    with pod_runner(plane.api, namespace, tmp_path / "pods") as runner:
        store = open_store(url)
        yield World(plane, namespace, server, store, profile, tmp_path, runner)
        if runner.failures:
            print("\n".join(runner.failures))


@pytest.fixture
def controller(world: World) -> Iterator[Callable[[], Controller]]:
    made: list[Controller] = []

    def start() -> Controller:
        made.append(world.controller())
        made[-1].start()
        return made[-1]

    yield start
    for each in made:
        each.stop()


def test_an_experiment_is_run_from_apply_to_report(world: World, controller: Callable[[], Controller]) -> None:
    controller()
    world.plane.api.post(world.path, experiment())
    assert world.finished()["reason"] == "Succeeded"
    status = world.get()["status"]
    assert (status["training"], status["checkpoints"], status["evaluations"]) == ("1/1", "2/2", "3/3")
    assert [e.state for e in world.manifest().evaluations] == ["done"] * 3
    assert world.condition("Accepted")["status"] == "True"
    report = status["report"].removeprefix(world.store.url.rstrip("/") + "/")
    assert b"<html" in world.store.get(report)


def test_a_wrong_spec_is_refused_with_what_to_change(world: World, controller: Callable[[], Controller]) -> None:
    controller()
    wrong = experiment()
    wrong["spec"]["runs"][0]["data"] = "sum"
    world.plane.api.post(world.path, wrong)
    assert world.finished(seconds=60)["reason"] == "Failed"
    assert "did you mean sums?" in world.condition("Accepted")["message"]
    assert not world.runner.started
