"""A namespace in which Potstill is installed as users install it: by helm, from the chart, with images by digest."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.node.images import REPOSITORY
from tests.node.node import Node
from tests.node.s3 import PORT, ClusterS3
from tests.tools.processes import wait_until
from tests.tools.programs import program
from workloads.api.manifest import Manifest

RELEASE = "potstill"
POD_USER = 65532
CHART = REPOSITORY / "charts" / "potstill"
CRDS = REPOSITORY / "charts" / "potstill-crds"
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/experiments.potstill.dev"


class Lab:
    def __init__(self, node: Node, s3: ClusterS3, image: Callable[[str], str], folder: Path) -> None:
        self.node = node
        self.s3 = s3
        self.namespace = node.plane.namespace("lab", {"pod-security.kubernetes.io/enforce": "restricted"})
        self._kubeconfig = node.plane.kubeconfig()
        self._values = folder / "values.json"
        names = ("controller", "train", "evaluate", "grade")
        images = {name: image(name) for name in names}
        self._values.write_text(json.dumps(self._values_of(images)))

    def install(self, chart: Path = CHART, *flags: str) -> None:
        keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        literals = [f"--from-literal={key}={self.s3.environment()[key]}" for key in keys]
        self.kubectl("create", "secret", "generic", "store", *literals)
        if not self.node.plane.api.exists(CRD):
            self.helm("install", "potstill-crds", str(CRDS))
        self._release("install", chart, *flags)

    def upgrade(self, chart: Path = CHART, *flags: str) -> None:
        self._release("upgrade", chart, *flags)

    def _release(self, verb: str, chart: Path, *flags: str) -> None:
        stated = (f"--values={self._values}", *flags)
        self.helm(verb, RELEASE, str(chart), *stated, "--wait", "--timeout=5m")

    def helm(self, *words: str) -> str:
        environment = os.environ | {"KUBECONFIG": str(self._kubeconfig)}
        command = [str(program("helm")), "--namespace", self.namespace, *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"helm {' '.join(words)}: {done.stderr}\n{self.controller_log()}"
        return done.stdout

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        return self.node.plane.kubectl(*words, namespace=self.namespace, stdin=stdin)

    def controller_log(self) -> str:
        selector = "-l=app.kubernetes.io/component=controller"
        return self.kubectl("logs", selector, "--tail=60", "--ignore-errors")

    def experiment(self, name: str = "quickstart") -> dict[str, Any]:
        path = f"/apis/potstill.dev/v1alpha1/namespaces/{self.namespace}/experiments/{name}"
        return self.node.plane.api.get(path)

    def pods(self, program_name: str) -> list[str]:
        """Returns the names of the running pods whose main container runs a program: train, evaluate, compare."""
        pods = self.node.plane.api.items(f"/api/v1/namespaces/{self.namespace}/pods")
        return [
            pod["metadata"]["name"]
            for pod in pods
            if pod["status"]["phase"] == "Running"
            and "deletionTimestamp" not in pod["metadata"]
            and pod["spec"]["containers"][0]["name"] == program_name
        ]

    def wait_for_pod(self, program_name: str, deadline_seconds: float = 1800) -> str:
        return wait_until(lambda: self.pods(program_name), f"a pod that runs {program_name}", deadline_seconds)[0]

    def wait_finished(self, name: str = "quickstart", deadline_seconds: int = 3000) -> str:
        """Waits for the condition Finished and returns its reason."""

        def reason() -> str:
            conditions = self.experiment(name).get("status", {}).get("conditions", [])
            return next(
                (str(one["reason"]) for one in conditions if (one["type"], one["status"]) == ("Finished", "True")), ""
            )

        return wait_until(reason, f"{name} is finished", deadline_seconds)

    def make_weights_volume(self, folder: Path) -> None:
        """Creates the claim `weights`, for a folder of the node."""
        os.chown(folder, POD_USER, POD_USER)
        size = {"storage": "1Gi"}
        shared = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
        volume = {"capacity": size, "hostPath": {"path": str(folder), "type": "Directory"}, **shared}
        claim = {"resources": {"requests": size}, "volumeName": self.namespace, **shared}
        self.node.plane.api.post("/api/v1/persistentvolumes", {"metadata": {"name": self.namespace}, "spec": volume})
        path = f"/api/v1/namespaces/{self.namespace}/persistentvolumeclaims"
        self.node.plane.api.post(path, {"metadata": {"name": "weights"}, "spec": claim})

    def upload(self, folder: Path, prefix: str) -> str:
        """Uploads the folder's files to this lab's store. Returns the URL of the prefix."""
        for path in folder.iterdir():
            self.s3.client().upload_file(str(path), "lab", f"{self.namespace}/{prefix}/{path.name}")
        return f"s3://lab/{self.namespace}/{prefix}"

    def read(self, key: str) -> bytes:
        """Returns the content of an object of this lab's store."""
        body: bytes = self.s3.client().get_object(Bucket="lab", Key=f"{self.namespace}/{key}")["Body"].read()
        return body

    def keys(self, prefix: str) -> list[str]:
        whole = f"{self.namespace}/{prefix}"
        pages = self.s3.client().get_paginator("list_objects_v2").paginate(Bucket="lab", Prefix=whole)
        return [item["Key"].removeprefix(f"{self.namespace}/") for page in pages for item in page.get("Contents", [])]

    def results_folder(self, name: str = "quickstart") -> str:
        return f"experiments/{name}/{self.experiment(name)['metadata']['uid'].replace('-', '')[:8]}"

    def manifest(self, name: str = "quickstart") -> Manifest:
        return Manifest.model_validate_json(self.read(f"{self.results_folder(name)}/manifest.json"))

    def _values_of(self, images: dict[str, str]) -> dict[str, Any]:
        def pod(name: str) -> dict[str, Any]:
            return {"image": images[name], "env": {"OMP_NUM_THREADS": "1"}, "terminationGraceSeconds": 60}

        profile = {
            "engine": {"name": "transformers", "version": version("transformers"), "dtype": "float32"},
            "directory": "/examples",
            "allowUnsandboxed": True,
            "trainingSlots": 1,
            "evaluationSlots": 1,
            "train": pod("train"),
            "evaluate": pod("evaluate"),
            "grade": pod("grade"),
            "report": pod("controller"),
        }
        return {
            "image": {"reference": images["controller"]},
            "store": {
                "url": f"s3://lab/{self.namespace}",
                "endpoint": self.s3.endpoint,
                "region": "us-east-1",
                "secret": "store",
            },
            "networkPolicies": {"storePort": PORT},
            "profiles": {"default": profile},
        }


@contextmanager
def lab(node: Node, s3: ClusterS3, image: Callable[[str], str], folder: Path) -> Iterator[Lab]:
    """A lab that is not yet installed. If a test in it fails, its state is printed."""
    made = Lab(node, s3, image, folder)
    try:
        yield made
    except BaseException:
        print(made.kubectl("get", "pexp,jobs,pods,events", "-o", "wide"))
        print(made.controller_log())
        raise
