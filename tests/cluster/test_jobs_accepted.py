"""The API server takes every Job that is built, in a namespace that enforces the `restricted` Pod Security Standard."""

import pytest

from controller.kubernetes.jobs import build_job, build_rendezvous
from tests.cluster.harness import ControlPlane
from tests.kubernetes.tasks import BUILT, FROZEN, REFERENCE, train_task

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(scope="module")
def restricted(plane: ControlPlane) -> str:
    namespace = plane.namespace(labels={"pod-security.kubernetes.io/enforce": "restricted"})
    plane.api.post(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "potstill-workloads"}})
    return namespace


@pytest.mark.parametrize("name", BUILT)
def test_the_job_and_its_pods_are_accepted(plane: ControlPlane, restricted: str, name: str) -> None:
    task, stated = BUILT[name]
    job = build_job(FROZEN, task, stated, REFERENCE, restricted)
    query = "?dryRun=All&fieldValidation=Strict"
    assert plane.api.post(f"/apis/batch/v1/namespaces/{restricted}/jobs{query}", job)["spec"]["backoffLimit"] == 0
    spec = {key: value for key, value in job["spec"]["template"]["spec"].items() if not key.endswith("ClassName")}
    pod = {"metadata": {"name": job["metadata"]["name"], **job["spec"]["template"]["metadata"]}, "spec": spec}
    assert plane.api.post(f"/api/v1/namespaces/{restricted}/pods{query}", pod)["spec"]["restartPolicy"] == "Never"


def test_the_rendezvous_of_several_nodes_is_accepted(plane: ControlPlane, restricted: str) -> None:
    service = build_rendezvous(FROZEN, train_task(), REFERENCE, restricted)
    made = plane.api.post(f"/api/v1/namespaces/{restricted}/services?dryRun=All&fieldValidation=Strict", service)
    assert made["spec"]["clusterIP"] == "None"
