"""Jobs and pods, as Kubernetes tells of them, read as decide wants them. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal

from controller.kubernetes.names import GPUS_ANNOTATION, TASK_ANNOTATION
from controller.view import Job, Weights

Json = dict[str, Any]


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


def weights_of(item: Json | None, pods: list[Json]) -> Weights:
    """How far the Job that brings a base to its volume is."""
    if item is None:
        return Weights("absent", "they are not on their volume yet")
    name = item["metadata"]["name"]
    conditions = {c["type"] for c in item.get("status", {}).get("conditions", []) if c["status"] == "True"}
    if "Complete" in conditions:
        return Weights("ready")
    if "Failed" in conditions:
        return Weights("failed", f"Job {name} failed: {_last_words(pods) or 'see its log'}")
    waiting = _waiting(pods)
    return Weights("arriving", f"Job {name}" + (f": {waiting['reason']}: {waiting['message']}" if waiting else ""))


def _last_words(pods: list[Json]) -> str:
    """The last line of what the pod that ended last had printed."""
    ends = [c["state"]["terminated"] for pod in pods for c in _containers(pod) if "terminated" in c.get("state", {})]
    last: Json = max(ends, key=lambda end: end.get("finishedAt") or "", default={})
    return next((line for line in reversed(last.get("message", "").splitlines()) if line.strip()), "")


def pods_by_job(pods: Iterable[Json]) -> Mapping[str, list[Json]]:
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
