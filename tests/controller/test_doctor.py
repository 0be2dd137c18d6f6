"""`potstill doctor`: every line states what was found on the real machine, store or hub, and what to do."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from controller.cli import machine_checks
from controller.cli.checks import Check, made
from controller.cli.machine_checks import check_gpu, check_gpus, check_memory, check_sandbox, check_vllm
from controller.cli.place_checks import check_disks, check_store
from controller.executors.local.machine import Gpu, visible_gpus
from tests.tools.s3 import S3Server, s3_server

BASE = Path(__file__).parents[2] / "examples" / "quickstart" / "base"
no_gpu = pytest.mark.skipif(bool(visible_gpus()), reason="tests the messages for a machine without a GPU")


def test_a_store_directory_is_written_to_and_left_as_it_was(tmp_path: Path) -> None:
    found = check_store(str(tmp_path))
    assert (found.state, found.finding) == ("good", f"{tmp_path.as_uri()}: conditional writes work")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and ".locks" not in path.parts]


def test_a_store_directory_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    found = check_store(str(tmp_path / "lab" / "store"))
    assert found.state == "good"
    assert "the first run creates the directory" in found.finding
    assert list(tmp_path.iterdir()) == []


def test_a_store_below_a_file_blocks(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert check_store(str(tmp_path / "file")).state == "blocks"


def test_a_url_that_is_not_a_store_blocks_with_a_message_that_names_valid_ones() -> None:
    found = check_store("http://lab")
    assert found.state == "blocks"
    assert "s3://bucket/prefix" in found.todo


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment().items():
            patch.setenv(name, value)
        yield server


@pytest.mark.s3
def test_a_bucket_is_written_to_under_conditions_and_left_empty(server: S3Server) -> None:
    found = check_store(f"s3://{server.bucket}/mine")
    assert (found.state, found.finding) == ("good", f"s3://{server.bucket}/mine: conditional writes work")
    assert server.client().list_objects_v2(Bucket=server.bucket)["KeyCount"] == 0


@pytest.mark.s3
def test_a_bucket_that_may_only_be_read_blocks(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = [f"arn:aws:s3:::{server.bucket}", f"arn:aws:s3:::{server.bucket}/*"]
    reader = server.account([{"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": everything}])
    for name, value in reader.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("POTSTILL_STORE_DEADLINE_SECONDS", "2")
    found = check_store(f"s3://{server.bucket}/mine")
    assert (found.state, found.todo) == ("blocks", "check credentials, endpoint, bucket and permissions")


def test_the_disks_of_cache_hub_and_store_have_a_line_each(tmp_path: Path) -> None:
    assert [check.name for check in check_disks(str(tmp_path))] == [
        "disk of cache",
        "disk of hub cache",
        "disk of store",
    ]
    assert [check.name for check in check_disks("s3://lab/x")] == ["disk of cache", "disk of hub cache"]


def test_a_base_is_compared_with_memory() -> None:
    _, found = check_memory(BASE)
    assert (found.state, found.name) == ("good", "base in memory")


def test_a_base_without_weights_blocks(tmp_path: Path) -> None:
    assert list(check_memory(tmp_path))[-1].state == "blocks"


@pytest.mark.parametrize(
    ("used", "capability", "state", "told"),
    [
        (0.6, (9, 0), "good", "NVIDIA H200, 139.8 GiB"),
        (52.4, (9, 0), "advice", "NVIDIA H200, 139.8 GiB, of which other programs use 52.4 GiB"),
        (0.6, (7, 0), "advice", "NVIDIA H200, 139.8 GiB: does not compute in bfloat16"),
    ],
)
def test_a_gpu_that_others_use_or_without_bfloat16_gets_advice(
    used: float, capability: tuple[int, int], state: str, told: str
) -> None:
    gpu = Gpu("GPU-aaaa", "NVIDIA H200", int(139.8 * 2**30), capability, int(used * 2**30))
    found = check_gpu("GPU 0", gpu)
    assert (found.name, found.state, found.finding) == ("GPU 0", state, told)


@no_gpu
def test_a_machine_without_a_gpu_gets_a_message() -> None:
    (found,) = check_gpus()
    assert (found.name, found.state) == ("GPU", "good")
    assert "everything runs on the CPU" in found.finding
    assert check_vllm().state == "good"


def test_the_sandbox_names_its_layers_or_what_is_missing() -> None:
    found = check_sandbox()
    assert "resource limits" in found.finding or found.todo


def test_a_check_that_crashes_is_a_line() -> None:
    def crash() -> Check:
        raise RuntimeError("first line\nsecond")

    (found,) = made("torch", crash)
    assert (found.state, found.finding) == ("advice", "could not be checked: RuntimeError: first line")


@pytest.mark.parametrize(
    ("code", "told"),
    [("import no_such_module", "No module named 'no_such_module'"), ("import os; os.abort()", "exit code -6")],
)
def test_an_import_that_fails_or_crashes_is_reported_in_a_line(code: str, told: str) -> None:
    found, error = machine_checks._in_python(code)
    assert found is None
    assert told in error


HUB_LINES = """
import dataclasses, json, sys
from controller.cli.place_checks import check_hub
print(json.dumps([dataclasses.asdict(check_hub(base)) for base in json.loads(sys.argv[1])]))
"""


def hub_lines(bases: list[str | None], **environment: str) -> list[Check]:
    """Runs in a separate process, because the hub's library reads its variables on import."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    command = [sys.executable, "-c", HUB_LINES, json.dumps(bases)]
    done = subprocess.run(command, env=inherited | environment, capture_output=True, text=True, check=True)
    return [Check(**line) for line in json.loads(done.stdout)]


