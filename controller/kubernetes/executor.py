"""Jobs as the executor: what is at work is read from watched Jobs and pods, and started with one POST."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from controller.decide.actions import Decision
from controller.decide.standing import owner_of
from controller.kubernetes.api import JSON_TYPE, MERGE_PATCH, Api, ApiError
from controller.kubernetes.jobs import build_job, build_rendezvous
from controller.kubernetes.limit import EvaluationLimit
from controller.kubernetes.names import CLOSED_ANNOTATION, prefetch_name
from controller.kubernetes.prefetch import build_prefetch, needs_prefetch
from controller.kubernetes.reflector import Reflector
from controller.kubernetes.seen import weights_of
from controller.kubernetes.task_index import TaskIndex
from controller.spec.profile import Profile
from controller.view import ExecutorView, Pool, Unknown, Weights
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
    limit: EvaluationLimit
    tasks: TaskIndex

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
        failed = self._prefetch_job()
        self._given_up = failed["metadata"]["uid"] if failed and weights_of(failed, []).state == "failed" else None
        """A fetch that failed before this experiment was taken up: it is tried again."""

    def view(self) -> ExecutorView | Unknown:
        stale = self._watched.stale_seconds()
        if stale > STALE_SECONDS:
            return Unknown("WatchStale", f"the API server has not confirmed its Jobs for {stale:.0f} s")
        jobs = self._watched.tasks.jobs()
        limits = self._frozen.limits
        pools = (
            Pool(frozenset({"train", "import"}), limits.training_slots),
            Pool(frozenset({"generate"}), limits.evaluation_slots),
            Pool(frozenset({"grade"}), limits.grading_slots),
            Pool(frozenset({"report"}), 1),
        )
        return ExecutorView(jobs, pools=pools, weights=self._weights())

    def admit(self, view: ExecutorView, decide: Callable[[ExecutorView], Decision]) -> Decision:
        """With the pool that all Experiments of the namespace share, where it has a limit."""
        return self._watched.limit.admit(owner_of(self._frozen), view, decide)

    def gone(self, owners: Iterable[Owner]) -> frozenset[Owner]:
        """Owners whose Experiment is not there.

        One that the copy does not hold is looked up live: a copy that lags would take work from the living.
        """
        return frozenset(owner for owner in owners if not (self._is_in_copy(owner) or self._lives(owner)))

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

    def fetch_weights(self) -> None:
        """Posts the Job, once for all experiments of this base and volume; one that failed before makes way first."""
        standing = self._prefetch_job()
        if standing is not None:
            if standing["metadata"]["uid"] != self._given_up:
                return
            path = f"/apis/batch/v1/namespaces/{self._namespace}/jobs/{standing['metadata']['name']}"
            self._request_of_what_may_be_gone("DELETE", path, {"propagationPolicy": "Background"})
            return
        owner = owner_reference(self._experiment)
        job = build_prefetch(self._frozen, self._profile, owner, self._namespace)
        try:
            self._api.request("POST", f"/apis/batch/v1/namespaces/{self._namespace}/jobs", body=job)
        except ApiError as error:
            if error.status != 409:
                raise

    def _weights(self) -> Weights | None:
        if not needs_prefetch(self._frozen.base, self._profile):
            return None
        job = self._prefetch_job()
        if job is None or job["metadata"]["uid"] == self._given_up:
            return weights_of(None, [])
        return weights_of(job, self._watched.tasks.pods_of(job["metadata"]["name"]))

    def _prefetch_job(self) -> Json | None:
        return self._watched.jobs.get(self._namespace, prefetch_name(self._frozen.base, self._profile))

    def _is_in_copy(self, owner: Owner) -> bool:
        found = self._watched.experiments.get(self._namespace, owner.experiment)
        return found is not None and str(found["metadata"]["uid"]).startswith(owner.uid8)

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
        item = self._watched.tasks.of_task(key)
        if item is not None:
            path = f"/apis/batch/v1/namespaces/{self._namespace}/jobs/{item['metadata']['name']}"
            self._request_of_what_may_be_gone(method, path, body)

    def _request_of_what_may_be_gone(self, method: str, path: str, body: Json) -> None:
        kind = MERGE_PATCH if method == "PATCH" else JSON_TYPE
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
