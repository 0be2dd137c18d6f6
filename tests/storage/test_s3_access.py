"""Access to the store: under a private CA, with keys from files that change, with buckets as host names, by a proxy."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.storage.http_proxy import Answer, Do, HttpProxy, Seen
from tests.tools.s3 import EVERYTHING, S3Server, keys_of, mount, s3_server
from workloads.storage.base import StoreError, open_store
from workloads.storage.certificates import READ_BY_CLIENTS
from workloads.storage.s3.credentials import read_keys

pytestmark = pytest.mark.s3


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def private(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server whose certificate comes from `authority`."""
    with s3_server(tmp_path_factory.mktemp("private"), certificate=authority.issue_cert("127.0.0.1")) as server:
        yield server


@pytest.fixture
def environment(private: S3Server, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The variables that `open_store` reads; the process's own variables are restored after the test."""
    for name in (*READ_BY_CLIENTS, "POTSTILL_CA_BUNDLE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, value in private.environment().items():
        monkeypatch.setenv(name, value)
    return private.environment() | {"POTSTILL_STORE_DEADLINE_SECONDS": "20"}


def test_a_private_ca_is_trusted_when_it_is_named_and_public_ones_still_are(
    private: S3Server,
    authority: trustme.CA,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    bundle = tmp_path / "ca.crt"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("POTSTILL_CA_BUNDLE", str(bundle))
    store = open_store(f"s3://{private.bucket}/ca", environment)
    store.put("key", b"value")
    assert store.get("key") == b"value"
    trusted = Path(os.environ["SSL_CERT_FILE"]).read_text()
    assert bundle.read_text() in trusted
    assert trusted.count("BEGIN CERTIFICATE") > 100
    assert {os.environ[name] for name in READ_BY_CLIENTS} == {os.environ["SSL_CERT_FILE"]}


def test_without_it_the_error_comes_at_once_and_says_what_to_set(
    private: S3Server, environment: dict[str, str]
) -> None:
    began = time.monotonic()
    with pytest.raises(StoreError, match=r"not trusted here: name the CA in the chart's caBundle"):
        open_store(f"s3://{private.bucket}/ca", environment).get("key")
    assert time.monotonic() - began < 20, "it was not tried until the deadline"


def test_a_certificate_for_another_name_is_called_that(
    private: S3Server,
    authority: trustme.CA,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    monkeypatch.setenv("POTSTILL_CA_BUNDLE", str(tmp_path / "ca.crt"))
    elsewhere = environment | {
        "POTSTILL_S3_ENDPOINT": private.endpoint.replace("127.0.0.1", "localhost"),
        "POTSTILL_STORE_DEADLINE_SECONDS": "1",
    }
    with pytest.raises(StoreError, match="certificate is for another name"):
        open_store(f"s3://{private.bucket}/ca", elsewhere).get("key")


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_bundle_that_is_none_is_named(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "ca.crt").write_text(content)
    monkeypatch.setenv("POTSTILL_CA_BUNDLE", str(tmp_path / "ca.crt"))
    with pytest.raises(StoreError, match=r"POTSTILL_CA_BUNDLE: .*ca\.crt is not a file of PEM certificates"):
        open_store("s3://lab/ca", environment)


def test_a_rotated_secret_is_used_by_a_store_that_is_open(server: S3Server, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    mount(folder, keys_of(server.account(EVERYTHING)))
    environment = {"POTSTILL_S3_ENDPOINT": server.endpoint, "POTSTILL_S3_KEYS": str(folder)}
    store = open_store(f"s3://{server.bucket}/{tmp_path.name}", environment)
    store.put("key", b"value")
    mount(folder, keys_of(server.account(EVERYTHING)))
    assert store.get("key") == b"value"
    assert store.head("key") is not None


@pytest.mark.parametrize("ask", ["get", "head"])
def test_keys_that_are_refused_after_they_worked_are_waited_for(
    server: S3Server, requests: HttpProxy, tmp_path: Path, ask: str
) -> None:
    folder = tmp_path / "keys"
    mount(folder, keys_of(server))
    environment = {"POTSTILL_S3_ENDPOINT": requests.url, "POTSTILL_S3_KEYS": str(folder)}
    store = open_store(f"s3://{server.bucket}/{tmp_path.name}", environment)
    store.put("key", b"value")
    mount(folder, {"AWS_ACCESS_KEY_ID": "revoked", "AWS_SECRET_ACCESS_KEY": "revoked"})
    refused: list[Seen] = []

    def rotate_after_three(seen: Seen) -> Do:
        refused.append(seen)
        if len(refused) == 3:
            mount(folder, keys_of(server))
        return Do.FORWARD

    requests.rule = rotate_after_three
    assert getattr(store, ask)("key")
    assert len(refused) > 3


def test_keys_that_never_worked_are_refused_at_once(server: S3Server, tmp_path: Path) -> None:
    mount(tmp_path / "keys", {"AWS_ACCESS_KEY_ID": "unknown", "AWS_SECRET_ACCESS_KEY": "unknown"})
    environment = {"POTSTILL_S3_ENDPOINT": server.endpoint, "POTSTILL_S3_KEYS": str(tmp_path / "keys")}
    with pytest.raises(StoreError, match="does not know these credentials"):
        open_store(f"s3://{server.bucket}/{tmp_path.name}", environment).get("key")


def test_temporary_keys_send_their_session_token(server: S3Server, requests: HttpProxy, tmp_path: Path) -> None:
    mount(tmp_path / "keys", keys_of(server) | {"AWS_SESSION_TOKEN": "planted-token"})
    environment = {"POTSTILL_S3_ENDPOINT": requests.url, "POTSTILL_S3_KEYS": str(tmp_path / "keys")}
    store = open_store(f"s3://{server.bucket}/{tmp_path.name}", environment)
    requests.rule = lambda _: Answer(200, "", page="<ListBucketResult><Name>lab</Name><IsTruncated>false</IsTruncated></ListBucketResult>")  # fmt: skip
    assert list(store.list("")) == []
    assert {name.lower(): value for name, value in requests.seen[-1].headers.items()}["x-amz-security-token"] == "planted-token"  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, "cannot read the Secret: .*AWS_ACCESS_KEY_ID"),
        ({"AWS_ACCESS_KEY_ID": "a"}, "cannot read the Secret: .*AWS_SECRET_ACCESS_KEY"),
        ({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": " \n"}, "AWS_SECRET_ACCESS_KEY is empty"),
    ],
)
def test_a_secret_without_keys_is_named(tmp_path: Path, keys: dict[str, str], said: str) -> None:
    mount(tmp_path / "keys", keys)
    with pytest.raises(StoreError, match=said):
        open_store("s3://lab/x", {"POTSTILL_S3_KEYS": str(tmp_path / "keys")})


def test_keys_are_never_of_two_versions(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    mount(folder, {"AWS_ACCESS_KEY_ID": "0", "AWS_SECRET_ACCESS_KEY": "0"})
    rotate = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from tests.tools.s3 import mount
for number in range(300):
    mount(Path({str(folder)!r}), {{"AWS_ACCESS_KEY_ID": str(number), "AWS_SECRET_ACCESS_KEY": str(number)}})
"""
    rotating = subprocess.Popen([sys.executable, "-c", rotate])
    versions = set()
    while rotating.poll() is None:
        keys = read_keys(folder)
        assert keys.access_key == keys.secret_key
        versions.add(keys.access_key)
    assert rotating.returncode == 0
    assert len(versions) > 1


def test_a_bucket_can_be_a_host_name_and_the_way_can_be_a_proxy(
    server: S3Server, requests: HttpProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HTTP_PROXY", requests.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    environment = {"POTSTILL_S3_ENDPOINT": "http://s3.test", "POTSTILL_S3_ADDRESSING": "virtual"}
    store = open_store(f"s3://{server.bucket}/{tmp_path.name}", environment)
    requests.rule = lambda _: Answer(404, "NoSuchKey")
    with pytest.raises(StoreError, match="does not exist"):
        store.get("key")
    assert requests.seen[-1].path == f"http://{server.bucket}.s3.test/{tmp_path.name}/key"
    with pytest.raises(ValueError, match="POTSTILL_S3_ADDRESSING is 'hosts': use path, virtual or auto"):
        open_store(f"s3://{server.bucket}/x", environment | {"POTSTILL_S3_ADDRESSING": "hosts"})


def test_a_proxys_password_is_in_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://lab:planted-password@127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "lab")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "lab")
    environment = {"POTSTILL_S3_ENDPOINT": "http://s3.test", "POTSTILL_STORE_DEADLINE_SECONDS": "0"}
    with pytest.raises(StoreError, match="Is HTTPS_PROXY right") as refused:
        open_store("s3://lab/x", environment).get("key")
    assert "planted-password" not in str(refused.value)
