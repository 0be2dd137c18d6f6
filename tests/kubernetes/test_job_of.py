"""Jobs and pods of Kubernetes are converted to the records that `decide` reads."""

from datetime import UTC, datetime
from typing import Any

import pytest

from controller.executors.kubernetes.job_states import job_of, weights_of

Json = dict[str, Any]
T0, T1, T2 = ("2026-02-16T09:00:00Z", "2026-02-16T09:01:00Z", "2026-02-16T09:02:00Z")


def job(*conditions: Json, **metadata: Any) -> Json:
    annotations = {"potstill.dev/task": "units/train/ab/tasks/1.json", "potstill.dev/gpus": "8"}
    return {
        "metadata": {"creationTimestamp": T0, "annotations": annotations, **metadata},
        "status": {"conditions": list(conditions)},
    }


def condition(kind: str, status: str = "True", **told: str) -> Json:
    return {"type": kind, "status": status, "lastTransitionTime": T2, **told}


def pod(*containers: Json, conditions: tuple[Json, ...] = (), init: tuple[Json, ...] = ()) -> Json:
    return {
        "metadata": {},
        "status": {
            "containerStatuses": list(containers),
            "initContainerStatuses": list(init),
            "conditions": list(conditions),
        },
    }


def running(since: str = T1) -> Json:
    return {"state": {"running": {"startedAt": since}}}


def ended(code: int, at: str = T2) -> Json:
    return {"state": {"terminated": {"exitCode": code, "startedAt": T1, "finishedAt": at}}}


def waiting(reason: str, message: str = "") -> Json:
    return {"state": {"waiting": {"reason": reason, "message": message}}}


FAILED = condition("Failed", reason="BackoffLimitExceeded", message="too many")
TARGET = condition("FailureTarget", reason="PodFailurePolicy", message="matched")
DISRUPTED = condition("DisruptionTarget", reason="EvictionByEvictionAPI", message="node is drained")
UNSCHEDULABLE = condition("PodScheduled", "False", reason="Unschedulable", message="0/3 nodes are available")


@pytest.mark.parametrize(
    ("item", "pods", "phase"),
    [
        (job(), [], "pending"),
        (job(), [pod(conditions=(UNSCHEDULABLE,))], "pending"),
        (job(), [pod(waiting("ContainerCreating"))], "pending"),
        (job(), [pod(running())], "running"),
        (job(), [pod(waiting("PodInitializing"), init=(running(),))], "running"),
        (job(), [pod(ended(0))], "running"),
        (job(deletionTimestamp=T1), [pod(running())], "stopping"),
        (job(TARGET), [pod(running())], "stopping"),
        (job(condition("Complete")), [pod(ended(0))], "ended"),
        (job(FAILED), [pod(ended(1))], "ended"),
        (job(condition("Failed", "False")), [pod(running())], "running"),
        (job(condition("Suspended")), [], "pending"),
    ],
)  # fmt: skip
def test_a_jobs_phase(item: Json, pods: list[Json], phase: str) -> None:
    assert job_of(item, pods).phase == phase


def test_times_and_gpus_are_read() -> None:
    seen = job_of(job(FAILED), [pod(ended(3))])
    assert (seen.created, seen.started, seen.ended) == tuple(datetime(2026, 2, 16, 9, n, tzinfo=UTC) for n in range(3))
    assert (seen.key, seen.gpus) == ("units/train/ab/tasks/1.json", 8)


@pytest.mark.parametrize(
    ("pods", "code"),
    [
        ([pod(ended(11))], 11),
        ([pod(ended(0), ended(137))], 137),
        ([pod(ended(9, T2)), pod(ended(13, T1))], 13),
        ([pod(init=(ended(0), ended(10)))], 10),
        ([], None),
        ([pod(running())], None),
    ],
    ids=["its own", "not the one that ended well", "the first of two nodes", "of an init container", "no pod", "never seen"],
)  # fmt: skip
def test_a_failed_jobs_exit_code(pods: list[Json], code: int | None) -> None:
    assert job_of(job(FAILED), pods).exit_code == code


def test_a_complete_job_ended_with_zero_even_if_its_pods_are_deleted() -> None:
    assert job_of(job(condition("Complete")), []).exit_code == 0


def test_a_running_job_has_no_exit_code() -> None:
    assert job_of(job(), [pod(ended(3))]).exit_code is None


def test_a_disruption_is_preemption_with_the_clusters_words() -> None:
    seen = job_of(job(FAILED), [pod(ended(137), conditions=(DISRUPTED,))])
    assert (seen.preempted, seen.reason, seen.message) == (
        True,
        "EvictionByEvictionAPI",
        "EvictionByEvictionAPI: node is drained",
    )


def test_a_disrupted_pod_that_finished_all_the_same_was_not_preempted() -> None:
    assert not job_of(job(condition("Complete")), [pod(ended(0), conditions=(DISRUPTED,))]).preempted


def test_a_crash_is_not_a_preemption() -> None:
    assert not job_of(job(FAILED), [pod(ended(137))]).preempted


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (pod(waiting("ImagePullBackOff", "no such image")), "ImagePullBackOff"),
        (pod(conditions=(UNSCHEDULABLE,)), "Unschedulable"),
        (pod(waiting("ContainerCreating")), "Starting"),
    ],
)
def test_why_a_pod_waits(one: Json, reason: str) -> None:
    assert job_of(job(), [one]).reason == reason


def prefetch(*conditions: Json) -> Json:
    return {"metadata": {"name": "pexp-prefetch-0"}, "status": {"conditions": list(conditions)}}


def test_how_far_the_weights_are() -> None:
    said = {"terminated": {"exitCode": 11, "finishedAt": T1, "message": "reading\ns3://lab/base holds other weights\n"}}
    states = [
        weights_of(None, []),
        weights_of(prefetch(), [pod(running())]),
        weights_of(prefetch(), [pod(conditions=(UNSCHEDULABLE,))]),
        weights_of(prefetch(condition("Complete")), [pod(ended(0))]),
        weights_of(prefetch(FAILED), [pod({"state": said})]),
        weights_of(prefetch(FAILED), []),
    ]
    assert [weights.state for weights in states] == ["absent", "arriving", "arriving", "ready", "failed", "failed"]
    assert states[2].message == "Job pexp-prefetch-0: Unschedulable: 0/3 nodes are available"
    assert states[4].message == "Job pexp-prefetch-0 failed: s3://lab/base holds other weights"
    assert states[5].message == "Job pexp-prefetch-0 failed: see its log"
