"""Builds one Job for each task. A Job is created once, never changed, and never retried by Kubernetes."""

from controller.executors.kubernetes.names import GPUS_ANNOTATION, QUEUE_LABEL, TASK_ANNOTATION, job_name, labels
from controller.executors.kubernetes.pods import (
    CACHE,
    WEIGHTS,
    WORK,
    WRITABLE,
    Json,
    cache_volume,
    container,
    mount,
    pod_metadata,
    pod_spec,
)
from controller.experiment.profile import Profile, RolePod
from controller.snapshot.types import role_of
from workloads.api.experiment import FrozenExperiment
from workloads.api.tasks import RunnableTask, TrainTask
from workloads.stages.base import Stage
from workloads.stages.registry import stage_named

RENDEZVOUS_PORT = 29400
KEYS = "/etc/potstill/store-keys"
CA_BUNDLE = "/etc/potstill/ca-bundle"
KEY_NAMES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
TOKEN_NAME = "AWS_SESSION_TOKEN"  # noqa: S105 - a name


def build_job(frozen: FrozenExperiment, task: RunnableTask, profile: Profile, owner: Json, namespace: str) -> Json:
    """The Job of a task. `owner`: metav1.OwnerReference of the Experiment. Pure; raises ValueError for no image."""
    stage = stage_named(role_of(task))
    pod = profile.pod_of(stage.profile_part)
    name = job_name(frozen, task)
    spec = _pod_spec(task, stage, pod, profile, name)
    marks = labels(frozen, stage.name)
    nodes = pod.nodes if isinstance(task, TrainTask) else 1
    if nodes > 1:
        spec["subdomain"] = name
    metadata: Json = {
        "name": name,
        "namespace": namespace,
        "labels": {**marks, **({QUEUE_LABEL: pod.queue} if pod.queue else {})},
        "annotations": {TASK_ANNOTATION: task.key, GPUS_ANNOTATION: str(pod.gpus * nodes)},
        "ownerReferences": [owner],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "backoffLimit": 0,
            "completions": nodes,
            "parallelism": nodes,
            "completionMode": "Indexed" if nodes > 1 else "NonIndexed",
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [
                    {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                ]
            },
            "template": {
                "metadata": pod_metadata(pod, marks, {TASK_ANNOTATION: task.key, **_annotations(stage)}),
                "spec": spec,
            },
        },
    }


def build_rendezvous(frozen: FrozenExperiment, task: TrainTask, owner: Json, namespace: str) -> Json:
    """Returns the headless Service by which the pods of a training on several nodes find the first pod."""
    name = job_name(frozen, task)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels(frozen, role_of(task)),
            "ownerReferences": [owner],
        },
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {"batch.kubernetes.io/job-name": name},
            "ports": [{"name": "rendezvous", "port": RENDEZVOUS_PORT}],
        },
    }


def _annotations(stage: Stage) -> dict[str, str]:
    """Prevents AWS's webhook from giving credentials to containers that run untrusted code."""
    untrusted = ",".join(step.name for step in stage.steps if not step.trusted)
    return {"eks.amazonaws.com/skip-containers": untrusted} if untrusted else {}


def _pod_spec(task: RunnableTask, stage: Stage, pod: RolePod, profile: Profile, job: str) -> Json:
    work = stage.work_gib
    if stage.steps:
        return _spec_of_steps(task, stage, pod, profile)
    base: list[Json] = [{"name": "POTSTILL_CACHE", "value": CACHE}, *WRITABLE]
    if profile.weights_claim and stage.mounts_weights:
        base.append({"name": "POTSTILL_WEIGHTS", "value": WEIGHTS})
    if isinstance(task, TrainTask) and (pod.gpus > 1 or pod.nodes > 1):
        command, env = _ranks(task, pod, job)
    else:
        command, env = ["python", "-P", "-m", stage.program, task.key], []
    name = stage.container
    spec = pod_spec(
        pod, profile, [container(name, pod, command, [*base, *env], profile, pod.gpus)], init=[], work_gib=work
    )
    if profile.weights_claim and stage.mounts_weights:
        claim = {"persistentVolumeClaim": {"claimName": profile.weights_claim, "readOnly": True}}
        mount(spec, {name}, "weights", WEIGHTS, claim, read_only=True)
    if profile.cache_claim and stage.reads_base:
        claim = {"persistentVolumeClaim": {"claimName": profile.cache_claim}}
        mount(spec, {name}, "cache", CACHE, claim, read_only=False)
    else:
        mount(spec, {name}, "cache", CACHE, cache_volume(pod, work), read_only=False)
    if stage.reads_base and pod.gpus:
        memory = {"emptyDir": {"medium": "Memory", "sizeLimit": pod.size_limits.shm}}
        mount(spec, {name}, "shm", "/dev/shm", memory, read_only=False)  # noqa: S108
    connect_to_store(spec, {name}, profile)
    return spec


