"""The executor on Kubernetes: reads the watched Jobs and pods, and starts a task with one POST."""

from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from controller.executors.base import ActionRefused
from controller.executors.kubernetes.api import JSON_TYPE, MERGE_PATCH, Api, ApiError
from controller.executors.kubernetes.informer import Reflector
from controller.executors.kubernetes.job_states import NO_WARNINGS, job_of, weights_of
from controller.executors.kubernetes.jobs import build_job, build_rendezvous
from controller.executors.kubernetes.names import CLOSED_ANNOTATION, KEPT_SECONDS, prefetch_name
from controller.executors.kubernetes.pod_states import PodWarning, needs_warnings
from controller.executors.kubernetes.prefetch import build_prefetch, needs_prefetch
from controller.executors.kubernetes.quota import EvaluationLimit
from controller.executors.kubernetes.refusals import Refusals, is_refusal, message_of
from controller.executors.kubernetes.task_index import JobsByTask, TaskIndex
from controller.executors.kubernetes.warnings import LISTED_SECONDS, Warnings
from controller.experiment.profile import Profile
from controller.planner.actions import Decision
from controller.planner.round import owner_of
from controller.planner.unit_state import STARTING
from controller.snapshot.types import WEIGHTS, Job, JobsSnapshot, Pool, Unknown, Weights
from workloads.api.experiment import FrozenExperiment
from workloads.api.tasks import Owner, RunnableTask, TrainTask
from workloads.stages.registry import stages_of

Json = dict[str, Any]
STALE_SECONDS = 100.0
"""A local copy that was not confirmed for this long is not used.

It is less than START_GRACE_SECONDS, so no live task counts as lost.
"""
SOON_SECONDS = 0.2
"""The pause after a round in which a Job was refused. The next round reports it in the status."""


@dataclass(frozen=True)
class Watched:
    """The watched objects, shared by all experiments of a namespace.

    `wake` asks for a round of an Experiment after some seconds.
    """

    jobs: Reflector
    pods: Reflector
    experiments: Reflector
    limit: EvaluationLimit
    tasks: TaskIndex
    warnings: Warnings
    wake: Callable[[str, float], None]

    @property
    def reflectors(self) -> tuple[Reflector, ...]:
        return (self.jobs, self.pods, self.experiments)

    def stale_seconds(self) -> float:
        return max(reflector.stale_seconds for reflector in self.reflectors)


