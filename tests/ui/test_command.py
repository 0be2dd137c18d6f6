"""`potstill ui`: the address of its server, and its messages when it cannot start."""

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from controller.cli import app
from tests.ui.server import Site
from tests.ui.stores import two_runs, write
from workloads.storage.base import open_store

pytestmark = pytest.mark.slow


def potstill(*words: str) -> Result:
    return CliRunner().invoke(app, ["ui", *words], env={"COLUMNS": "400"})


@contextmanager
def running(*words: str) -> Iterator[tuple[subprocess.Popen[str], Site, str]]:
    command = [sys.executable, "-P", "-m", "controller.cli", "ui", *words, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.match(r"http://.+?:(\d+)/ shows ", line)
            assert found is not None, line
            yield process, Site(int(found[1])), line
        finally:
            process.terminate()


def test_it_prints_its_address_listens_on_this_machine_only_and_ends_at_a_signal(tmp_path: Path) -> None:
    store = open_store((tmp_path / "store").as_uri())
    write(store, two_runs())
    with running(str(tmp_path / "store")) as (process, page, line):
        assert line.startswith("http://127.0.0.1:")
        assert [one["id"] for one in page.json("/api/experiments")["experiments"]] == ["distill@aaaa0000"]
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.2", page.port), timeout=5)
        process.terminate()
        assert process.wait(30) in (0, -15)


def test_another_address_is_warned_of_and_its_names_are_checked(tmp_path: Path) -> None:
    open_store((tmp_path / "store").as_uri())
    with running(str(tmp_path / "store"), "--host", "0.0.0.0", "--allow-host", "lab.example") as (process, page, _):
        assert page.get("/", headers={"Host": "lab.example"}).status == 200
        assert page.get("/", headers={"Host": "evil.example"}).status == 400
        process.terminate()
        assert process.stderr is not None
        assert "there is no password" in process.stderr.read()


def test_a_port_in_use_gives_a_message_with_a_remedy(tmp_path: Path) -> None:
    open_store((tmp_path / "store").as_uri())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = potstill(str(tmp_path / "store"), "--port", str(taken.getsockname()[1]))
    assert (refused.exit_code, "--port 0 takes a free one" in refused.output) == (2, True)


@pytest.mark.parametrize("name", ["*", "lab.example:80", "http://lab.example", "*lab", ""])
def test_only_names_can_be_allowed(tmp_path: Path, name: str) -> None:
    open_store((tmp_path / "store").as_uri())
    refused = potstill(str(tmp_path / "store"), "--allow-host", name)
    assert (refused.exit_code, "is not a name" in refused.output) == (2, True)


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    refused = potstill(str(tmp_path / "nothing"))
    assert "potstill run makes it" in str(refused.exception)
    assert not (tmp_path / "nothing").exists()


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    program = "import sys; sys.modules['starlette'] = None; from controller.cli import main; sys.argv = ['potstill', 'ui']; main()"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert (done.returncode, "with its extra `ui`" in done.stderr) == (2, True)