@pytest.mark.slow
def test_a_hub_that_is_switched_off_has_only_its_cache(tmp_path: Path) -> None:
    plain, base = hub_lines([None, "lab/tiny"], HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert (plain.state, base.state) == ("good", "blocks")
    assert f"lab/tiny is not in the hub cache, and HF_HUB_OFFLINE is set, HF_HOME {tmp_path}" in base.finding


@pytest.fixture
def hub() -> Iterator[str]:
    """A server that answers as the hub does for a gated model and for one that does not exist."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            code = {"/": 200, "/lab/gated/resolve/main/config.json": 403}.get(self.path, 404)
            self.send_response(code)
            if code != 200:
                self.send_header("X-Error-Code", "GatedRepo" if code == 403 else "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.slow
def test_a_hub_that_answers_says_what_it_has(hub: str, tmp_path: Path) -> None:
    settings = {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path), "HF_TOKEN": "hf_secret"}
    found, gated, missing = hub_lines([None, "lab/gated", "lab/none"], **settings)
    assert (found.state, found.finding) == ("good", f"{hub} answers, HF_HOME {tmp_path}, a token is set")
    assert (gated.state, gated.todo) == ("blocks", "accept its terms on the hub and set HF_TOKEN")
    assert (missing.state, missing.todo) == ("blocks", "check the name; for a private model set HF_TOKEN")
    assert "hf_secret" not in f"{found}{gated}{missing}"


@pytest.mark.slow
def test_a_hub_that_does_not_answer_blocks_only_a_base_of_it(tmp_path: Path) -> None:
    plain, base = hub_lines([None, "lab/tiny"], HF_ENDPOINT="http://127.0.0.1:1", HF_HOME=str(tmp_path))
    assert (plain.state, base.state) == ("advice", "blocks")


@pytest.mark.slow
def test_the_command_says_it_all_as_json_and_exits_0_where_a_run_can_succeed(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "controller.cli", "doctor", "--json", "--store", str(tmp_path)]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([*command, "--base", str(BASE)], capture_output=True, text=True, env=offline)
    found = json.loads(done.stdout)
    assert (done.returncode, done.stderr, found["blocked"]) == (0, "", False)
    assert {check["name"] for check in found["checks"]} >= {"Python", "GPU", "torch", "vLLM", "sandbox", "store", "hub"}
