import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from tests.evaluate.world import World
from workloads.engines.watchdog import Watchdog, children_of

pytestmark = pytest.mark.long


def watched(ended: threading.Event, messages: list[str]) -> Watchdog:
    def end(message: str, stacks: str) -> None:
        messages.extend([message, stacks])
        ended.set()

    return Watchdog(end, poll_seconds=0.01)


def test_an_engine_without_tokens_is_ended_with_its_stacks() -> None:
    ended, messages = threading.Event(), list[str]()
    with watched(ended, messages) as watchdog:
        watchdog.expect("generating", 0.05, lambda: 7)
        assert ended.wait(10)
    assert messages[0].startswith("generating: no progress for")
    assert "test_an_engine_without_tokens" in messages[1]


def test_an_engine_that_moves_or_rests_is_let_be() -> None:
    ended, messages, tokens = threading.Event(), list[str](), 0

    def alive() -> int:
        nonlocal tokens
        tokens += 1
        return tokens

    with watched(ended, messages) as watchdog:
        watchdog.expect("generating", 0.05, alive)
        assert not ended.wait(0.3)
        watchdog.rest()
        assert not ended.wait(0.3)
    assert tokens > 5


def test_steps_that_return_without_a_token_are_an_engine_that_hangs() -> None:
    ended, messages = threading.Event(), list[str]()
    with watched(ended, messages) as watchdog:
        deadline = time.monotonic() + 30
        while not ended.is_set() and time.monotonic() < deadline:
            watchdog.expect("generating", 0.2, lambda: 7)
            ended.wait(0.03)  # a step, shorter than the limit
            watchdog.rest()
    assert messages, "no step took as long as the limit, all together did"


@pytest.mark.slow
def test_a_number_that_moves_between_steps_is_a_sign_of_life() -> None:
    ended, messages = threading.Event(), list[str]()
    with watched(ended, messages) as watchdog:
        for tokens in range(20):
            watchdog.expect("generating", 2.0, partial(int, tokens))
            ended.wait(0.2)
            watchdog.rest()
    assert not messages


@pytest.mark.slow
def test_time_at_rest_is_not_the_engines() -> None:
    """For example, during a commit to a slow store."""
    ended, messages = threading.Event(), list[str]()
    with watched(ended, messages) as watchdog:
        for _ in range(3):
            watchdog.expect("generating", 3.0, lambda: 7)
            watchdog.rest()
            assert not ended.wait(1.5)
        watchdog.expect("generating", 3.0, lambda: 7)
        assert not ended.wait(0.1)
        watchdog.rest()
    assert not messages


@pytest.mark.slow
def test_another_activity_and_one_without_a_number_start_the_deadline_again() -> None:
    ended, messages = threading.Event(), list[str]()
    with watched(ended, messages) as watchdog:
        for _ in range(4):
            watchdog.expect("generating", 2.0, lambda: 7)
            ended.wait(0.4)
            watchdog.expect("loading an adapter", 2.0, lambda: 7)
            ended.wait(0.4)
            watchdog.rest()
        for _ in range(8):
            watchdog.expect("starting the engine", 2.0)
            ended.wait(0.4)
            watchdog.rest()
    assert not messages


HANGING = """
import sys, time
from workloads.api.tasks import GenerateTask
from workloads.evaluate import program
from workloads.engines.transformers.engine import TransformersEngine
from workloads.program import run_program

def hang_in_step(self):
    time.sleep(3600)

TransformersEngine.step = hang_in_step
program.STALL_SECONDS = 0.5
sys.exit(run_program(GenerateTask, program.evaluate))
"""


@pytest.mark.slow
def test_a_hung_program_ends_and_its_failure_shows_where(dense: Path, tmp_path: Path) -> None:
    world = World(tmp_path, dense)
    member = world.member()
    task = world.order(member)
    environment = os.environ | {"POTSTILL_STORE": world.url}
    ended = subprocess.run(
        [sys.executable, "-c", HANGING, task.key], env=environment, timeout=120, capture_output=True, text=True
    )
    assert ended.returncode == 1
    failure = world.failure(member)
    assert failure is not None
    assert failure.reason == "EngineHung"
    assert failure.traceback is not None
    assert "hang_in_step" in failure.traceback
    assert "hang_in_step" in ended.stderr


FAMILY = {
    "parent.py": """
import os, subprocess, sys
from workloads.engines.watchdog import end_process, stacks_of_children
command = [sys.executable, sys.argv[1] + "/child.py", sys.argv[1], str(os.getpid())]
child = subprocess.Popen(command, stdout=subprocess.PIPE)
child.stdout.readline()
print(stacks_of_children(), file=sys.stderr, flush=True)
end_process(7)
""",
    "child.py": """
import subprocess, sys
subprocess.run([sys.executable, sys.argv[1] + "/grandchild.py", sys.argv[2]])
""",
    "grandchild.py": """
import sys, time
from workloads.engines.watchdog import listen_for_stack_requests
def hang_in_the_grandchild():
    print("hangs", flush=True)
    time.sleep(600)
listen_for_stack_requests(int(sys.argv[1]))
hang_in_the_grandchild()
""",
}


@pytest.mark.slow
def test_a_child_that_does_not_listen_leaves_no_grandchild_behind(tmp_path: Path) -> None:
    """vLLM's core is such a child, and its workers have the handler. A remaining process would keep stderr open."""
    for name, text in FAMILY.items():
        (tmp_path / name).write_text(text)
    command = [sys.executable, str(tmp_path / "parent.py"), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": str(tmp_path)}
    ended = subprocess.run(command, env=environment, timeout=60, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 7
    assert "hang_in_the_grandchild" in ended.stderr
    assert not list(tmp_path.glob("potstill-stacks-*"))


def test_children_are_found_with_their_children() -> None:
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    parent = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 30
        while len(children_of(parent.pid)) < 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        grandchildren = children_of(parent.pid)
        assert len(grandchildren) == 1
        assert set(children_of(os.getpid())) >= {parent.pid, *grandchildren}
    finally:
        for child in [*children_of(parent.pid), parent.pid]:
            os.kill(child, signal.SIGKILL)
        parent.wait()
