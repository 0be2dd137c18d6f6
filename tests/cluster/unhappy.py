"""Makes experiments that do not run, or not well, on a real control plane, and writes the page with their statuses.

`python -m tests.cluster.unhappy docs/unhappy.md` makes each, waits until its status says why, and writes what people see.
etcd, API server, scheduler, Job controller and S3 server are real. There is no kubelet: this program writes the statuses
of pods (ImagePullBackOff, OOMKilled, Evicted ...), word for word as kubelets write them.
"""

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from controller.cli import app
from controller.executors.kubernetes.namespace_controller import Controller
from tests.cluster.harness import ControlPlane, control_plane
from tests.cluster.harness.api import Object
from tests.cluster.harness.pod_runner import PodRunner
from tests.cluster.harness.pods import end_pod, pods_of_job, refuse_pod, wait_pod
from tests.cluster.world import World, experiment, profile_of, serve_experiments, write_files
from tests.tools.processes import wait_until
from tests.tools.s3 import S3Server, s3_server
from workloads.storage.base import open_store

SECONDS = 240.0
IMAGE_SAYS = 'Back-off pulling image "registry.test/potstill": ErrImagePull: failed to authorize: 401 Unauthorized'
EVICTED_SAYS = 'Usage of EmptyDir volume "work" exceeds the limit "100Gi". '
GPU_SAYS = "Allocate failed due to no healthy devices present; cannot allocate unhealthy devices nvidia.com/gpu"


@dataclass
class Place:
    """A namespace with a controller. `change` alters the profile before the controller starts."""

    world: World
    controllers: list[Controller] = field(default_factory=list)

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.world.namespace}"

    def start(self) -> None:
        self.controllers.append(self.world.controller())
        self.controllers[-1].start()

    def stop(self) -> None:
        while self.controllers:
            self.controllers.pop().stop()

    def apply(self, **spec: Any) -> None:
        """One training, and one evaluation of each of its checkpoints; none of the base."""
        benchmarks = [{"name": "own", "uri": "own.jsonl", "grader": "math", "base": "none"}]
        evaluation = {"benchmarks": benchmarks, "budgets": [8, 16]}
        self.world.plane.api.post(self.world.path, experiment(evaluation=evaluation, **spec))

    def jobs(self) -> list[Object]:
        return self.world.plane.api.items(f"/apis/batch/v1/namespaces/{self.world.namespace}/jobs")

    def job(self) -> Object:
        """The training's, once it is there."""
        return wait_until(self.jobs, "the training's Job", SECONDS)[0]

    def pod(self) -> Object:
        name = self.job()["metadata"]["name"]
        return wait_until(lambda: pods_of_job(self.world.plane.api, self.world.namespace, name), "its pod", SECONDS)[0]

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.world.get().get("status", {})
        return found


@dataclass(frozen=True)
class Case:
    """`prepare` comes before the controller and the Experiment, `happen` after. `says`: in the condition's message."""

    name: str
    title: str
    condition: str
    reason: str
    says: tuple[str, ...]
    prepare: Callable[[Place], None] = lambda _: None
    happen: Callable[[Place], None] = lambda _: None
    spec: dict[str, Any] = field(default_factory=dict)

    def is_told(self, place: Place) -> bool:
        found = place.world.condition(self.condition)
        return found.get("reason") == self.reason and all(words in found["message"] for words in self.says)


def _quota(resource: str) -> Callable[[Place], None]:
    """None of this resource may be made."""

    def prepare(place: Place) -> None:
        body = {"metadata": {"name": "team"}, "spec": {"hard": {resource: "0"}}}
        path = f"{place.path}/resourcequotas"
        _api(place).post(path, body)
        wait_until(lambda: _api(place).get(f"{path}/team").get("status", {}).get("hard"), "the quota is kept", SECONDS)

    return prepare


