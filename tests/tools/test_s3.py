"""The S3 server of the tests keeps the promises that the store relies on, and its proxy makes the stated faults."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, HTTPClientError

from tests.tools.s3 import FaultProxy, S3Server, fault_proxy, s3_server

pytestmark = [pytest.mark.s3, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def proxy(server: S3Server, tmp_path: Path) -> Iterator[FaultProxy]:
    with fault_proxy(server.endpoint, tmp_path) as proxy:
        yield proxy


def test_an_existing_key_is_not_written_again_with_if_none_match(server: S3Server) -> None:
    client = server.client()
    client.put_object(Bucket=server.bucket, Key="once", Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError) as refused:
        client.put_object(Bucket=server.bucket, Key="once", Body=b"second", IfNoneMatch="*")
    assert refused.value.response["Error"]["Code"] == "PreconditionFailed"
    assert client.get_object(Bucket=server.bucket, Key="once")["Body"].read() == b"first"


def test_an_object_is_a_file_of_its_folder(server: S3Server) -> None:
    server.client().put_object(Bucket=server.bucket, Key="a/b.txt", Body=b"seen")
    assert (server.folder / server.bucket / "a" / "b.txt").read_bytes() == b"seen"


def test_wrong_credentials_are_refused(server: S3Server) -> None:
    stranger = S3Server(server.endpoint, server.access_key, "wrong", server.bucket, server.folder, server.process)
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        stranger.client().list_objects_v2(Bucket=server.bucket)


def test_an_account_may_do_what_its_policy_says_and_nothing_else(server: S3Server) -> None:
    server.client().put_object(Bucket=server.bucket, Key="read", Body=b"me")
    reader = server.account([{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::lab/*"}]).client()
    assert reader.get_object(Bucket=server.bucket, Key="read")["Body"].read() == b"me"
    with pytest.raises(ClientError, match="AccessDenied"):
        reader.put_object(Bucket=server.bucket, Key="read", Body=b"changed")
    with pytest.raises(ClientError, match="AccessDenied"):
        reader.list_objects_v2(Bucket=server.bucket)


def test_an_answer_cut_in_its_middle_is_an_error(server: S3Server, proxy: FaultProxy) -> None:
    server.client().put_object(Bucket=server.bucket, Key="large", Body=bytes(300_000))
    proxy.add("limit_data", bytes=100_000)
    with pytest.raises(HTTPClientError):
        server.client(proxy.url).get_object(Bucket=server.bucket, Key="large")["Body"].read()


def test_a_cut_proxy_refuses_until_it_is_healed(server: S3Server, proxy: FaultProxy) -> None:
    client = server.client(proxy.url)
    proxy.cut()
    with pytest.raises(EndpointConnectionError):
        client.list_buckets()
    proxy.heal()
    assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == [server.bucket]
