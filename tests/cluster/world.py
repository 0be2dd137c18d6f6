"""An S3 server, a namespace, a profile and files: what the controller's tests run experiments in."""

import json
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from controller.crd import experiment_crd
from controller.executors.kubernetes.api import CONTROLLER, connect
from controller.executors.kubernetes.informer import Pace
from controller.executors.kubernetes.namespace_controller import Controller
from controller.executors.kubernetes.namespace_lease import LeasePace
from controller.experiment.profile import Profile
from tests.cluster.harness import ApiRefusedError, ControlPlane
from tests.cluster.harness.pod_runner import PodRunner
from tests.tools.processes import wait_until
from tests.tools.s3 import S3Server
from tests.train.world import sums, write_base, write_rows
from workloads.api.manifest import Manifest
from workloads.storage.base import Store

IMAGE = "registry.test/potstill@sha256:" + "0" * 64
PACE = Pace(watch_seconds=60, silent_seconds=75, first_seconds=0.1, longest_seconds=1.0)


LEASE = LeasePace(duration_seconds=6, renew_seconds=1.0, look_seconds=0.3)
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@dataclass
class World:
    plane: ControlPlane
    namespace: str
    server: S3Server
    store: Store
    profile: Profile
    folder: Path
    runner: PodRunner
    controller_store: Store | None = None
    """Where controllers reach the store by another way than the test and the pods do."""
    kubeconfig: Path | None = None
    """The same of the API server."""
    evaluation_pods: int = 0
    busy_seconds: float = 1.0
    release: str = "potstill"

    @property
    def path(self) -> str:
        return f"/apis/potstill.dev/v1alpha1/namespaces/{self.namespace}/experiments"

    def controller(self) -> Controller:
        api = connect(self.kubeconfig or self.plane.kubeconfig(), agent=CONTROLLER)
        store = self.controller_store or self.store
        return Controller(
            api,
            store,
            {"default": self.profile},
            self.namespace,
            pace=PACE,
            busy_seconds=self.busy_seconds,
            evaluation_pods=self.evaluation_pods,
            release=self.release,
            lease_pace=LEASE,
        )

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


def serve_experiments(plane: ControlPlane) -> None:
    """Makes the kind Experiment and waits until it is served."""
    plane.api.post(DEFINITIONS, experiment_crd())
    wait_until(lambda: _is_served(plane), "experiments are served")


def _is_served(plane: ControlPlane) -> bool:
    """Returns whether the server serves Experiments. After a new CRD it answers 404, then 429, and describes it later."""
    status = plane.api.get(f"{DEFINITIONS}/experiments.potstill.dev")["status"]
    if "Established" not in {c["type"] for c in status.get("conditions") or [] if c["status"] == "True"}:
        return False
    with suppress(ApiRefusedError):
        plane.api.get("/apis/potstill.dev/v1alpha1/experiments")
        return "Experiment" in json.dumps(plane.api.get("/openapi/v3/apis/potstill.dev/v1alpha1"))
    return False


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


def write_files(folder: Path) -> None:
    """A tiny base, 40 sums to learn, a benchmark of four."""
    write_base(folder / "base")
    write_rows(folder / "sums.jsonl", sums(40))
    write_rows(folder / "own.jsonl", [{"id": f"p{n}", "prompt": f"{n} + {n}", "answer": str(2 * n)} for n in range(4)])


def profile_of(files: Path, url: str, server: S3Server) -> Profile:
    pod = {"image": IMAGE, "terminationGraceSeconds": 5}
    return Profile.model_validate(
        {
            "engine": {"name": "transformers", "version": version("transformers")}, "directory": str(files),
            "store": {"url": url, "endpoint": server.endpoint, "region": "us-east-1", "secret": "store"},
            "train": pod, "evaluate": pod, "grade": pod, "report": pod,
        }
    )  # fmt: skip
