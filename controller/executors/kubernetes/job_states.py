"""Converts Jobs and pods of Kubernetes to the Job records that `decide` reads. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from controller.executors.kubernetes.names import GPUS_ANNOTATION, TASK_ANNOTATION
from controller.executors.kubernetes.pod_states import PodCause, PodWarning, end_cause, last_words, pending_cause
from controller.snapshot.types import Job, Weights

Json = dict[str, Any]


NO_WARNINGS: Mapping[str, PodWarning] = {}
"""Events by the UID of the object that they are about."""


def job_of(item: Json, pods: list[Json], warnings: Mapping[str, PodWarning] = NO_WARNINGS) -> Job:
    """Returns the record of a Job and its pods."""
    metadata, status = item["metadata"], item.get("status", {})
    conditions = {c["type"]: c for c in status.get("conditions", []) if c["status"] == "True"}
    ended = conditions.get("Complete") or conditions.get("Failed")
    ending = metadata.get("deletionTimestamp") or _since(conditions.get("FailureTarget"))
    started = min((start for pod in pods if (start := _started(pod)) is not None), default=None)
    phase: Literal["pending", "running", "stopping", "ended"]
    phase = "ended" if ended else "stopping" if ending else "running" if started else "pending"
    cause: PodCause | None = None
    if phase == "pending":
        cause = pending_cause(item, pods, warnings)
    elif "Complete" not in conditions and (ended or ending):
        cause = end_cause(item, pods)
    return Job(
        key=metadata["annotations"][TASK_ANNOTATION],
        phase=phase,
        created=_time(metadata["creationTimestamp"]),
        started=started,
        stopping=_time(ending) if ending else None,
        ended=_time(ended["lastTransitionTime"]) if ended else None,
        exit_code=0 if "Complete" in conditions else _exit_code(pods) if ended else None,
        preempted=cause is not None and cause.from_cluster,
        reason=cause.reason if cause else "",
        message=cause.message if cause else "",
        gpus=int(metadata["annotations"].get(GPUS_ANNOTATION, "0")),
    )


def weights_of(item: Json | None, pods: list[Json], warnings: Mapping[str, PodWarning] = NO_WARNINGS) -> Weights:
    """Returns the state of the Job that downloads a base to its volume."""
    if item is None:
        return Weights("absent", "they are not on their volume yet")
    name = item["metadata"]["name"]
    conditions = {c["type"] for c in item.get("status", {}).get("conditions", []) if c["status"] == "True"}
    if "Complete" in conditions:
        return Weights("ready")
    if "Failed" in conditions:
        cause = end_cause(item, pods)
        description = _last_words(pods) or (cause.message if cause else "see its log")
        return Weights("failed", f"Job {name} failed: {description}")
    if any(_started(pod) for pod in pods):
        return Weights("arriving", f"Job {name}")
    cause = pending_cause(item, pods, warnings)
    return Weights("arriving", f"Job {name}: {cause.reason}: {cause.message}")


def _last_words(pods: list[Json]) -> str:
    """Returns the last line that the last pod to end printed."""
    ends = [c["state"]["terminated"] for pod in pods for c in _containers(pod) if "terminated" in c.get("state", {})]
    last: Json = max(ends, key=lambda end: end.get("finishedAt") or "", default={})
    return last_words(last.get("message", ""))


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
    """Returns the exit code of the container that failed first; None if it is unknown (the node was lost with its
    pods).
    """
    ends = [
        container["state"]["terminated"]
        for pod in pods
        for container in _containers(pod)
        if container.get("state", {}).get("terminated", {}).get("exitCode")
    ]
    first = min(ends, key=lambda end: end.get("finishedAt") or "", default=None)
    return None if first is None else int(first["exitCode"])


def _since(condition: Json | None) -> str | None:
    return condition["lastTransitionTime"] if condition else None


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
