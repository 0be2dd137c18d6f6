"""Why a Job ended or does not start is reported with the cluster's own message, and with the needed change."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.executors.kubernetes.job_states import job_of, weights_of
from controller.executors.kubernetes.pod_states import SHOWN_CHARACTERS, PodWarning, last_words
from controller.executors.kubernetes.warnings import latest
from tests.kubernetes.test_job_of import FAILED, T1, T2, condition, job, pod, running

Json = dict[str, Any]
FULL = 'Usage of EmptyDir volume "work" exceeds the limit "100Gi". '


def failed(*containers: Json, reason: str = "", message: str = "", conditions: tuple[Json, ...] = ()) -> Json:
    built = pod(*containers, conditions=conditions)
    built["status"] |= {"phase": "Failed", "reason": reason, "message": message}
    built["spec"] = {
        "containers": [{"name": "train", "image": "registry/a", "resources": {"limits": {"memory": "16Gi"}}}]
    }
    return built


def ended(code: int, reason: str = "Error", message: str = "", at: str = T2) -> Json:
    end = {"exitCode": code, "reason": reason, "message": message, "startedAt": T1, "finishedAt": at}
    return {"name": "train", "state": {"terminated": end}}


def train(*conditions: Json) -> Json:
    return job(*conditions, labels={"potstill.dev/role": "train"}, uid="job-uid")


ENDS: dict[str, tuple[Json, str, str, bool]] = {
    "memory": (failed(ended(137, "OOMKilled")), "OOMKilled", "memory limit of 16Gi; raise train.resources.limits.memory", False),
    "killed": (failed(ended(137)), "Error", "container train was killed by signal 9", False),
    "memory of the node": (
        failed(ended(137, "OOMKilled") | {"name": "other"}), "OOMKilled", "used up; set train.resources.requests.memory", False,
    ),
    "no signal": (failed(ended(255)), "Error", "container train exited with 255", False),
    "crash": (failed(ended(1, message="Traceback\nImportError: no\n\n")), "Error", "exited with 1: ImportError: no", False),
    "start": (failed(ended(128, "StartError", "exec: python")), "StartError", "exec: python; check registry/a, train.image", False),
    "own disk": (failed(reason="Evicted", message=FULL), "Evicted", "train.sizeLimits.work of the profile", False),
    "own storage limit": (
        failed(reason="Evicted", message='Container train exceeded its local ephemeral storage limit "10Gi". '), "Evicted",
        "train.resources.limits.ephemeral-storage", False,
    ),
    "own disk, ended well": (failed(ended(0), reason="Evicted", message=FULL), "Evicted", 'exceeds the limit "100Gi"', False),
    "the node's disk": (
        failed(reason="Evicted", message="The node was low on resource: ephemeral-storage. "), "Evicted", "The node was low", True,
    ),
    "no healthy GPU": (failed(reason="UnexpectedAdmissionError", message="Allocate failed"), "UnexpectedAdmissionError", "Allocate", True),
    "node short of CPU": (failed(reason="OutOfcpu", message="Node didn't have enough"), "OutOfcpu", "Node didn't", True),
    "node lost": (failed(reason="NodeLost", message="Node a is gone"), "NodeLost", "Node a", True),
    "node forgot": (failed(ended(137, "ContainerStatusUnknown", "could not be located")), "ContainerStatusUnknown", "could not", True),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDS)
def test_an_ended_job_has_the_reason_of_its_container_or_pod(name: str) -> None:
    item, reason, says, preempted = ENDS[name]
    seen = job_of(train(FAILED), [item])
    assert (seen.phase, seen.reason, seen.preempted) == ("ended", reason, preempted)
    assert says in seen.message


def test_a_download_of_weights_that_failed_has_the_reason_once() -> None:
    download = job(FAILED, name="prefetch")
    found = weights_of(download, [failed(ended(137, "OOMKilled"))])
    assert (found.state, found.message.count("OOMKilled")) == ("failed", 1)
    assert "raise report.resources.limits.memory" in found.message


@pytest.mark.parametrize(
    ("told", "reason", "preempted"),
    [
        ({"reason": "PodFailurePolicy", "message": "Pod a has condition DisruptionTarget matching FailJob"}, "Disrupted", True),
        ({"reason": "DeadlineExceeded", "message": "Job was active longer than specified deadline"}, "DeadlineExceeded", False),
        ({"reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit"}, "", False),
    ],
)  # fmt: skip
def test_a_job_whose_pods_are_deleted_has_the_reason_of_the_job(
    told: dict[str, str], reason: str, preempted: bool
) -> None:
    seen = job_of(train(condition("Failed", **told)), [])
    assert (seen.reason, seen.preempted) == (reason, preempted)


def test_the_first_failure_of_several_nodes_counts_and_within_a_second_the_most_specific() -> None:
    late, early, killed = failed(ended(1, at=T2)), failed(ended(9, at=T1)), failed(ended(137, "OOMKilled", at=T1))
    assert "exited with 9" in job_of(train(FAILED), [late, early]).message
    assert job_of(train(FAILED), [late, early, killed]).reason == "OOMKilled"


def test_a_job_that_kueue_holds_back_waits_in_its_queue() -> None:
    item = train() | {"spec": {"suspend": True}}
    item["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "gpu"
    assert (job_of(item, []).reason, "queue gpu" in job_of(item, []).message) == ("Queued", True)
    del item["metadata"]["labels"]["kueue.x-k8s.io/queue-name"]
    assert job_of(item, []).reason == "JobSuspended"


def test_a_job_without_its_pods_says_what_its_events_say() -> None:
    warnings = {"job-uid": PodWarning("FailedCreate", 'Error creating: pods "a" is forbidden: exceeded quota')}
    item = train() | {"spec": {"parallelism": 2}}
    seen = job_of(item, [], warnings)
    assert (seen.reason, seen.message) == (
        "FailedCreate",
        '0 of 2 pods made: Error creating: pods "a" is forbidden: exceeded quota',
    )
    assert job_of(item, []).reason == "Starting"
    assert job_of(item, [pod(running()), pod(running())], warnings).reason == ""


def test_a_pod_that_is_stuck_on_its_node_says_what_its_events_say() -> None:
    item = pod({"name": "train", "state": {"waiting": {"reason": "ContainerCreating"}}})
    item["metadata"]["uid"], item["spec"] = "pod-uid", {"nodeName": "a"}
    warnings = {"pod-uid": PodWarning("FailedMount", 'MountVolume.SetUp failed: secret "store" not found')}
    assert job_of(train(), [item], warnings).reason == "FailedMount"
    assert job_of(train(), [item]).message == "its pod is being started on a"


@given(st.text())
def test_last_words_are_one_short_printable_line(text: str) -> None:
    said = last_words(text)
    assert len(said) <= SHOWN_CHARACTERS
    assert said.isprintable()


def test_the_last_event_of_an_object_counts() -> None:
    def event(at: str, message: str) -> Json:
        return {"involvedObject": {"uid": "a"}, "reason": "FailedCreate", "message": message, "lastTimestamp": at}

    assert latest([event(T2, "second"), event(T1, "first"), {"reason": "Odd"}]) == {
        "a": PodWarning("FailedCreate", "second")
    }
