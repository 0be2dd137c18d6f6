"""A real S3 server (versitygw), and a proxy in front of it that makes faults (toxiproxy).

with s3_server(folder) as server, fault_proxy(server.endpoint, folder) as proxy:
    client = server.client(endpoint=proxy.url)
    proxy.add("limit_data", bytes=100_000)
"""

import json
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import boto3
import trustme
from botocore.config import Config

from tests.tools.processes import Server, server_on_free_port
from tests.tools.programs import program

REGION = "us-east-1"


@dataclass(frozen=True)
class S3Server:
    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    bucket: str
    """An existing, empty bucket."""
    folder: Path
    """The folder of the objects as files: `folder/bucket/key`."""
    process: Server = field(repr=False)

    def environment(self, endpoint: str | None = None) -> dict[str, str]:
        """The variables with which a process finds the server and logs in."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL_S3": endpoint or self.endpoint,
            "POTSTILL_S3_ENDPOINT": endpoint or self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, endpoint: str | None = None, retries: int = 0, verify: bool = True) -> Any:
        """Returns a boto3 client for the server, or for a proxy in front of it.

        `verify`: refuses untrusted certificates.
        """
        return boto3.client(
            "s3",
            endpoint_url=endpoint or self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=REGION,
            verify=verify,
            config=Config(retries={"max_attempts": retries}, connect_timeout=5, read_timeout=20),
        )

    def account(self, allowed: list[dict[str, Any]]) -> "S3Server":
        """Returns the server for another account, whose rights in the bucket are these policy statements.

        They replace the rights of previous accounts.
        """
        access_key, secret_key = f"test{secrets.token_hex(6)}", secrets.token_hex(20)
        admin = ["--access", self.access_key, "--secret", self.secret_key, "--endpoint-url", self.endpoint]
        made = ["create-user", "--access", access_key, "--secret", secret_key, "--role", "user"]
        command = [str(program("versitygw")), "admin", *admin, *made]
        subprocess.run(command, check=True, capture_output=True, timeout=30)
        statements = [{**statement, "Principal": {"AWS": [access_key]}} for statement in allowed]
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        self.client(retries=3).put_bucket_policy(Bucket=self.bucket, Policy=policy)
        return replace(self, access_key=access_key, secret_key=secret_key)


@contextmanager
def s3_server(folder: Path, bucket: str = "lab", certificate: trustme.LeafCert | None = None) -> Iterator[S3Server]:
    """versitygw over `folder`/s3, with its own credentials, on this machine only; with TLS for a certificate.

    The file system of `folder` must hold extended attributes (ext4, xfs, btrfs, overlay, tmpfs from Linux 6.6 on).
    """
    objects, accounts = folder / "s3", folder / "accounts"
    objects.mkdir(parents=True)
    accounts.mkdir()
    access_key, secret_key = f"test{secrets.token_hex(6)}", secrets.token_hex(20)
    credentials = {"ROOT_ACCESS_KEY_ID": access_key, "ROOT_SECRET_ACCESS_KEY": secret_key}
    gateway = program("versitygw")
    tls, authorities = [], True
    if certificate is not None:
        certificate.private_key_pem.write_to_path(str(folder / "tls.key"))
        for pem in certificate.cert_chain_pems:
            pem.write_to_path(str(folder / "tls.crt"), append=True)
        tls, authorities = ["--cert", str(folder / "tls.crt"), "--key", str(folder / "tls.key")], False

    def make(port: int) -> Server:
        address = f"127.0.0.1:{port}"
        where = ["--port", address, "--region", REGION, "--iam-dir", str(accounts)]
        command = [str(gateway), *where, *tls, "--keep-alive", "posix", str(objects)]
        return Server(command, folder / "versitygw.log", credentials)

    with server_on_free_port(make) as (process, port):
        scheme = "https" if certificate else "http"
        server = S3Server(f"{scheme}://127.0.0.1:{port}", access_key, secret_key, bucket, objects, process)
        server.client(retries=3, verify=authorities).create_bucket(Bucket=bucket)
        yield server


@dataclass(frozen=True)
class FaultProxy:
    """Faults are toxiproxy's: latency (latency, jitter: ms), bandwidth (rate: KB/s), slow_close (delay), timeout
    (timeout: ms, 0 = silent until removed), reset_peer (timeout), slicer (average_size, size_variation, delay),
    limit_data (bytes: then the connection is closed)."""

    url: str
    _api: str = field(repr=False)
    process: Server = field(repr=False)

    def add(self, kind: str, stream: str = "downstream", toxicity: float = 1.0, **attributes: int) -> str:
        """Begins a fault in the server's output ("downstream") or in its input ("upstream").

        `toxicity` is the share of the connections with the fault, including open ones. Returns its name for `remove`.
        """
        name = f"{kind}-{secrets.token_hex(4)}"  # its own, so that two of one kind may be there at once
        fault = {"name": name, "type": kind, "stream": stream, "toxicity": toxicity, "attributes": attributes}
        return str(self._call("POST", "/proxies/faulty/toxics", fault)["name"])

    def remove(self, name: str) -> None:
        self._call("DELETE", f"/proxies/faulty/toxics/{name}")

    def cut(self) -> None:
        """Closes every connection and refuses new ones, until `heal`."""
        self._call("POST", "/proxies/faulty", {"enabled": False})

    def heal(self) -> None:
        """Removes all faults and accepts connections again."""
        self._call("POST", "/reset")

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = Request(self._api + path, data, {"Content-Type": "application/json"}, method=method)
        with urlopen(request, timeout=10) as answer:
            told = answer.read()
        return json.loads(told) if told else {}


@contextmanager
def fault_proxy(upstream: str, folder: Path) -> Iterator[FaultProxy]:
    """toxiproxy in front of the server at `upstream` (a URL, or host:port), without faults at first."""
    toxiproxy = program("toxiproxy")

    def make(port: int) -> Server:
        return Server([str(toxiproxy), "-host", "127.0.0.1", "-port", str(port)], folder / "toxiproxy.log")

    with server_on_free_port(make) as (process, port):
        address = urlsplit(upstream).netloc or upstream
        api = FaultProxy("", f"http://127.0.0.1:{port}", process)
        made = api._call("POST", "/proxies", {"name": "faulty", "listen": "127.0.0.1:0", "upstream": address})
        yield FaultProxy(f"http://{made['listen']}", api._api, process)


def mount(folder: Path, keys: dict[str, str]) -> None:
    """Files of a Secret, as a kubelet puts them there: each version in a separate folder; one rename of a link activates it."""
    version = folder / f"..{time.monotonic_ns()}"
    version.mkdir(parents=True)
    for name, value in keys.items():
        (version / name).write_text(value)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    former = (folder / "..data").resolve() if (folder / "..data").exists() else None
    (folder / "..next").symlink_to(version.name)
    (folder / "..next").rename(folder / "..data")
    if former is not None:
        shutil.rmtree(former)


EVERYTHING = [
    {
        "Effect": "Allow",
        "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"],
        "Resource": ["arn:aws:s3:::lab", "arn:aws:s3:::lab/*"],
    }
]


def keys_of(account: S3Server) -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": account.access_key, "AWS_SECRET_ACCESS_KEY": account.secret_key + "\n"}
