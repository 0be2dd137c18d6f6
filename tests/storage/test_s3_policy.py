"""The rights of one namespace's keys on the server, with the policy of docs/kubernetes.md: everything in its own
prefix, nothing outside. A compromised training, evaluation or grading pod (but not its `execute` container) has these
rights.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.tools.s3 import S3Server
from workloads.storage.base import StoreError, open_store

pytestmark = pytest.mark.s3
PAGE = (Path(__file__).parents[2] / "docs/kubernetes.md").read_text()


@pytest.fixture
def pod(server: S3Server) -> S3Server:
    """The server as a pod of the namespace `team` sees it. Another team's result and Potstill's own files are there."""
    [policy] = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    admin = server.client(retries=3)
    for key in ("team/units/train/a/marker.json", "others/units/train/a/marker.json"):
        admin.put_object(Bucket="lab", Key=key, Body=b"committed")
    return server.account(json.loads(policy)["Statement"])


def test_in_its_own_prefix_the_whole_protocol_works(pod: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in pod.environment().items():
        monkeypatch.setenv(name, value)
    store = open_store("s3://lab/team")
    store.probe()
    assert [info.key for info in store.list("units/")] == ["units/train/a/marker.json"]
    with pytest.raises(StoreError, match="grant s3:GetObject"):
        open_store("s3://lab/others").put_new("units/train/b/marker.json", b"mine")


def test_its_own_results_can_be_overwritten_and_deleted(pod: S3Server) -> None:
    pod.client().put_object(Bucket="lab", Key="team/units/train/a/marker.json", Body=b"forged")
    pod.client().delete_object(Bucket="lab", Key="team/units/train/a/marker.json")


OUTSIDE: dict[str, Callable[[Any], object]] = {
    "read another's result": lambda s3: s3.get_object(Bucket="lab", Key="others/units/train/a/marker.json"),
    "overwrite another's result": lambda s3: s3.put_object(
        Bucket="lab", Key="others/units/train/a/marker.json", Body=b"forged"
    ),
    "delete another's result": lambda s3: s3.delete_object(Bucket="lab", Key="others/units/train/a/marker.json"),
    "copy another's result": lambda s3: s3.copy_object(
        Bucket="lab", Key="team/stolen", CopySource="lab/others/units/train/a/marker.json"
    ),
    "write at the bucket's root": lambda s3: s3.put_object(Bucket="lab", Key="anything", Body=b""),
    "leave the prefix by dots": lambda s3: s3.put_object(Bucket="lab", Key="team/../others/x", Body=b""),
    "change the policy": lambda s3: s3.put_bucket_policy(Bucket="lab", Policy='{"Statement": []}'),
    "delete the policy": lambda s3: s3.delete_bucket_policy(Bucket="lab"),
    "delete the bucket": lambda s3: s3.delete_bucket(Bucket="lab"),
    "make a bucket": lambda s3: s3.create_bucket(Bucket="mine"),
    "switch versions off": lambda s3: s3.put_bucket_versioning(
        Bucket="lab", VersioningConfiguration={"Status": "Suspended"}
    ),
}


@pytest.mark.parametrize("attempt", OUTSIDE)
def test_nothing_is_allowed_outside(server: S3Server, pod: S3Server, attempt: str) -> None:
    with pytest.raises(ClientError) as refused:
        OUTSIDE[attempt](pod.client())
    assert 400 <= refused.value.response["ResponseMetadata"]["HTTPStatusCode"] < 500
    held = server.client(retries=3).get_object(Bucket="lab", Key="others/units/train/a/marker.json")
    assert held["Body"].read() == b"committed"