class KubernetesExecutor:
    """`refused_before`: see JobsSnapshot."""

    def __init__(
        self,
        api: Api,
        watched: Watched,
        namespace: str,
        experiment: Json,
        frozen: FrozenExperiment,
        profile: Profile,
        refusals: Refusals,
        refused_before: datetime | None = None,
    ) -> None:
        self._api = api
        self._watched = watched
        self._namespace = namespace
        self._experiment = experiment
        self._frozen = frozen
        self._profile = profile
        self._refusals = refusals
        self._refused_before = refused_before
        self._have_weights = False
        """Whether the base was on its volume at any time. The Job that downloaded it may have been deleted since."""
        failed = self._prefetch_job()
        self._given_up = failed["metadata"]["uid"] if failed and weights_of(failed, []).state == "failed" else None
        """The UID of a download that failed before this object was made: it is tried again."""

    def view(self) -> JobsSnapshot | Unknown:
        stale = self._watched.stale_seconds()
        if stale > STALE_SECONDS:
            return Unknown("WatchStale", f"the API server has not confirmed its Jobs for {stale:.0f} s")
        known = self._watched.tasks.jobs()
        explained = self._explained(known)
        jobs = ChainMap(explained, cast("MutableMapping[str, Job]", known)) if explained else known
        refused = self._refusals.current()
        if (seconds := self._refusals.seconds_to_next()) is not None:
            self._watched.wake(self._frozen.name, max(SOON_SECONDS, seconds))
        return JobsSnapshot(
            jobs,
            pools=slot_pools(self._frozen),
            weights=self._weights(),
            refused=refused,
            refused_before=self._refused_before,
        )

    def admit(self, view: JobsSnapshot, decide: Callable[[JobsSnapshot], Decision]) -> Decision:
        """Adds the pool that all Experiments of the namespace share, if the namespace has a limit."""
        return self._watched.limit.admit(owner_of(self._frozen), view, decide)

    def gone(self, owners: Iterable[Owner]) -> frozenset[Owner]:
        """Returns the owners whose Experiment does not exist.

        An Experiment that is not in the copy is looked up at the server, because the copy may be late.
        """
        return frozenset(owner for owner in owners if not (self._is_in_copy(owner) or self._lives(owner)))

    def start(self, task: RunnableTask) -> None:
        """Raises ActionRefused (also for a profile that names no image), ApiError, ApiUnreachable."""
        owner = owner_reference(self._experiment)
        try:
            job = build_job(self._frozen, task, self._profile, owner, self._namespace)
            if isinstance(task, TrainTask) and self._profile.train.nodes > 1:
                self._post("/api/v1", "services", build_rendezvous(self._frozen, task, owner, self._namespace))
            self._post("/apis/batch/v1", "jobs", job)
        except ValueError as error:
            raise self._refused(task.key, str(error)) from error
        except ApiError as error:
            if not is_refusal(error):
                raise
            raise self._refused(task.key, message_of(error)) from error
        self._made(task.key)

    def stop(self, key: str) -> None:
        """Deletes the Job in the foreground: the object stays until its pods have ended within their grace period.

        Raises ActionRefused, ApiError, ApiUnreachable.
        """
        self._for_job(key, "DELETE", {"propagationPolicy": "Foreground"})

    def discard(self, key: str) -> None:
        """Marks the ended Job as read, and leaves it to Kubernetes to remove it after a while.

        Raises ActionRefused, ApiError, ApiUnreachable.
        """
        body = {
            "metadata": {"annotations": {CLOSED_ANNOTATION: "true"}},
            "spec": {"ttlSecondsAfterFinished": KEPT_SECONDS},
        }
        self._for_job(key, "PATCH", body)

    def fetch_weights(self) -> None:
        """Creates the Job once for all experiments with this base and volume. A failed Job is deleted first."""
        standing = self._prefetch_job()
        if standing is not None:
            if standing["metadata"]["uid"] != self._given_up:
                return
            self._change(standing, "DELETE", {"propagationPolicy": "Background"})
            return
        owner = owner_reference(self._experiment)
        try:
            job = build_prefetch(self._frozen, self._profile, owner, self._namespace)
            self._api.request("POST", f"/apis/batch/v1/namespaces/{self._namespace}/jobs", body=job)
        except ValueError as error:
            raise self._refused(WEIGHTS, str(error)) from error
        except ApiError as error:
            if error.status != 409 and not is_refusal(error):
                raise
            if error.status != 409:
                raise self._refused(WEIGHTS, message_of(error)) from error
        self._made(WEIGHTS)

    def _weights(self) -> Weights | None:
        if not needs_prefetch(self._frozen.base, self._profile):
            return None
        job = self._prefetch_job()
        if self._have_weights and job is None:
            return Weights("ready")
        refusal = self._refusals.current().get(WEIGHTS)
        if job is None and refusal is not None and datetime.now(UTC) < refusal.retry_at:
            return Weights("arriving", f"their Job was refused: {refusal.message}")
        if job is None or job["metadata"]["uid"] == self._given_up:
            return weights_of(None, [])
        self._made(WEIGHTS)
        pods = self._watched.tasks.pods_of(job["metadata"]["name"])
        weights = weights_of(job, pods, self._warnings(job, pods))
        self._have_weights = self._have_weights or weights.state == "ready"
        return weights

    def _explained(self, jobs: JobsByTask) -> dict[str, Job]:
        """Returns Jobs that have not started for an unknown reason, with the reason from their events."""
        explained = {}
        for key, item, own in self._watched.tasks.open_of(self._frozen.uid8):
            job = jobs.get(key)
            if job is not None and job.phase == "pending" and job.reason == STARTING:
                explained[key] = job_of(item, own, self._warnings(item, own))
        return explained

    def _warnings(self, job: Json, pods: list[Json]) -> Mapping[str, PodWarning]:
        """Returns the events of the namespace if they are needed to explain why a Job does not start.

        The watches send no event when such a reason appears or disappears, so another round is due after some seconds.
        """
        if not needs_warnings(job, pods):
            return NO_WARNINGS
        self._watched.wake(self._frozen.name, LISTED_SECONDS)
        return self._watched.warnings.by_uid()

    def _refused(self, key: str, message: str) -> ActionRefused:
        """Records that a Job was refused, and returns the error to raise."""
        seconds = self._refusals.add(key, message)
        self._watched.wake(self._frozen.name, SOON_SECONDS)
        return ActionRefused(f"{self._namespace}/{self._frozen.name}: {key}: {message}; again in {seconds:.0f} s")

    def _made(self, key: str) -> None:
        if self._refusals.made(key):
            self._watched.wake(self._frozen.name, SOON_SECONDS)

    def _prefetch_job(self) -> Json | None:
        return self._watched.jobs.get(self._namespace, prefetch_name(self._frozen.base, self._profile))

    def _is_in_copy(self, owner: Owner) -> bool:
        experiment = self._watched.experiments.get(self._namespace, owner.experiment)
        return experiment is not None and str(experiment["metadata"]["uid"]).startswith(owner.uid8)

    def _lives(self, owner: Owner) -> bool:
        path = f"/apis/potstill.dev/v1alpha1/namespaces/{self._namespace}/experiments/{owner.experiment}"
        try:
            experiment = self._api.request("GET", path)
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return str(experiment["metadata"]["uid"]).startswith(owner.uid8)

    def _post(self, group: str, plural: str, body: Json) -> None:
        """Treats AlreadyExists as success only if the existing Job belongs to the same Experiment by UID."""
        path = f"{group}/namespaces/{self._namespace}/{plural}"
        try:
            self._api.request("POST", path, body=body)
        except ApiError as error:
            if error.status != 409:
                raise
            try:
                standing = self._api.request("GET", f"{path}/{body['metadata']['name']}")
            except ApiError as absent:
                raise (error if absent.status == 404 else absent) from error  # a quota changed at the same time
            uids = [reference["uid"] for reference in standing["metadata"].get("ownerReferences", [])]
            if self._experiment["metadata"]["uid"] not in uids:
                raise

    def _for_job(self, key: str, method: str, body: Json) -> None:
        item = self._watched.tasks.of_task(key)
        if item is not None:
            self._change(item, method, body)

    def _change(self, item: Json, method: str, body: Json) -> None:
        """Sends DELETE or PATCH for exactly the Job that was seen. A Job that was deleted or replaced is not touched.

        Raises ActionRefused, ApiError, ApiUnreachable.
        """
        uid, name = item["metadata"]["uid"], item["metadata"]["name"]
        path = f"/apis/batch/v1/namespaces/{self._namespace}/jobs/{name}"
        if method == "DELETE":
            body = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}, **body}
        else:
            body = {**body, "metadata": {**body.get("metadata", {}), "uid": uid}}
        try:
            self._api.request(method, path, body=body, content_type=MERGE_PATCH if method == "PATCH" else JSON_TYPE)
        except ApiError as error:
            if error.status in (404, 409) or "metadata.uid" in error.message:
                return
            if not is_refusal(error):
                raise
            raise ActionRefused(f"{method} of Job {self._namespace}/{name}: {message_of(error)}") from error


def owner_reference(experiment: Json) -> Json:
    """Returns the reference by which Kubernetes deletes a Job with its Experiment, without waiting for the Job."""
    return {
        "apiVersion": experiment["apiVersion"],
        "kind": experiment["kind"],
        "name": experiment["metadata"]["name"],
        "uid": experiment["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": False,
    }


def slot_pools(frozen: FrozenExperiment) -> tuple[Pool, ...]:
    """Returns a pool for each stage with slots, shared with the stages that use the same slots."""
    return tuple(
        Pool(
            frozenset(other.name for other in stages_of(frozen) if stage.name in (other.name, other.shares_slots_of)),
            stage.slots(frozen.limits),
        )
        for stage in stages_of(frozen)
        if stage.slots is not None
    )