def deny_jobs(place: Place, unless: str, message: str) -> None:
    """Makes a ValidatingAdmissionPolicy for the Jobs of the namespace. `unless`: the CEL rule that a Job must meet."""
    group, name = "/apis/admissionregistration.k8s.io/v1", f"cost-center-{place.world.namespace}"
    labels = {"kubernetes.io/metadata.name": place.world.namespace}
    rule = {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
    check = {"expression": unless, "message": message}
    policy = {"failurePolicy": "Fail", "matchConstraints": {"resourceRules": [rule]}, "validations": [check]}
    selected = {"namespaceSelector": {"matchLabels": labels}}
    binding = {"policyName": name, "validationActions": ["Deny"], "matchResources": selected}
    api = place.world.plane.api
    api.post(f"{group}/validatingadmissionpolicies", {"metadata": {"name": name}, "spec": policy})
    api.post(f"{group}/validatingadmissionpolicybindings", {"metadata": {"name": name}, "spec": binding})
    probe = {
        "metadata": {"name": "probe"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "b"}]}}},
    }

    def refuses() -> bool:
        answer = api.refusal("POST", f"/apis/batch/v1/namespaces/{place.world.namespace}/jobs?dryRun=All", probe)
        return answer is not None and message in answer.message

    wait_until(refuses, "the policy is in force", SECONDS)


def _policy(place: Place) -> None:
    message = "every Job needs the label cost-center; see wiki/costs"
    deny_jobs(place, "has(object.metadata.labels) && 'cost-center' in object.metadata.labels", message)


def _in_queue(place: Place) -> None:
    train = place.world.profile.train.model_copy(update={"queue": "gpu"})
    place.world.profile = place.world.profile.model_copy(update={"train": train})


def _suspend_job(place: Place) -> None:
    job = place.job()
    path = f"/apis/batch/v1/namespaces/{place.world.namespace}/jobs/{job['metadata']['name']}"
    place.world.plane.api.patch(path, {"spec": {"suspend": True}})


def _with_memory(place: Place) -> None:
    resources = {"limits": {"memory": "16Gi"}}
    train = place.world.profile.train.model_copy(update={"resources": resources})
    place.world.profile = place.world.profile.model_copy(update={"train": train})


def _with_service_account(place: Place) -> None:
    train = place.world.profile.train.model_copy(update={"service_account_name": "trainer"})
    place.world.profile = place.world.profile.model_copy(update={"train": train})


def _limit_range(place: Place) -> None:
    _with_memory(place)
    limits = [{"type": "Container", "max": {"memory": "1Gi"}}]
    place.world.plane.api.post(f"{place.path}/limitranges", {"metadata": {"name": "small"}, "spec": {"limits": limits}})


def _other_store(place: Place) -> None:
    """Once the Experiment is accepted and has a training, the release is upgraded to another store."""
    place.job()
    wait_until(lambda: place.status().get("store"), "the Experiment is accepted", SECONDS)
    place.stop()
    place.world.controller_store = open_store(place.world.store.url + "-new")
    place.start()


def _api(place: Place) -> Any:
    return place.world.plane.api


CASES = (
    Case(
        "job-quota", "The namespace's quota of Jobs is used up", "Progressing", "JobRefused",
        ("exceeded quota: team", "uses up no attempt"), prepare=_quota("count/jobs.batch"),
    ),
    Case(
        "policy", "An admission policy refuses the Job", "Progressing", "JobRefused",
        ("every Job needs the label cost-center",), prepare=_policy,
    ),
    Case(
        "image", "The image cannot be pulled", "Progressing", "ImagePullBackOff",
        ("401 Unauthorized", "train.image and imagePullSecrets of the profile"),
        happen=lambda place: wait_pod(_api(place), place.pod(), "ImagePullBackOff", IMAGE_SAYS),
    ),
    Case("no-node", "No node takes the pod", "Progressing", "Unschedulable", ("no nodes available",)),
    Case(
        "pod-quota", "The namespace's quota of pods is used up", "Progressing", "FailedCreate",
        ("0 of 1 pod made", "exceeded quota: team"), prepare=_quota("pods"),
    ),
    Case(
        "queue", "Kueue has the Job wait", "Progressing", "Queued", ("Kueue's queue gpu",),
        prepare=_in_queue, happen=_suspend_job,
    ),
    Case(
        "memory", "The training uses more memory than it may", "TrainingComplete", "Failed",
        ("OOMKilled", "memory limit of 16Gi", "train.resources.limits.memory of the profile"),
        prepare=_with_memory, happen=lambda place: end_pod(_api(place), place.pod(), 137, "OOMKilled"),
        spec={"limits": {"attempts": 1}},
    ),
    Case(
        "disk", "The training writes more than its disk", "TrainingComplete", "Failed",
        ("attempt 1: Evicted", 'volume "work" exceeds the limit "100Gi"', "raise train.sizeLimits.work"),
        happen=lambda place: refuse_pod(_api(place), place.pod(), "Evicted", EVICTED_SAYS),
    ),
    Case(
        "crash", "The training crashes before it can say why", "TrainingComplete", "Failed",
        ("container train exited with 1: ImportError: libcuda.so.1",),
        happen=lambda place: end_pod(
            _api(place), place.pod(), 1, message="Traceback ...\nImportError: libcuda.so.1: cannot open shared object\n"
        ),
        spec={"limits": {"attempts": 1}},
    ),
    Case("store", "The release has another store than before", "Ready", "StoreChanged", ("it does not run",), happen=_other_store),
)  # fmt: skip
MORE = (
    Case(
        "service-account", "The service account does not exist", "Progressing", "FailedCreate",
        ('serviceaccount "trainer" not found',), prepare=_with_service_account,
    ),
    Case(
        "limit-range", "A LimitRange allows less", "Progressing", "FailedCreate", ("maximum memory usage per Container is 1Gi",),
        prepare=_limit_range,
    ),
    Case(
        "start", "The container cannot be started", "TrainingComplete", "Failed", ("could not be started: exec: python", "train.image"),
        happen=lambda place: end_pod(_api(place), place.pod(), 128, "StartError", message="exec: python: not found"),
        spec={"limits": {"attempts": 1}},
    ),
)  # fmt: skip


