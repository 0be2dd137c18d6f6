"""The API server takes every Job that is built, in a namespace that enforces the `restricted` Pod Security Standard."""

import pytest

from tests.cluster.harness import ControlPlane
from tests.kubernetes.tasks import JOBS, built

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(scope="module")
def restricted(plane: ControlPlane) -> str:
    namespace = plane.namespace(labels={"pod-security.kubernetes.io/enforce": "restricted"})
    plane.api.post(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "potstill-workloads"}})
    return namespace


@pytest.mark.parametrize("name", JOBS)
def test_the_job_and_its_pods_are_accepted(plane: ControlPlane, restricted: str, name: str) -> None:
    job = built(name, restricted)
    query = "?dryRun=All&fieldValidation=Strict"
    assert plane.api.post(f"/apis/batch/v1/namespaces/{restricted}/jobs{query}", job)["kind"] == "Job"
    spec = {key: value for key, value in job["spec"]["template"]["spec"].items() if not key.endswith("ClassName")}
    pod = {"metadata": {"name": job["metadata"]["name"], **job["spec"]["template"]["metadata"]}, "spec": spec}
    assert plane.api.post(f"/api/v1/namespaces/{restricted}/pods{query}", pod)["spec"]["restartPolicy"] == "Never"


def test_the_rendezvous_of_several_nodes_is_accepted(plane: ControlPlane, restricted: str) -> None:
    service = built("train-2-nodes-service", restricted)
    made = plane.api.post(f"/api/v1/namespaces/{restricted}/services?dryRun=All&fieldValidation=Strict", service)
    assert made["spec"]["clusterIP"] == "None"
