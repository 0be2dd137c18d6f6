"""What one schedule runs on a cluster: a namespace of a real control plane, an S3 server behind proxies, the controller as a
process, and pods, whose real programs run beside the control plane as a kubelet would run them."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import urllib3
import yaml

from controller.executors.kubernetes.acceptance import uid8_of
from tests.cluster.harness import ApiRefusedError, ControlPlane
from tests.cluster.harness.api import Object
from tests.cluster.harness.pod_runner import PodRunner, pod_runner
from tests.cluster.world import profile_of
from tests.faults.lab import STORE_DEADLINE_SECONDS, Lab, Program, fork_environment
from tests.faults.stack import S3, count_markers, is_alive, s3_behind_proxies, started_in
from tests.tools.processes import free_port, wait_until
from workloads.storage.base import Store
from workloads.storage.s3.store import S3Store

NAME = "faulty"
LOOK_SECONDS = 0.3
"""Between two looks at the Experiment."""
ANSWER_SECONDS = 120.0
SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {
        "environment": {"POTSTILL_EVALUATION_PODS": "1", "POTSTILL_LOG_LEVEL": "debug"},
        "profile": {"podLabels": {"team": "other"}, "terminationGraceSeconds": 7},
    },
)
"""The settings of a controller and of the one that replaces it in a `helm upgrade`: variables, and fields of each role's
pods.
"""


@dataclass
class ClusterStack:
    lab: Lab
    plane: ControlPlane
    folder: Path
    namespace: str
    s3: S3
    pods: PodRunner
    controller: Program | None = None
    others: list[Program] = field(default_factory=list)
    runs: int = 0
    """Controllers and commands that were started."""
    settings: int = 0
    """Which of SETTINGS the controller has."""

    @property
    def path(self) -> str:
        return f"/apis/potstill.dev/v1alpha1/namespaces/{self.namespace}/experiments"

    @property
    def url(self) -> str:
        return "s3://lab/store"

    @property
    def store_folder(self) -> Path:
        """Where the store's objects lie as files."""
        return self.folder / "disk" / "s3" / "lab" / "store"

    @property
    def starts(self) -> Path:
        return self.folder / "starts-pods"

    def direct(self) -> Store:
        """The store without the proxies."""
        return S3Store(self.s3.server.client(retries=3), self.s3.server.bucket, "store", 60.0)

    def markers(self) -> int:
        return count_markers(self.store_folder)

    def live(self, module: str = "workloads.") -> list[int]:
        """Processes of running programs in pods."""
        found = started_in(self.starts)
        return [pid for pid, started, _ in found if started.startswith(module) and is_alive(pid)]

    def run_controller(self) -> Program:
        """One more, with the settings of the release as they are now."""
        stated = SETTINGS[self.settings]
        profiles = self.folder / f"profiles-{self.settings}"
        if not profiles.exists():
            profiles.mkdir()
            (profiles / "default.yaml").write_text(json.dumps(self._profile(stated.get("profile", {}))))
        environment = {
            "POTSTILL_PROFILES": str(profiles),
            "POTSTILL_STORE": self.url,
            "POTSTILL_NAMESPACE": self.namespace,
            "POTSTILL_HEALTH_PORT": str(free_port()),
            "POTSTILL_TEST_FASTER": "10",
            **stated.get("environment", {}),
        }
        return self._program("controller", "tests.faults.run_controller", [], environment)

    def potstill(self, *words: str) -> Program:
        return self._program(words[0], "tests.faults.run", list(words), {})

    def _program(self, name: str, module: str, words: list[str], environment: dict[str, str]) -> Program:
        self.runs += 1
        whole = {
            **os.environ,
            **self.s3.server.environment(self.s3.requests.url),
            **fork_environment(self.lab, self.folder / "starts-controllers"),
            "OMP_NUM_THREADS": "1",
            "POTSTILL_STORE_DEADLINE_SECONDS": STORE_DEADLINE_SECONDS,
            "KUBECONFIG": str(self.plane.kubeconfig()),
            **environment,
        }
        return Program(self.lab.forks, module, words, whole, self.folder / f"log-{self.runs:02d}-{name}")

    def _profile(self, of_pods: dict[str, Any]) -> Object:
        made = profile_of(self.lab.files, self.url, self.s3.server)
        stated: Object = made.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"name"})
        stated["store"]["endpoint"] = self.s3.requests.url
        for role in ("train", "evaluate", "grade", "report"):
            stated[role] |= {"env": {"POTSTILL_STORE_DEADLINE_SECONDS": STORE_DEADLINE_SECONDS}, **of_pods}
        return stated

    def apply(self) -> None:
        """Posts the Experiment, as soon as an earlier one of its name is deleted."""
        item = yaml.safe_load(Path(self.lab.spec).read_text())

        def post() -> Object:
            return self.plane.api.post(self.path, item)

        self.answered(post, again=(409,))

    def experiment(self) -> Object | None:
        """Returns the Experiment as the API server has it now; None if it does not exist or the server does not answer."""
        try:
            return self.plane.api.get(f"{self.path}/{NAME}")
        except (ApiRefusedError, urllib3.exceptions.HTTPError):
            return None

    def uid8(self) -> str:
        return uid8_of(self.answered(lambda: self.plane.api.get(f"{self.path}/{NAME}")))

    def answered(self, call: Callable[[], Object], again: tuple[int, ...] = ()) -> Object:
        """Returns the result of `call`, which it repeats while the API server does not answer or answers with `again`."""

        def answer() -> Object | None:
            try:
                return call()
            except urllib3.exceptions.HTTPError:
                return None
            except ApiRefusedError as refused:
                if refused.status < 500 and refused.status not in (429, *again):
                    raise
                return None

        found = wait_until(answer, "an answer of the API server", ANSWER_SECONDS)
        assert found is not None
        return found

    def running_pods(self, role: str) -> list[str]:
        """Names; none while the API server does not answer."""
        path = f"/api/v1/namespaces/{self.namespace}/pods?labelSelector=potstill.dev/role={role}"
        try:
            found = self.plane.api.items(path)
        except (ApiRefusedError, urllib3.exceptions.HTTPError):
            return []
        return [
            pod["metadata"]["name"]
            for pod in found
            if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
        ]

    def jobs(self) -> list[Object]:
        path = f"/apis/batch/v1/namespaces/{self.namespace}/jobs"
        return list(self.answered(lambda: self.plane.api.get(path))["items"])

    def end(self) -> None:
        for program in (self.controller, *self.others):
            if program is not None:
                program.signal(signal.SIGCONT)
                program.signal(signal.SIGKILL)