@contextmanager
def place(plane: ControlPlane, server: S3Server, folder: Path) -> Iterator[Place]:
    """Its environment must have the server's keys, for this process is the controller."""
    namespace = plane.namespace(labels={"pod-security.kubernetes.io/enforce": "restricted"})
    files = folder / "files"
    write_files(files)
    url = f"s3://{server.bucket}/{namespace}"
    profile = profile_of(files, url, server)
    runner = PodRunner(plane.api, namespace, folder)
    made = Place(World(plane, namespace, server, open_store(url), profile, folder, runner))
    try:
        yield made
    finally:
        made.stop()


def make(case: Case, where: Place) -> None:
    """Makes the Experiment and waits until its status says what is wrong."""
    case.prepare(where)
    where.start()
    where.apply(**case.spec)
    case.happen(where)
    wait_until(lambda: case.is_told(where), f"{case.name}: {case.condition} says {case.reason}", SECONDS)


def captured(case: Case, where: Place) -> str:
    """A section of the page: kubectl get, describe from its status on, and potstill show."""
    world = where.world
    names = ["-n", world.namespace, "--kubeconfig", str(world.plane.kubeconfig())]
    described = world.plane.kubectl("describe", "pexp", "tiny", namespace=world.namespace)
    shown = CliRunner().invoke(app, ["show", "tiny", *names], env={"COLUMNS": "200"}).stdout
    texts = {
        "kubectl get pexp": world.plane.kubectl("get", "pexp", namespace=world.namespace),
        "kubectl describe pexp tiny, from Status": described[described.index("Status:") :],
        "potstill show tiny": shown,
    }
    blocks = "".join(f"`{command}`:\n\n```\n{_plain(text, world)}\n```\n\n" for command, text in texts.items())
    return f"## {case.title}\n\n{blocks}"


def _plain(text: str, world: World) -> str:
    """Returns the text without the names that differ in each run."""
    text = text.replace(world.server.bucket, "lab").replace(world.namespace, "team")
    return "\n".join(line.rstrip() for line in re.sub(r"127\.0\.0\.1:\d+", "s3.test", text).strip().splitlines())


HEAD = """# Experiments that do not run

The output of `kubectl` and `potstill show` for ten experiments that cannot run. `python -m tests.cluster.unhappy
docs/unhappy.md` writes this page. Control plane, scheduler, Job controller and S3 server are real. There is no kubelet: the
program writes the status that a kubelet would give a pod.

"""


def main(page: Path) -> None:
    with tempfile.TemporaryDirectory() as name, s3_server(Path(name) / "s3") as server, control_plane() as plane:
        os.environ.update(server.environment())
        serve_experiments(plane)
        sections = []
        for case in CASES:
            folder = Path(name) / case.name
            folder.mkdir()
            with place(plane, server, folder) as where:
                make(case, where)
                sections.append(captured(case, where))
                print(f"{case.name}: {where.world.condition(case.condition)['message']}", flush=True)
    page.write_text(HEAD + "".join(sections).rstrip() + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
