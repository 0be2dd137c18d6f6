"""Jobs as the executor: what is at work is read from watched Jobs and pods, and started with one POST."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from controller.kubernetes.api import MERGE_PATCH, Api, ApiError
from controller.kubernetes.jobs import build_job, build_rendezvous
from controller.kubernetes.names import CLOSED_ANNOTATION, GPUS_ANNOTATION, TASK_ANNOTATION
from controller.kubernetes.reflector import Reflector
from controller.spec.profile import Profile
from controller.view import ExecutorView, Job, Pool, Unknown
from workloads.contract.experiment import FrozenExperiment
from workloads.contract.tasks import Owner, RunnableTask, TrainTask

Json = dict[str, Any]
STALE_SECONDS = 100.0
"""A copy not confirmed for this long says nothing about Jobs. Below decide's YOUNG_SECONDS: no live task is lost."""
KEPT_SECONDS = 3600
"""How long an ended Job stays for people's `kubectl logs`; the log's tail is in the store for good."""


@dataclass(frozen=True)
class Watched:
    """Shared by all experiments of a namespace."""

    jobs: Reflector
    pods: Reflector
    experiments: Reflector

    def stale_seconds(self) -> float:
        return max(self.jobs.stale_seconds, self.pods.stale_seconds, self.experiments.stale_seconds)


class KubernetesExecutor:
    def __init__(
        self, api: Api, watched: Watched, namespace: str, experiment: Json, frozen: FrozenExperiment, profile: Profile
    ) -> None:
        self._api = api
        self._watched = watched
        self._namespace = namespace
        self._experiment = experiment
        self._frozen = frozen
        self._profile = profile

    def view(self) -> ExecutorView | Unknown:
        stale = self._watched.stale_seconds()
        if stale > STALE_SECONDS:
            return Unknown("WatchStale", f"the API server has not confirmed its Jobs for {stale:.0f} s")
        pods = _pods_by_job(self._watched.pods.objects().values())
        jobs = {}
        for (namespace, name), item in self._watched.jobs.objects().items():
            marks = item["metadata"].get("annotations", {})
            if namespace == self._namespace and TASK_ANNOTATION in marks and CLOSED_ANNOTATION not in marks:
                job = job_of(item, pods.get(name, []))
                jobs[job.key] = job
        limits = self._frozen.limits
        pools = (
            Pool(frozenset({"train", "import"}), limits.training_slots),
            Pool(frozenset({"generate"}), limits.evaluation_slots),
            Pool(frozenset({"grade"}), limits.grading_slots),
            Pool(frozenset({"report"}), 1),
        )
        return ExecutorView(jobs, pools=pools)

    def gone(self, owners: Iterable[Owner]) -> frozenset[Owner]:
        """Owners whose Experiment is not there, looked up live: a copy that lags would take work from the living."""
        return frozenset(owner for owner in owners if not self._lives(owner))

    def start(self, task: RunnableTask) -> None:
        """Raises ApiError, ApiUnreachable; ValueError for a profile that names no image."""
        owner = owner_reference(self._experiment)
        job = build_job(self._frozen, task, self._profile, owner, self._namespace)
        if isinstance(task, TrainTask) and self._profile.train.nodes > 1:
            self._post("/api/v1", "services", build_rendezvous(self._frozen, task, owner, self._namespace))
        self._post("/apis/batch/v1", "jobs", job)

    def stop(self, key: str) -> None:
        """Deletes the Job in the foreground: it stays, marked, until its pods have used their grace and gone."""
        self._for_job(key, "DELETE", {"propagationPolicy": "Foreground"})

    def discard(self, key: str) -> None:
        """Marks the ended Job as read, and leaves it to Kubernetes to remove it after a while."""
        body = {
            "metadata": {"annotations": {CLOSED_ANNOTATION: "true"}},
            "spec": {"ttlSecondsAfterFinished": KEPT_SECONDS},
        }
        self._for_job(key, "PATCH", body)

    def _lives(self, owner: Owner) -> bool:
        path = f"/apis/potstill.dev/v1alpha1/namespaces/{self._namespace}/experiments/{owner.experiment}"
        try:
            found = self._api.request("GET", path)
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return str(found["metadata"]["uid"]).startswith(owner.uid8)

    def _post(self, group: str, plural: str, body: Json) -> None:
        """AlreadyExists is success only if it is ours: the same Experiment by UID."""
        path = f"{group}/namespaces/{self._namespace}/{plural}"
        try:
            self._api.request("POST", path, body=body)
        except ApiError as error:
            if error.status != 409:
                raise
            standing = self._api.request("GET", f"{path}/{body['metadata']['name']}")
            uids = [reference["uid"] for reference in standing["metadata"].get("ownerReferences", [])]
            if self._experiment["metadata"]["uid"] not in uids:
                raise

    def _for_job(self, key: str, method: str, body: Json) -> None:
        for (namespace, name), item in self._watched.jobs.objects().items():
            if namespace != self._namespace or item["metadata"].get("annotations", {}).get(TASK_ANNOTATION) != key:
                continue
            path = f"/apis/batch/v1/namespaces/{namespace}/jobs/{name}"
            kind = MERGE_PATCH if method == "PATCH" else "application/json"
            try:
                self._api.request(method, path, body=body, content_type=kind)
            except ApiError as error:
                if error.status != 404:
                    raise


