"""Finds why a Job's pods ended or do not start, from messages of the kubelet and the scheduler, and says what to
change. Pure.

Sources: terminated and waiting states of containers (https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/),
`status.reason` that a kubelet gives a pod that it refuses or evicts, and the condition DisruptionTarget.
"""

import re
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from controller.executors.kubernetes.names import QUEUE_LABEL, ROLE_LABEL
from controller.experiment.profile import SizeLimits
from controller.planner.unit_state import STARTING
from workloads.stages.registry import STAGES
from workloads.stages.report import REPORT
from workloads.untrusted import one_line
from workloads.words import count_of

Json = dict[str, Any]
ERROR = "Error"
"""The container's reason that only says that its program failed."""
CREATING = frozenset({"PodInitializing", "ContainerCreating"})
SHOWN_CHARACTERS = 300


@dataclass(frozen=True)
class PodCause:
    """`from_cluster`: the cluster ended or refused the pod, so that no attempt is used up."""

    reason: str
    message: str
    from_cluster: bool = False


@dataclass(frozen=True)
class PodWarning:
    """The last Warning event of an object."""

    reason: str
    message: str


def end_cause(job: Json, pods: Sequence[Json]) -> PodCause | None:
    """Returns why a Job ended without completing. None if its pods give no reason, and its own is too general.

    The message begins with the reason, except for the reason `Error`.
    """
    found = (
        _first(_over_limit(pod, job) for pod in pods)
        or _first(_disruption(pod) for pod in pods)
        or _first(_refusal(pod) for pod in pods)
        or _container_end(job, pods)
        or _job_end(job)
    )
    if found is None or found.reason == ERROR:
        return found
    return replace(found, message=f"{found.reason}: {found.message}")


def pending_cause(job: Json, pods: Sequence[Json], warnings: Mapping[str, PodWarning]) -> PodCause:
    """Returns why no container of a Job runs yet."""
    metadata, spec = job["metadata"], job.get("spec", {})
    if spec.get("suspend") or _condition(job, "Suspended"):
        queue = metadata.get("labels", {}).get(QUEUE_LABEL)
        if queue:
            return PodCause("Queued", f"waits in Kueue's queue {queue}; `kubectl get workloads` shows why")
        return PodCause(
            "JobSuspended", "its Job is suspended, and Potstill did not do that: see spec.suspend of the Job"
        )
    if waiting := _first(_waiting(pod, job) for pod in pods):
        return waiting
    wanted, made = spec.get("parallelism") or 1, len(pods)
    if made < wanted:
        said = warnings.get(str(metadata.get("uid")))
        if said is not None:
            return PodCause(said.reason, f"{made} of {count_of(wanted, 'pod')} made: {_shown(said.message)}")
        if not pods:
            return PodCause(STARTING, "its pod is not made yet")
    for pod in pods:
        warning = warnings.get(str(pod["metadata"].get("uid")))
        if warning is not None:
            return PodCause(warning.reason, f"its pod does not start: {_shown(warning.message)}")
    node = next((pod["spec"]["nodeName"] for pod in pods if pod.get("spec", {}).get("nodeName")), None)
    return PodCause(STARTING, f"its pod is being started on {node}" if node else "its pod has no node yet")


def needs_warnings(job: Json, pods: Sequence[Json]) -> bool:
    """Returns whether only events can explain why no container of the Job runs: a pod is not made, or is stuck on its
    node.
    """
    spec, status = job.get("spec", {}), job.get("status", {})
    over = any(c["status"] == "True" and c["type"] in ("Complete", "Failed") for c in status.get("conditions", []))
    if over or spec.get("suspend") or job["metadata"].get("deletionTimestamp"):
        return False
    started = any(state.keys() & {"running", "terminated"} for pod in pods for _, state in _states(pod))
    return not started and _first(_waiting(pod, job) for pod in pods) is None


def last_words(message: str) -> str:
    """Returns the last line of a termination message that is not empty, truncated and printable."""
    return next((_shown(line) for line in reversed(message.splitlines()) if line.strip()), "")


def _over_limit(pod: Json, job: Json) -> PodCause | None:
    """Returns the cause if the pod was evicted because it exceeded its own storage limits.

    None otherwise, also if its node had too little disk.
    """
    status = pod.get("status", {})
    message = status.get("message", "")
    if status.get("reason") != "Evicted" or _condition(pod, "DisruptionTarget") or message.startswith("The node"):
        return None
    volume = re.match(r'Usage of EmptyDir volume "(\w+)"', message)
    if volume and volume[1] in SizeLimits.model_fields:
        claims = "or set the profile's weightsClaim and cacheClaim so that weights are not stored in the pod, "
        remedy = f"raise {_part(job)}.sizeLimits.{volume[1]} of the profile, "
        remedy += f"{claims if volume[1] == 'cache' else ''}or write less"
    elif message.startswith("Usage of EmptyDir"):
        remedy = "raise the volume's sizeLimit in the profile, or write less"
    else:
        remedy = f"raise {_part(job)}.resources.limits.ephemeral-storage of the profile, or write less"
    last_message = _shown(message).rstrip(". ")
    return PodCause("Evicted", f"{last_message}; the same pod would be evicted again: {remedy}")