class ClusterRun:
    """The controller on a stack, as `drive` wants it. The faults are `cluster_faults`'."""

    def __init__(self, stack: ClusterStack) -> None:
        self.stack = stack
        self._looked = 0.0

    def begin(self) -> None:
        self.stack.controller = self.stack.run_controller()
        self.stack.apply()

    def is_over(self) -> bool:
        """A controller that has ended is started again, as by its Deployment."""
        assert self.stack.controller is not None
        if self.stack.controller.poll() is not None:
            self.stack.controller = self.stack.run_controller()
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return False
        self._looked = time.monotonic()
        item = self.stack.experiment() or {}
        conditions = item.get("status", {}).get("conditions", [])
        ended = [one for one in conditions if (one["type"], one["status"]) == ("Finished", "True")]
        assert all(one["reason"] == "Succeeded" for one in ended), f"it failed: {ended}: {item['status']}"
        return bool(ended)

    def work(self) -> int:
        return self.stack.markers() + len(self.stack.pods.started)

    def markers(self) -> int:
        return self.stack.markers()

    def settle(self) -> None:
        for other in self.stack.others:
            other.wait(120)

    def last_words(self) -> str:
        controller = self.stack.controller
        log = controller.log.read_text(errors="replace")[-1500:] if controller else ""
        return f"{(self.stack.experiment() or {}).get('status')}\n{log}"


@contextmanager
def cluster_stack(lab: Lab, plane: ControlPlane, folder: Path) -> Iterator[ClusterStack]:
    """A new one in `folder`, which is empty, and in its own namespace. Its processes end with the block."""
    folder.mkdir(parents=True)
    disk = folder / "disk"
    disk.mkdir()
    with ExitStack() as closing:
        s3 = closing.enter_context(s3_behind_proxies(disk, folder))
        namespace = plane.namespace("faults", {"pod-security.kubernetes.io/enforce": "restricted"})
        keys = {"AWS_ACCESS_KEY_ID": s3.server.access_key, "AWS_SECRET_ACCESS_KEY": s3.server.secret_key}
        plane.api.post(f"/api/v1/namespaces/{namespace}/secrets", {"metadata": {"name": "store"}, "stringData": keys})
        forked = [f"{key}={value}" for key, value in fork_environment(lab, folder / "starts-pods").items()]

        def program(command: list[str]) -> list[str]:
            """A container's command in a fork of the process that has imported torch."""
            assert command[0] == "python", command
            return ["env", *forked, str(lab.client), *command[1:]]

        pods = closing.enter_context(pod_runner(plane.api, namespace, folder / "pods", program))
        made = ClusterStack(lab, plane, folder, namespace, s3, pods)
        closing.callback(made.end)
        yield made