def owner_reference(experiment: Json) -> Json:
    """Jobs go with their Experiment; nothing waits for them."""
    return {
        "apiVersion": experiment["apiVersion"],
        "kind": experiment["kind"],
        "name": experiment["metadata"]["name"],
        "uid": experiment["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": False,
    }


def job_of(item: Json, pods: list[Json]) -> Job:
    """A Job and its pods as decide sees them."""
    metadata, status = item["metadata"], item.get("status", {})
    conditions = {c["type"]: c for c in status.get("conditions", []) if c["status"] == "True"}
    ended = conditions.get("Complete") or conditions.get("Failed")
    ending = metadata.get("deletionTimestamp") or _since(conditions.get("FailureTarget"))
    started = min((start for pod in pods if (start := _started(pod)) is not None), default=None)
    disrupted = next((found for pod in pods if (found := _condition(pod, "DisruptionTarget"))), None)
    phase: Literal["pending", "running", "stopping", "ended"]
    phase = "ended" if ended else "stopping" if ending else "running" if started else "pending"
    failed = conditions.get("Failed") or conditions.get("FailureTarget") or {}
    why = disrupted or failed or _waiting(pods) or {}
    return Job(
        key=metadata["annotations"][TASK_ANNOTATION],
        phase=phase,
        created=_time(metadata["creationTimestamp"]),
        started=started,
        stopping=_time(ending) if ending else None,
        ended=_time(ended["lastTransitionTime"]) if ended else None,
        exit_code=0 if "Complete" in conditions else _exit_code(pods) if ended else None,
        preempted=disrupted is not None and "Complete" not in conditions,
        reason=why.get("reason", ""),
        message=why.get("message", ""),
        gpus=int(metadata["annotations"].get(GPUS_ANNOTATION, "0")),
    )


def _pods_by_job(pods: Iterable[Json]) -> Mapping[str, list[Json]]:
    found: dict[str, list[Json]] = {}
    for pod in pods:
        name = pod["metadata"].get("labels", {}).get("batch.kubernetes.io/job-name")
        if name:
            found.setdefault(name, []).append(pod)
    return found


def _containers(pod: Json) -> list[Json]:
    status = pod.get("status", {})
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


def _started(pod: Json) -> datetime | None:
    times = []
    for state in (container.get("state", {}) for container in _containers(pod)):
        begun = state.get("running", {}).get("startedAt") or state.get("terminated", {}).get("startedAt")
        if begun:
            times.append(_time(begun))
    return min(times, default=None)


def _exit_code(pods: list[Json]) -> int | None:
    """Of the container that failed first; None when nobody saw one (the node went with its pods)."""
    ends = [
        container["state"]["terminated"]
        for pod in pods
        for container in _containers(pod)
        if container.get("state", {}).get("terminated", {}).get("exitCode")
    ]
    first = min(ends, key=lambda end: end.get("finishedAt") or "", default=None)
    return None if first is None else int(first["exitCode"])


def _condition(pod: Json, kind: str) -> Json | None:
    conditions = pod.get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] == kind and c["status"] == "True"), None)


def _waiting(pods: list[Json]) -> Json | None:
    """Why nothing runs yet: an image that does not come, or no node that fits."""
    for pod in pods:
        for container in _containers(pod):
            waiting = container.get("state", {}).get("waiting", {})
            if waiting.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
                return {"reason": waiting["reason"], "message": waiting.get("message", "")}
        for condition in pod.get("status", {}).get("conditions", []):
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                return {"reason": condition.get("reason", ""), "message": condition.get("message", "")}
    return None


def _since(condition: Json | None) -> str | None:
    return condition["lastTransitionTime"] if condition else None


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
