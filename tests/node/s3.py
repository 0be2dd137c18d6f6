"""versitygw in the cluster, as a lab's own S3."""

import json
import secrets
from typing import Any

import boto3

from tests.node.images import build_from_program
from tests.node.node import Node
from tests.tools.processes import listening, wait_until
from tests.tools.programs import program

NAMESPACE = "s3"
PORT = 7070


class ClusterS3:
    """An S3 server with one address for pods and for this machine."""

    def __init__(self, address: str, access_key: str, secret_key: str) -> None:
        self.endpoint = f"http://{address}:{PORT}"
        self.access_key = access_key
        self.secret_key = secret_key

    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
        )

    def environment(self) -> dict[str, str]:
        """The credentials for a pod or a program on this machine; the content of the Secret that a chart names."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "POTSTILL_S3_ENDPOINT": self.endpoint,
        }


def deploy_s3(node: Node, bucket: str = "lab") -> ClusterS3:
    """Deploys a versitygw with an empty bucket; its objects are deleted with its pod."""
    [image] = node.publish([build_from_program("versitygw", program("versitygw"))])
    access_key, secret_key = f"test{secrets.token_hex(6)}", secrets.token_hex(20)
    node.plane.kubectl("apply", "-f", "-", stdin=json.dumps(_objects(image, access_key, secret_key)))
    node.plane.kubectl("rollout", "status", "deployment/versitygw", "--timeout=120s", namespace=NAMESPACE)
    service = node.plane.api.get(f"/api/v1/namespaces/{NAMESPACE}/services/versitygw")
    address = service["spec"]["clusterIP"]
    wait_until(lambda: listening(PORT, address), "the S3 service to be routed")
    server = ClusterS3(address, access_key, secret_key)
    server.client().create_bucket(Bucket=bucket)
    return server


def _objects(image: str, access_key: str, secret_key: str) -> dict[str, object]:
    labels = {"app": "versitygw"}
    container = {
        "name": "versitygw",
        "image": image,
        "args": ["--port", f":{PORT}", "--quiet", "posix", "/data"],
        "envFrom": [{"secretRef": {"name": "versitygw"}}],
        "ports": [{"containerPort": PORT}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    pod = {
        "containers": [container],
        "volumes": [{"name": "data", "emptyDir": {}}],
        "enableServiceLinks": False,
        "tolerations": [{"operator": "Exists"}],  # its objects are to outlive a node that is lost for a while
    }
    template = {"metadata": {"labels": labels}, "spec": pod}
    secret = {"ROOT_ACCESS_KEY_ID": access_key, "ROOT_SECRET_ACCESS_KEY": secret_key}
    kinds: list[tuple[str, str, dict[str, object]]] = [
        ("v1", "Namespace", {}),
        ("v1", "Secret", {"stringData": secret}),
        ("apps/v1", "Deployment", {"spec": {"selector": {"matchLabels": labels}, "template": template}}),
        ("v1", "Service", {"spec": {"selector": labels, "ports": [{"port": PORT}]}}),
    ]
    items = []
    for version, kind, content in kinds:
        metadata = {"name": NAMESPACE} if kind == "Namespace" else {"name": "versitygw", "namespace": NAMESPACE}
        items.append({"apiVersion": version, "kind": kind, "metadata": metadata, **content})
    return {"apiVersion": "v1", "kind": "List", "items": items}