def _spec_of_steps(task: RunnableTask, stage: Stage, pod: RolePod, profile: Profile) -> Json:
    """Adds a container for each step; all but the last are init containers.

    Only trusted containers can reach the store.
    """
    containers = [
        container(
            step.name,
            pod,
            ["python", "-P", "-m", stage.program, task.key, "--step", step.name, "--work", WORK],
            [],
            profile,
            trusted=step.trusted,
        )
        for step in stage.steps
    ]
    spec = pod_spec(pod, profile, containers[-1:], init=containers[:-1], work_gib=stage.work_gib)
    connect_to_store(spec, {step.name for step in stage.steps if step.trusted}, profile)
    return spec


def _ranks(task: TrainTask, pod: RolePod, job: str) -> tuple[list[str], list[Json]]:
    """Runs one process for each GPU and exits with their exit code.

    Over several nodes they meet at the Job's first pod.
    """
    command = ["python", "-P", "-m", "workloads.train.launch", f"--processes={max(1, pod.gpus)}"]
    if pod.nodes == 1:
        return [*command, task.key], []
    command += [
        f"--nodes={pod.nodes}",
        "--node=$(JOB_COMPLETION_INDEX)",
        f"--master={job}-0.{job}:{RENDEZVOUS_PORT}",
        task.key,
    ]
    index = {"fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}}
    return command, [{"name": "JOB_COMPLETION_INDEX", "valueFrom": index}]


def connect_to_store(spec: Json, names: set[str], profile: Profile) -> None:
    """Lets the named containers of a pod reach the store and a model hub: address, keys, CAs, proxy.

    The keys are files (POTSTILL_S3_KEYS), read again for each request. They are environment variables too, for images
    of version 0.1.0, which a live experiment still uses. Without a Secret, the service account has a role (IRSA, Pod
    Identity). Raises ValueError for a profile without a store.
    """
    store = profile.store
    if store is None:
        raise ValueError(f"profile {profile.name} names no store")
    env: list[Json] = [{"name": "POTSTILL_STORE", "value": store.url}]
    optional = {
        "POTSTILL_S3_ENDPOINT": store.endpoint,
        "POTSTILL_S3_ADDRESSING": store.addressing_style,
        "AWS_REGION": store.region,
        "HTTPS_PROXY": profile.proxy and profile.proxy.https,
        "HTTP_PROXY": profile.proxy and profile.proxy.http,
        "NO_PROXY": profile.proxy and profile.proxy.no_proxy,
    }
    env += [{"name": name, "value": value} for name, value in optional.items() if value]
    if store.secret:
        for name in (*KEY_NAMES, TOKEN_NAME):
            reference: Json = {"name": store.secret, "key": name, **({"optional": True} if name == TOKEN_NAME else {})}
            env.append({"name": name, "valueFrom": {"secretKeyRef": reference}})
        env.append({"name": "POTSTILL_S3_KEYS", "value": KEYS})
        mount(spec, names, "store-keys", KEYS, _keys_volume(store.secret), read_only=True)
    if profile.ca_bundle:
        env.append({"name": "POTSTILL_CA_BUNDLE", "value": f"{CA_BUNDLE}/ca.crt"})
        items = [{"key": profile.ca_bundle.key, "path": "ca.crt"}]
        source = {"configMap": {"name": profile.ca_bundle.config_map, "items": items}}
        mount(spec, names, "ca-bundle", CA_BUNDLE, source, read_only=True)
    for part in [*spec.get("initContainers", []), *spec["containers"]]:
        if part["name"] in names:
            part["env"] = [*env, *part["env"]]


def _keys_volume(secret: str) -> Json:
    """Returns only the keys of the Secret that the store needs; the session token if it exists."""
    keys = [{"key": name, "path": name} for name in KEY_NAMES]
    token = [{"key": TOKEN_NAME, "path": TOKEN_NAME}]
    sources = [
        {"secret": {"name": secret, "items": keys}},
        {"secret": {"name": secret, "items": token, "optional": True}},
    ]
    return {"projected": {"defaultMode": 0o440, "sources": sources}}
