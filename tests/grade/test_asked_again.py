"""Checks that fail for a reason outside of the answer are repeated, alone and in a new process; remaining errors are
reported.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from tests.grade.tasks import code_task, grades_of
from workloads.benchmarks.model import Suite
from workloads.grade.__main__ import main
from workloads.graders.checking import client
from workloads.graders.checking.client import AnswerCheck, Check, CheckFailed, check_all
from workloads.graders.code.grader import CodeCheck
from workloads.sandbox import pool
from workloads.sandbox.order import Lost, Order, Outcome, SandboxLimits
from workloads.sandbox.pool import Options, run_all
from workloads.storage.base import Store, open_store

pytestmark = pytest.mark.slow

SUITE = Suite("tests", ('["l",1]',), ("2",), (0.0,))
LIMITS = SandboxLimits(cpu_seconds=(1.0,), total_cpu_seconds=2.0, wall_factor=0.1, wall_extra_seconds=1.0)
ORDER = Order("k", "def double(x):\n    return 2 * x\n", "double", SUITE.arguments, LIMITS)

AnyServer = TypeVar("AnyServer", client.CheckingServer, pool.SandboxServer)


class Killer:
    """Starts real servers, and kills the first `victims` of them before they get a request."""

    def __init__(self, victims: float) -> None:
        self.victims = victims
        self.pids: list[int] = []

    def checker(self) -> client.CheckingServer:
        return self._after(client.CheckingServer())

    def sandbox(self, options: Options) -> pool.SandboxServer:
        return self._after(pool.SandboxServer(options))

    def _after(self, server: AnyServer) -> AnyServer:
        self.pids.append(server.pid)
        if len(self.pids) <= self.victims:
            os.kill(server.pid, signal.SIGKILL)
        return server


def test_a_checker_that_is_killed_once_is_asked_again_and_the_answer_is_right() -> None:
    killer = Killer(1)
    checked = check_all({"a": AnswerCheck("math", "0.5", r"\frac{1}{2}")}, 2, start=killer.checker)
    (reply,) = checked.replies.values()
    assert isinstance(reply, dict)
    assert reply["right"]
    assert checked.asked_again == 1
    assert len(set(killer.pids)) == 2


def test_a_checker_that_is_always_killed_gives_no_verdict() -> None:
    outcome = Outcome("k", "finished", ("2",), (0.0,), "", 0.0, 0.0)
    checks: dict[str, Check] = {
        "math": AnswerCheck("math", "5", "5"),
        "code": CodeCheck("code", SUITE, lambda: outcome),
    }
    checked = check_all(checks, 1, start=Killer(float("inf")).checker)
    for reply in checked.replies.values():
        assert isinstance(reply, CheckFailed)
        assert (reply.cause, reply.tries) == ("checker_lost", 2)
    assert checked.asked_again == 2


def test_a_sandbox_that_is_killed_once_runs_the_program_again() -> None:
    (outcome,) = run_all([ORDER], 1, start=Killer(1).sandbox)
    assert isinstance(outcome, Outcome)
    assert (outcome.end, outcome.values, outcome.tries) == ("finished", ("2",), 2)


def test_a_sandbox_that_is_always_killed_loses_the_order_and_no_other() -> None:
    outcomes = {o.key: o for o in run_all([ORDER, replace(ORDER, key="l")], 2, start=Killer(float("inf")).sandbox)}
    assert set(outcomes) == {"k", "l"}
    assert all(isinstance(o, Lost) and o.tries == 2 for o in outcomes.values())


LARGE = "held = bytearray(200 << 20)\n    held[::4096] = bytes(len(held[::4096]))\n    "


def test_a_program_that_a_kernel_without_memory_may_have_killed_is_run_again_alone() -> None:
    (outcome,) = run_all(
        [replace(ORDER, program=f"def double(x):\n    {LARGE}import os; os.kill(os.getpid(), 9)\n")], 1
    )
    assert isinstance(outcome, Outcome)
    assert (outcome.end, outcome.doubtful, outcome.tries) == ("memory", True, 2)


@pytest.mark.parametrize(
    ("body", "end"),
    [("import os; os.kill(os.getpid(), 9)", "memory"), ("import time; time.sleep(60)", "timeout")],
)
def test_a_program_that_kills_itself_or_waits_is_run_once(body: str, end: str) -> None:
    """A kernel without memory does not kill a small process, and the machine had time for a process that waits."""
    (outcome,) = run_all([replace(ORDER, program=f"def double(x):\n    {body}\n")], 1)
    assert isinstance(outcome, Outcome)
    assert (outcome.end, outcome.doubtful, outcome.tries) == (end, False, 1)


class Starved(pool.SandboxServer):
    """A real server on a machine that gives its programs no processor time: the first `times` outcomes have this
    result.
    """

    def __init__(self, options: Options, times: list[int]) -> None:
        super().__init__(options)
        self.times = times

    def execute(self, order: Order) -> Outcome:
        outcome = super().execute(order)
        self.times[0] -= 1
        return (
            outcome if self.times[0] < 0 else replace(outcome, end="timeout", detail="test 0, wall time", doubtful=True)
        )


@pytest.mark.parametrize(("times", "kind"), [(1, Outcome), (2, Lost)])
def test_a_program_that_gets_no_processor_time_is_run_again_and_never_called_wrong_for_it(
    times: int, kind: type
) -> None:
    left = [times]
    (outcome,) = run_all([ORDER], 1, start=lambda options: Starved(options, left))
    assert isinstance(outcome, kind)
    assert outcome.tries == 2


def test_second_runs_end_after_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "AGAIN_SECONDS", -1.0)
    program = f"def double(x):\n    {LARGE}import os; os.kill(os.getpid(), 9)\n"
    (killed,) = run_all([replace(ORDER, program=program)], 1)
    assert isinstance(killed, Outcome)
    assert (killed.end, killed.tries) == ("memory", 1)
    left = [9]
    (starved,) = run_all([ORDER], 1, start=lambda options: Starved(options, left))
    assert isinstance(starved, Lost)


def test_a_program_out_of_cpu_time_is_run_once() -> None:
    order = replace(ORDER, program="while True: pass\n", limits=SandboxLimits((1.0,), 1.0))
    (outcome,) = run_all([order], 1)
    assert isinstance(outcome, Outcome)
    assert (outcome.end, outcome.tries) == ("timeout", 1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "store").mkdir()
    return open_store((tmp_path / "store").as_uri())


def _grade_with(
    victims: float, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, dict[str, str]]:
    """Grades a task of three programs while checkers are killed.

    Returns (repeated checks, verdict by problem at the largest budget).
    """
    task = code_task(store, tmp_path)
    monkeypatch.setenv("POTSTILL_STORE", store.url)
    killer = Killer(victims)
    real: Callable[..., client.Checked] = check_all
    monkeypatch.setattr("workloads.grade.grading.check_all", lambda c, w, ended: real(c, w, ended, killer.checker))
    assert main([task.key]) == 0
    record, grades = grades_of(store, task, tmp_path / "read")
    whole = record.budgets[-1]
    assert whole.errors == sum(g.verdict == "grader_error" for g in grades if g.budget_tokens == whole.budget)
    return record.asked_again, {g.problem: g.verdict for g in grades if g.budget_tokens == whole.budget}


def test_the_record_says_how_often_was_asked_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_again, verdicts = _grade_with(1, store, tmp_path, monkeypatch)
    assert asked_again == 1
    assert verdicts == {"d0": "right", "d1": "wrong", "d2": "right"}


def test_errors_that_stay_are_recorded_and_are_not_wrong_answers(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_again, verdicts = _grade_with(float("inf"), store, tmp_path, monkeypatch)
    assert asked_again == 3
    assert verdicts == dict.fromkeys(("d0", "d1", "d2"), "grader_error")
