"""A base from the hub, by a commit: every file has the content of that commit.

The hub is a stand-in with its protocol.
"""

import hashlib
import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme

from workloads.storage.content_digest import weights_name

pytestmark = pytest.mark.slow
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LOCATION, CONTENT = f"hub://lab/tiny@{COMMIT}", f"hub:lab/tiny@{COMMIT}"
FILES = {"config.json": b'{"a": 1}', "model.safetensors": b"weights" * 1000, "modeling.py": b"print('remote code')"}


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def sibling(name: str, data: bytes) -> dict[str, object]:
    """The hub API's entry for a file: large files by SHA-256, others only by git's hash."""
    told: dict[str, object] = {"rfilename": name, "size": len(data), "blobId": git_hash(data)}
    if name.endswith(".safetensors"):
        told["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return told


@pytest.fixture
def authority() -> trustme.CA | None:
    """The signer of the hub's certificate; None: the hub speaks HTTP."""
    return None


@pytest.fixture
def hub(authority: trustme.CA | None) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yields its URL and the files that it serves. The API lists FILES, whatever it serves."""
    served = dict(FILES)
    about = {"id": "lab/tiny", "sha": COMMIT, "siblings": [sibling(name, data) for name, data in FILES.items()]}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == f"/api/models/lab/tiny/revision/{COMMIT}":
                return self._answer(json.dumps(about).encode(), '"about"')
            name = path.removeprefix(f"/lab/tiny/resolve/{COMMIT}/")
            if name in served:
                return self._answer(served[name], f'"{git_hash(FILES[name])}"')
            return self.send_error(404)

        do_HEAD = do_GET  # noqa: N815

        def _answer(self, body: bytes, etag: str) -> None:
            self.send_response(200)
            for key, value in {"ETag": etag, "X-Repo-Commit": COMMIT, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if authority is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"http{'s' if authority else ''}://127.0.0.1:{server.server_address[1]}", served
    server.shutdown()
    server.server_close()


@pytest.fixture
def run(hub: tuple[str, dict[str, bytes]], tmp_path: Path) -> Callable[[], subprocess.CompletedProcess[str]]:
    own = {"HF_ENDPOINT": hub[0], "HF_HOME": str(tmp_path / "hf"), "POTSTILL_CACHE": str(tmp_path / "cache")}
    own |= {"POTSTILL_WEIGHTS": str(tmp_path / "volume"), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "workloads.prefetch", LOCATION, CONTENT]
    return lambda: subprocess.run(command, env=os.environ | own, capture_output=True, text=True, timeout=120)


def test_weights_and_configuration_arrive_and_code_does_not(
    run: Callable[[], subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = run()
    assert done.returncode == 0, done.stderr
    sealed = tmp_path / "volume" / weights_name(CONTENT)
    assert {path.name: path.read_bytes() for path in sealed.iterdir()} == {
        name: FILES[name] for name in ("config.json", "model.safetensors")
    }


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_that_is_not_what_the_commit_has_is_fetched_again(
    run: Callable[[], subprocess.CompletedProcess[str]], hub: tuple[str, dict[str, bytes]], tmp_path: Path, name: str
) -> None:
    hub[1][name] = bytes(len(FILES[name]))
    done = run()
    assert done.returncode == 16, done.stderr
    assert f"{name} did not arrive as the hub has it" in done.stderr
    assert not (tmp_path / "volume" / weights_name(CONTENT)).exists()
    hub[1][name] = FILES[name]
    assert run().returncode == 0


@pytest.mark.parametrize("authority", [trustme.CA()], ids=["private CA"])
def test_a_hub_under_a_private_ca_is_trusted_once_it_is_named(
    run: Callable[[], subprocess.CompletedProcess[str]],
    authority: trustme.CA,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    done = run()
    assert done.returncode == 16, done.stderr
    assert "name the CA in the chart's caBundle" in done.stderr
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    monkeypatch.setenv("POTSTILL_CA_BUNDLE", str(tmp_path / "ca.crt"))
    done = run()
    assert done.returncode == 0, done.stderr
