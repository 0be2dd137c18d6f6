"""Builds the pods of one role. They comply with the PodSecurity level `restricted`."""

from typing import Any

from controller.experiment.profile import Profile, RolePod

USER = 65532
"""Numeric, because runAsNonRoot is checked by number. It is the images' own user."""
WORK = "/work"
CACHE = "/cache"
WEIGHTS = "/weights"
GPU_RESOURCE = "nvidia.com/gpu"

Json = dict[str, Any]
WRITABLE: list[Json] = [{"name": name, "value": WORK} for name in ("HOME", "TMPDIR")]
"""Resume states and adapters pass through temporary files, of tens of GB for trained experts; /tmp is small."""


def container(
    name: str,
    pod: RolePod,
    command: list[str],
    env: list[Json],
    profile: Profile,
    gpus: int = 0,
    *,
    trusted: bool = True,
) -> Json:
    """Builds a container with a read-only root. It can write only to WORK, CACHE and /tmp, which have limits and are
    deleted with the pod.

    `trusted`: it gets the platform's extra variables and volumes. The container that runs candidates' code is not
    trusted.
    """
    if pod.image is None:
        raise ValueError(f"profile {profile.name} names no image for {name}")
    built: Json = {
        "name": name,
        "image": pod.image,
        "command": command,
        "env": [
            *env,
            *({"name": key, "value": value} for key, value in sorted(pod.env.items())),
            *(pod.extra_env if trusted else []),
        ],
        "resources": resources(pod, gpus),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the container's own
            {"name": "work", "mountPath": WORK},
            *(pod.volume_mounts if trusted else []),
        ],
    }
    if pod.image_pull_policy:
        built["imagePullPolicy"] = pod.image_pull_policy
    return built


def resources(pod: RolePod, gpus: int) -> Json:
    """Returns the profile's resources, with the GPUs as a limit (requests follow for extended resources)."""
    merged: Json = {key: dict(value) for key, value in pod.resources.items()}
    if gpus:
        merged.setdefault("limits", {})[GPU_RESOURCE] = str(gpus)
    return merged


def pod_metadata(pod: RolePod, labels: dict[str, str], annotations: dict[str, str]) -> Json:
    """Returns the metadata of a Job's pods: the platform's labels and annotations, overridden by Potstill's own."""
    found = {"labels": {**pod.pod_labels, **labels}, "annotations": {**pod.pod_annotations, **annotations}}
    return {key: value for key, value in found.items() if value}


def pod_spec(pod: RolePod, profile: Profile, containers: list[Json], *, init: list[Json], work_gib: int) -> Json:
    """Builds a pod that runs once. A pod that reads weights mounts the profile's claim read-only.

    `work_gib`: the size of /work if the profile states none.
    """
    spec: Json = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": pod.termination_grace_seconds,
        "containers": containers,
        "volumes": [
            {"name": "tmp", "emptyDir": {"sizeLimit": pod.size_limits.tmp}},
            {"name": "work", "emptyDir": {"sizeLimit": pod.size_limits.work or f"{work_gib}Gi"}},
            *pod.volumes,
        ],
    }
    if init:
        spec["initContainers"] = init
    optional = {
        "nodeSelector": pod.node_selector,
        "tolerations": pod.tolerations,
        "affinity": pod.affinity,
        "topologySpreadConstraints": pod.topology_spread_constraints,
        "priorityClassName": pod.priority_class_name,
        "runtimeClassName": pod.runtime_class_name,
        "serviceAccountName": pod.service_account_name or profile.service_account_name,
        "imagePullSecrets": [{"name": name} for name in profile.image_pull_secrets],
    }
    spec.update({key: value for key, value in optional.items() if value})
    return spec


def cache_volume(pod: RolePod, work_gib: int) -> Json:
    """Returns a cache volume that is deleted with the pod."""
    return {"emptyDir": {"sizeLimit": pod.size_limits.cache or pod.size_limits.work or f"{work_gib}Gi"}}


def mount(spec: Json, container_names: set[str], name: str, path: str, source: Json, *, read_only: bool) -> None:
    """Adds a volume to the pod and mounts it in the named containers."""
    spec["volumes"].append({"name": name, **source})
    for built in [*spec.get("initContainers", []), *spec["containers"]]:
        if built["name"] in container_names:
            built["volumeMounts"].append({"name": name, "mountPath": path, "readOnly": read_only})
