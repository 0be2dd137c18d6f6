"""If a checking server is killed or late, the wait ends and no process is left."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from workloads.graders.checking.client import AnswerCheck, CheckingServer

pytestmark = pytest.mark.slow
ENDLESS = AnswerCheck("math", r"\sin(xyz)=\cos(x+y+z)", "5x - 7y + 11z + 4 = 0").to_json()
DEADLINE_SECONDS = 60.0


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.01)


def _child_of(pid: int) -> int:
    """The only child of a process, once there is one and it computes."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    _until(lambda: bool(path.read_text().split()))
    return int(path.read_text().split()[0])


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def _asked(server: CheckingServer) -> tuple[threading.Thread, list[object]]:
    found: list[object] = []

    def ask() -> None:
        try:
            found.append(server.ask(ENDLESS))
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    return thread, found


def test_a_server_that_is_killed_while_its_child_computes_ends_the_wait_and_the_child() -> None:
    server = CheckingServer()
    assert isinstance(server.ask(AnswerCheck("math", "0.5", r"\frac{1}{2}").to_json()), dict)
    child = _child_of(server.pid)
    thread, found = _asked(server)
    os.kill(server.pid, signal.SIGKILL)
    thread.join(DEADLINE_SECONDS)
    assert [type(reply) for reply in found] in ([OSError], [BrokenPipeError])
    server.kill()
    _until(lambda: _is_gone(child))
    _until(lambda: _is_gone(server.pid))


def test_a_server_that_is_late_is_given_up_and_killed_with_its_child() -> None:
    server = CheckingServer(late_seconds=DEADLINE_SECONDS)
    server.ask(AnswerCheck("math", "0.5", r"\frac{1}{2}").to_json())
    child = _child_of(server.pid)
    os.kill(server.pid, signal.SIGSTOP)
    server._late_seconds = 0.2
    thread, found = _asked(server)
    thread.join(DEADLINE_SECONDS)
    assert isinstance(found[0], TimeoutError)
    server.kill()
    _until(lambda: _is_gone(child))
    _until(lambda: _is_gone(server.pid))


def test_a_child_holds_no_descriptor_of_its_server_but_its_pipes_and_has_a_limit_of_its_own() -> None:
    server = CheckingServer()
    server.ask(AnswerCheck("math", "0.5", r"\frac{1}{2}").to_json())
    child = _child_of(server.pid)
    links = {int(path.name): str(path.readlink()) for path in Path(f"/proc/{child}/fd").iterdir()}
    assert links[0] == links[1] == "/dev/null"
    shared = {str(Path(f"/proc/{server.pid}/fd/{number}").readlink()) for number in (0, 1)}
    assert not shared & set(links.values())
    cpu = next(
        line for line in Path(f"/proc/{child}/limits").read_text().splitlines() if line.startswith("Max cpu time")
    )
    assert cpu.split()[3].isdigit()
    server.close()
    _until(lambda: _is_gone(child))
