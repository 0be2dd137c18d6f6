"""Writes the statuses of pods in place of a kubelet, in a control plane without nodes."""

from tests.cluster.harness.api import Api, Object

STARTED = "2026-01-01T00:00:00Z"


def pods_of_job(api: Api, namespace: str, job: str) -> list[Object]:
    """Returns the existing pods of the Job, the oldest first."""
    found = api.items(f"/api/v1/namespaces/{namespace}/pods?labelSelector=batch.kubernetes.io/job-name={job}")
    return sorted(found, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))


def run_pod(api: Api, pod: Object) -> None:
    """Writes that the pod's containers have started."""
    _set_status(api, pod, {"phase": "Running", "startTime": STARTED, "conditions": [_condition("Ready", "True")]})


def wait_pod(api: Api, pod: Object, reason: str, message: str) -> None:
    """Writes that the main container does not start, with the kubelet's reason, such as ImagePullBackOff."""
    name, image = pod["spec"]["containers"][0]["name"], pod["spec"]["containers"][0]["image"]
    state = {"waiting": {"reason": reason, "message": message}}
    told = {"name": name, "image": image, "imageID": "", "ready": False, "restartCount": 0, "state": state}
    _set_status(api, pod, {"phase": "Pending", "startTime": STARTED, "containerStatuses": [told]})


def refuse_pod(api: Api, pod: Object, reason: str, message: str) -> None:
    """Writes that the kubelet refuses the pod (UnexpectedAdmissionError), or evicts it for its own limits (Evicted)."""
    _set_status(api, pod, {"phase": "Failed", "startTime": STARTED, "reason": reason, "message": message})


def end_pod(
    api: Api, pod: Object, exit_code: int, reason: str = "", init_container: str = "", message: str = ""
) -> None:
    """Writes that the pod's main container (or the named init container) has ended.

    `reason`: the kubelet's reason, such as OOMKilled. `message`: the termination message, or the end of the log if the
    program wrote none.
    """
    ended = {"exitCode": exit_code, "reason": reason or ("Error" if exit_code else "Completed"), "message": message}
    spec = pod["spec"]
    if init_container:
        containers, field = spec["initContainers"], "initContainerStatuses"
        containers = [container for container in containers if container["name"] == init_container]
    else:
        containers, field = spec["containers"], "containerStatuses"
    statuses = [
        {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": False,
            "restartCount": 0,
            "state": {"terminated": ended},
        }
        for container in containers
    ]
    _set_status(api, pod, {"phase": "Failed" if exit_code else "Succeeded", "startTime": STARTED, field: statuses})


def disrupt_pod(api: Api, pod: Object, reason: str = "EvictionByEvictionAPI") -> None:
    """It was evicted, preempted (PreemptionByScheduler) or its node went away (DeletionByTaintManager)."""
    disruption = _condition("DisruptionTarget", "True", reason)
    _set_status(api, pod, {"phase": "Failed", "startTime": STARTED, "conditions": [disruption]})


def _condition(kind: str, status: str, reason: str = "") -> Object:
    return {"type": kind, "status": status, "reason": reason, "lastTransitionTime": STARTED}


def _set_status(api: Api, pod: Object, status: Object) -> None:
    metadata = pod["metadata"]
    path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status"
    api.patch(path, {"status": status}, kind="strategic-merge-patch")