def _disruption(pod: Json) -> PodCause | None:
    found = _condition(pod, "DisruptionTarget")
    if found is None:
        return None
    message = found.get("message") or pod.get("status", {}).get("message") or "the pod was disrupted"
    return PodCause(found.get("reason") or "Disrupted", _shown(message), from_cluster=True)


def _refusal(pod: Json) -> PodCause | None:
    """Returns the reason in the pod's status if its kubelet refused or ended the pod, or its node was lost.

    For example UnexpectedAdmissionError, OutOfcpu, NodeLost.
    """
    status = pod.get("status", {})
    reason = status.get("reason")
    if not reason or status.get("phase") not in ("Failed", "Unknown", None):
        return None
    message = _shown(status.get("message") or f"its pod ended with {reason}")
    return PodCause(reason, message, from_cluster=reason != "DeadlineExceeded")


def _container_end(job: Json, pods: Iterable[Json]) -> PodCause | None:
    """Returns the cause of the first failure of a container.

    Of several that failed in the same second, it takes one whose reason is not `Error`.
    """
    ends = [
        (state["terminated"], name, pod)
        for pod in pods
        for name, state in _states(pod)
        if state.get("terminated", {}).get("exitCode")
    ]
    if not ends:
        return None
    end, name, pod = min(ends, key=lambda one: (one[0].get("finishedAt") or "", one[0].get("reason") in (None, ERROR)))
    reason, last_message = end.get("reason") or ERROR, last_words(end.get("message", ""))
    spec: Json = next((c for c in _containers(pod) if c["name"] == name), {})
    part = _part(job)
    match reason:
        case "OOMKilled":
            limit = spec.get("resources", {}).get("limits", {}).get("memory")
            used = f"it used more than its memory limit of {limit}" if limit else "the memory of its node was used up"
            field = f"raise {part}.resources.limits.memory" if limit else f"set {part}.resources.requests.memory"
            remedy = f"{field} of the profile, or use less (smaller batches, fewer tokens)"
            return PodCause(reason, f"container {name} was killed: {used}; {remedy}")
        case "StartError" | "ContainerCannotRun" | "ContainerCannotStart":
            detail = f": {last_message}" if last_message else ""
            image = spec.get("image", "its image")
            return PodCause(
                reason, f"container {name} could not be started{detail}; check {image}, {part}.image of the profile"
            )
        case "ContainerStatusUnknown":
            return PodCause(
                reason,
                f"the node lost container {name}: {last_message or 'how it ended is not known'}",
                from_cluster=True,
            )
    detail = f": {last_message}" if last_message else ""
    return PodCause(reason, f"container {name} {_described(int(end['exitCode']))}{detail}")


def _job_end(job: Json) -> PodCause | None:
    """Returns the cause in the Job's own conditions if it is a disruption or a deadline, else None."""
    found = _condition(job, "Failed") or _condition(job, "FailureTarget")
    if found is None:
        return None
    message = _shown(found.get("message", ""))
    if found.get("reason") == "PodFailurePolicy" and "DisruptionTarget" in message:
        return PodCause("Disrupted", message, from_cluster=True)
    if found.get("reason") == "DeadlineExceeded":
        return PodCause("DeadlineExceeded", message)
    return None


def _waiting(pod: Json, job: Json) -> PodCause | None:
    """Returns why a pod does not start: an image cannot be pulled, a Secret does not exist, or no node fits."""
    for _, state in _states(pod):
        waiting = state.get("waiting", {})
        reason = waiting.get("reason")
        if reason is not None and reason not in CREATING:
            message = _shown(waiting.get("message") or "the kubelet gives no message")
            if "Image" in reason:
                message += f"; check {_part(job)}.image and imagePullSecrets of the profile"
            return PodCause(reason, message)
    scheduled = next((c for c in _conditions(pod) if c["type"] == "PodScheduled" and c["status"] == "False"), None)
    if scheduled is None:
        return None
    return PodCause(scheduled.get("reason") or "Unschedulable", _shown(scheduled.get("message", "")))


def _part(job: Json) -> str:
    """Returns the part of the profile with the image and resources of the Job's pods.

    The Job that downloads weights belongs to no stage and has those of `report`.
    """
    stage = STAGES.get(job["metadata"].get("labels", {}).get(ROLE_LABEL, ""), REPORT)
    return stage.profile_part


def _states(pod: Json) -> list[tuple[str, Json]]:
    """Returns (name, state) of each container, init containers first."""
    status = pod.get("status", {})
    found = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    return [(container.get("name", "main"), container.get("state", {})) for container in found]


def _containers(pod: Json) -> list[Json]:
    spec = pod.get("spec", {})
    return [*spec.get("initContainers", []), *spec.get("containers", [])]


def _conditions(item: Json) -> list[Json]:
    found: list[Json] = item.get("status", {}).get("conditions", [])
    return found


def _condition(item: Json, kind: str) -> Json | None:
    return next((c for c in _conditions(item) if c["type"] == kind and c["status"] == "True"), None)


def _described(code: int) -> str:
    return f"was killed by signal {code - 128}" if code - 128 in signal.valid_signals() else f"exited with {code}"


def _shown(text: str) -> str:
    return one_line(text, SHOWN_CHARACTERS)


def _first(causes: Iterable[PodCause | None]) -> PodCause | None:
    return next((cause for cause in causes if cause is not None), None)
