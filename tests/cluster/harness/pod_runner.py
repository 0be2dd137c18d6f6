"""Runs pods' real commands as subprocesses, in a control plane that has no nodes.

It does what a kubelet does, without isolation. Containers run in order with the pod's own environment; each pod has a
folder for its volumes.
"""

import os
import signal
import subprocess
import sys
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import urllib3

from tests.cluster.harness.api import Api, ApiRefusedError, Object

POLL_SECONDS = 0.3
MESSAGE_CHARACTERS = 2048
"""The characters of a failed container's log that a kubelet reports with terminationMessagePolicy
FallbackToLogsOnError.
"""
MOUNTS = ("/work", "/cache", "/tmp")
CLAIM = "/weights"
"""Where a volume is mounted that pods share; it is one folder here, whatever its claim."""


class PodRunner:
    """`running` maps pods' names to their processes: a test may kill one as a node would.

    `program`: returns the command to run for a container's command. `volume`: the folder that pods share.
    """

    def __init__(
        self, api: Api, namespace: str, folder: Path, program: Callable[[list[str]], list[str]] = list
    ) -> None:
        self._program = program
        self._api = api
        self._namespace = namespace
        self._folder = folder
        self.volume = folder / "volume"
        self._seen: set[str] = set()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.started: list[str] = []
        self.failures: list[str] = []

    def watch(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            try:
                pods = self._api.items(f"/api/v1/namespaces/{self._namespace}/pods")
            except (ApiRefusedError, urllib3.exceptions.HTTPError):
                continue
            living = {pod["metadata"]["name"] for pod in pods if not pod["metadata"].get("deletionTimestamp")}
            for name, process in list(self.running.items()):
                if name not in living and process.poll() is None:
                    process.send_signal(signal.SIGTERM)
            for pod in pods:
                name = pod["metadata"]["name"]
                if name in living and name not in self._seen and pod["status"].get("phase") == "Pending":
                    self._seen.add(name)
                    thread = threading.Thread(target=self._run, args=(pod,), daemon=True)
                    thread.start()
                    self._threads.append(thread)

    def stop(self) -> None:
        self._stop.set()
        for process in list(self.running.values()):
            process.kill()
        for thread in self._threads:
            thread.join(10)

    def _run(self, pod: Object) -> None:
        name, spec = pod["metadata"]["name"], pod["spec"]
        self.started.append(name)
        folder = self._folder / name
        for mount in MOUNTS:
            (folder / mount.strip("/")).mkdir(parents=True, exist_ok=True)
        self.volume.mkdir(exist_ok=True)
        ended: list[Object] = []
        containers = [*spec.get("initContainers", []), *spec["containers"]]
        begun = _now()
        for container in containers:
            first = container is containers[0]
            if first:
                self._tell(pod, "Running", [_status(container, {"running": {"startedAt": begun}})], spec)
            code = self._execute(name, container, folder, spec)
            said = (folder / f"{container['name']}.log").read_text(errors="replace")[-MESSAGE_CHARACTERS:]
            ended.append(
                _status(container, {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed",
                                                   "startedAt": begun, "finishedAt": _now(),
                                                   "message": said if code else ""}})
            )  # fmt: skip
            if code:
                break
        failed = ended[-1]["state"]["terminated"]["exitCode"]
        self._tell(pod, "Failed" if failed else "Succeeded", ended, spec)

    def _execute(self, name: str, container: Object, folder: Path, spec: Object) -> int:
        command = [str(folder / word.strip("/")) if word in MOUNTS else word for word in container["command"]]
        command = self._program(command)
        command[0] = sys.executable if command[0] == "python" else command[0]
        log = folder / f"{container['name']}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(command, env=self._environment(container, folder, spec), stdout=out, stderr=out)
            self.running[name] = process
            code = process.wait()
        if code:
            self.failures.append(f"{name}/{container['name']}: {code}: {log.read_text()[-2000:]}")
        return code if code >= 0 else 128 - code

    def _environment(self, container: Object, folder: Path, spec: Object) -> dict[str, str]:
        """Returns the container's own variables, and of this process's only those with which Python finds its modules."""
        found = {
            "PATH": os.environ["PATH"],
            "OMP_NUM_THREADS": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "TMPDIR": str(folder / "tmp"),
            "HOME": str(folder / "work"),
        }
        files = self._mounted_files(container, folder, spec)
        for variable in container.get("env", []):
            value = variable.get("value")
            if value is None:
                reference = variable["valueFrom"]["secretKeyRef"]
                value = self._secret(reference["name"]).get(reference["key"])
                if value is None and reference.get("optional"):
                    continue
                assert value is not None, f"CreateContainerConfigError: {reference}"
            for path, here in files.items():
                value = str(here) + value.removeprefix(path) if value.startswith(path) else value
            place = self.volume if value == CLAIM else folder / value.strip("/")
            found[variable["name"]] = str(place) if value in (*MOUNTS, CLAIM) else value
        return found

    def _mounted_files(self, container: Object, folder: Path, spec: Object) -> dict[str, Path]:
        """The container's projected Secrets and its ConfigMaps as files here, by the path of their mount."""
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        found = {}
        for mount in container.get("volumeMounts", []):
            volume = volumes[mount["name"]]
            sources = volume.get("projected", {}).get("sources", [])
            if "configMap" in volume:
                sources = [{"configMap": volume["configMap"]}]
            if not sources:
                continue
            here = found[mount["mountPath"]] = folder / "mounted" / mount["name"]
            here.mkdir(parents=True, exist_ok=True)
            for source in sources:
                [(kind, stated)] = source.items()
                data = self._secret(stated["name"]) if kind == "secret" else self._config_map(stated["name"])
                for item in stated["items"]:
                    if item["key"] in data:
                        (here / item["path"]).write_text(data[item["key"]])
                    else:
                        assert stated.get("optional"), f"FailedMount: {stated['name']} has no {item['key']}"
        return found

    def _secret(self, name: str) -> dict[str, str]:
        path = f"/api/v1/namespaces/{self._namespace}/secrets/{name}"
        data = self._until_answered(lambda: self._api.get(path))["data"]
        return {key: b64decode(value).decode() for key, value in data.items()}

    def _config_map(self, name: str) -> dict[str, str]:
        path = f"/api/v1/namespaces/{self._namespace}/configmaps/{name}"
        data: dict[str, str] = self._until_answered(lambda: self._api.get(path))["data"]
        return data

    def _tell(self, pod: Object, phase: str, statuses: list[Object], spec: Object) -> None:
        initial = {container["name"] for container in spec.get("initContainers", [])}
        status = {
            "phase": phase,
            "startTime": _now(),
            "initContainerStatuses": [s for s in statuses if s["name"] in initial],
            "containerStatuses": [s for s in statuses if s["name"] not in initial],
        }
        path = f"/api/v1/namespaces/{self._namespace}/pods/{pod['metadata']['name']}/status"
        try:
            self._until_answered(lambda: self._api.patch(path, {"status": status}, kind="strategic-merge-patch"))
        except ApiRefusedError as refused:
            if refused.status != 404:
                raise

    def _until_answered(self, call: Callable[[], Object]) -> Object:
        """Calls until the API server answers, as a kubelet does, and returns the answer.

        Raises ApiRefusedError for an answer that will not change.
        """
        while True:
            try:
                return call()
            except urllib3.exceptions.HTTPError:
                if self._stop.wait(POLL_SECONDS):
                    raise
            except ApiRefusedError as refused:
                if (refused.status < 500 and refused.status != 429) or self._stop.wait(POLL_SECONDS):
                    raise


def _status(container: Object, state: Object) -> Object:
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": state,
    }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextmanager
def pod_runner(
    api: Api, namespace: str, folder: Path, program: Callable[[list[str]], list[str]] = list
) -> Iterator[PodRunner]:
    runner = PodRunner(api, namespace, folder, program)
    thread = threading.Thread(target=runner.watch, daemon=True)
    thread.start()
    try:
        yield runner
    finally:
        runner.stop()
        thread.join(10)
