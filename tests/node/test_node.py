"""The tests' node is a real one: pods of our images run on it, under the rules that clusters enforce."""

import json
from collections.abc import Callable

import pytest

from tests.cluster.harness.api import Object
from tests.node.node import Node
from tests.node.s3 import ClusterS3

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


def run_job(
    node: Node,
    namespace: str,
    image: str,
    command: list[str],
    environment: dict[str, str] | None = None,
    runtime_class: str | None = None,
) -> str:
    """Returns the output of a Job's only container, which meets `restricted` and has a read-only root.

    It must succeed.
    """
    container: Object = {
        "name": "main",
        "image": image,
        "command": command,
        "env": [{"name": name, "value": value} for name, value in (environment or {}).items()],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    pod: Object = {
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        "runtimeClassName": runtime_class,
    }
    body: Object = {"metadata": {"generateName": "job-"}, "spec": {"backoffLimit": 0, "template": {"spec": pod}}}
    name = node.plane.api.post(f"/apis/batch/v1/namespaces/{namespace}/jobs", body)["metadata"]["name"]
    node.wait_for_job(namespace, name)
    return node.plane.kubectl("logs", f"job/{name}", namespace=namespace)


@pytest.fixture
def namespace(node: Node) -> str:
    return node.plane.namespace(labels=RESTRICTED)


def test_a_job_of_the_controllers_image_runs_to_its_end_and_its_log_is_read(
    node: Node, namespace: str, image: Callable[[str], str]
) -> None:
    script = "import os, sys, controller, workloads.api; print(os.getuid(), 'torch' in sys.modules)"
    assert run_job(node, namespace, image("controller"), ["python", "-c", script]) == "65532 False\n"


def test_pods_reach_the_store(node: Node, namespace: str, image: Callable[[str], str], s3: ClusterS3) -> None:
    script = "import boto3; boto3.client('s3').put_object(Bucket='lab', Key='from-a-pod', Body=b'hello')"
    run_job(node, namespace, image("controller"), ["python", "-c", script], s3.environment())
    assert s3.client().get_object(Bucket="lab", Key="from-a-pod")["Body"].read() == b"hello"


def test_pods_find_services_by_name(node: Node, namespace: str, image: Callable[[str], str], s3: ClusterS3) -> None:
    script = "import socket; print(socket.gethostbyname('versitygw.s3'))"
    assert run_job(node, namespace, image("controller"), ["python", "-c", script]).strip() in s3.endpoint


def test_pods_reach_the_api_server_as_their_service_account(
    node: Node, namespace: str, image: Callable[[str], str]
) -> None:
    script = """
import json
from kubernetes import client, config
config.load_incluster_config()
told = client.AuthenticationV1Api().create_self_subject_review({"kind": "SelfSubjectReview"})
print(json.dumps(told.status.user_info.username))
"""
    told = run_job(node, namespace, image("controller"), ["python", "-c", script])
    assert json.loads(told) == f"system:serviceaccount:{namespace}:default"
