"""Builds the Job that downloads a base to the profile's weights volume before a GPU is requested. Pure."""

from controller.executors.kubernetes.jobs import connect_to_store
from controller.executors.kubernetes.names import KEPT_SECONDS, labels, prefetch_name
from controller.executors.kubernetes.pods import (
    CACHE,
    WEIGHTS,
    WRITABLE,
    Json,
    cache_volume,
    container,
    mount,
    pod_metadata,
    pod_spec,
)
from controller.experiment.profile import Profile
from workloads.api.experiment import FrozenExperiment
from workloads.api.records import NO_RETRY
from workloads.api.tasks import ModelSource
from workloads.storage.registry import is_in_store

RETRIES = 4
WORK_GIB = 4


def needs_prefetch(base: ModelSource, profile: Profile) -> bool:
    """Returns whether a Job must download the base. A base at a path is in an image or on the volume already."""
    is_remote = base.location.startswith("hub://") or is_in_store(base.location)
    return profile.weights_claim is not None and is_remote


def build_prefetch(frozen: FrozenExperiment, profile: Profile, owner: Json, namespace: str) -> Json:
    """Builds the Job. It writes only weights, so Kubernetes may retry it; it resumes the download."""
    pod, base = profile.report, frozen.base
    name, marks = prefetch_name(base, profile), labels(frozen, "prefetch")
    env: list[Json] = [
        {"name": "POTSTILL_WEIGHTS", "value": WEIGHTS},
        {"name": "POTSTILL_CACHE", "value": CACHE},
        *WRITABLE,
        {"name": "HF_HUB_OFFLINE", "value": "0"},
    ]
    command = ["python", "-P", "-m", "workloads.prefetch", base.location, base.content]
    spec = pod_spec(pod, profile, [container("prefetch", pod, command, env, profile)], init=[], work_gib=WORK_GIB)
    claim = {"persistentVolumeClaim": {"claimName": profile.weights_claim}}
    mount(spec, {"prefetch"}, "weights", WEIGHTS, claim, read_only=False)
    mount(spec, {"prefetch"}, "cache", CACHE, cache_volume(pod, WORK_GIB), read_only=False)
    connect_to_store(spec, {"prefetch"}, profile)
    wrong = {"containerName": "prefetch", "operator": "In", "values": sorted(map(int, NO_RETRY))}
    rules = [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": wrong},
    ]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace, "labels": marks, "ownerReferences": [owner]},
        "spec": {
            "backoffLimit": RETRIES,
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": rules},
            "template": {"metadata": pod_metadata(pod, marks, {}), "spec": spec},
        },
    }
