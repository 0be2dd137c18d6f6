"""The parts of the sandbox: the filter as data, the protocol, and parallel orders."""

import contextlib
import json
import random
import struct
import sysconfig
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.benchmarks.model import Suite
from workloads.graders.code.grader import limits_of
from workloads.sandbox.filter import ARCHITECTURES, program
from workloads.sandbox.order import Order, Outcome, SandboxLimits, outcome_from
from workloads.sandbox.place import readable_paths
from workloads.sandbox.pool import Options, SandboxServer, run_all
from workloads.sandbox.unsandboxed import run_unsandboxed
from workloads.sandbox.watch import Watch, end_of

LIMITS = SandboxLimits((1.0, 1.0), 3.0)
ORDER = Order("k", "", "f", ("[]", "[]"), LIMITS)
ALLOW, KILL, EPERM, ENOSYS, EACCES, ENOTTY = 0x7FFF0000, 0x80000000, 0x50001, 0x50026, 0x5000D, 0x50019


def _decide(code: bytes, architecture: int, number: int, *arguments: int) -> int:
    """Runs a classic BPF program on one system call, like the kernel."""
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=IIQ6Q", number, architecture, 0, *padded)
    lines = list(struct.iter_unpack("=HBBI", code))
    position, accumulator = 0, 0
    while True:
        operation, when_true, when_false, value = lines[position]
        position += 1
        if operation == 0x06:
            return int(value)
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        else:
            tests = {0x15: accumulator == value, 0x45: bool(accumulator & value), 0x35: accumulator >= value}
            position += when_true if tests[operation] else when_false


@pytest.mark.parametrize(
    ("number", "arguments", "decision"),
    [
        (0, (), ALLOW), (202, (), ALLOW), (41, (2, 1), EPERM), (53, (1,), EPERM), (57, (), EPERM), (58, (), EPERM),
        (56, (17,), EPERM), (56, (0x10000 | 0x100,), ALLOW), (435, (), ENOSYS), (59, (), EPERM), (101, (), EPERM),
        (62, (77, 9), ALLOW), (62, (1, 9), EPERM), (62, (0xFFFFFFFFFFFFFFFF, 9), EPERM), (234, (77,), ALLOW),
        (157, (15,), ALLOW), (157, (22,), EPERM), (16, (), ENOTTY), (257, (0, 0, 0), ALLOW), (257, (0, 0, 0x41), EACCES),
        (72, (3, 4), ALLOW), (72, (3, 0), ALLOW), (72, (3, 1030), ALLOW), (72, (3, 8), EPERM), (72, (3, 10), EPERM), (72, (3, 15), EPERM),
        (2, (0, 1), EACCES), (85, (), EACCES), (87, (), EPERM), (0x40000029, (), ENOSYS), (999, (), EPERM),
    ],
)  # fmt: skip
def test_the_filter_on_x86_64(number: int, arguments: tuple[int, ...], decision: int) -> None:
    assert _decide(program("x86_64", 77, "read"), 0xC000003E, number, *arguments) == decision


@pytest.mark.parametrize(
    ("number", "arguments", "decision"),
    [(63, (), ALLOW), (198, (2, 1), EPERM), (220, (17,), EPERM), (220, (0x10000,), ALLOW), (129, (77,), ALLOW),
     (129, (1,), EPERM), (56, (0, 0, 0), ALLOW), (56, (0, 0, 0x41), EACCES), (221, (), EPERM), (117, (), EPERM)],
)  # fmt: skip
def test_the_filter_on_aarch64(number: int, arguments: tuple[int, ...], decision: int) -> None:
    assert _decide(program("aarch64", 77, "read"), 0xC00000B7, number, *arguments) == decision


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_a_call_of_another_architecture_kills(machine: str) -> None:
    assert _decide(program(machine, 1, "private"), 0x40000003, 11) == KILL


def test_where_nothing_may_be_opened_reading_is_refused_too() -> None:
    assert _decide(program("x86_64", 1, "none"), 0xC000003E, 257, 0, 0, 0) == EACCES
    assert _decide(program("x86_64", 1, "private"), 0xC000003E, 257, 0, 0, 0x41) == ALLOW


def _frame(kind: bytes, text: str) -> bytes:
    return kind + struct.pack(">I", len(text)) + text.encode()


@given(st.lists(st.integers(1, 40)))
def test_frames_are_read_wherever_the_pipe_cuts_them(cuts: list[int]) -> None:
    data = b"LST" + _frame(b"V", "1") + b"T" + _frame(b"V", '"two"') + b"D"
    watch = Watch(ORDER)
    for cut in [*cuts, len(data)]:
        watch.take(data[:cut], 0.0)
        data = data[cut:]
    assert (watch.values, watch.finished, watch.broken) == (["1", '"two"'], True, None)


@given(
    st.lists(st.sampled_from([b"L", b"S", b"T", b"D", b"V", b"X", b"?", _frame(b"V", "1"), _frame(b"X", '["E",""]')]))
)
def test_no_stream_finishes_without_a_value_per_test(pieces: list[bytes]) -> None:
    watch = Watch(ORDER)
    for piece in pieces:
        if not watch.over:
            watch.take(piece, 0.0)
    assert not watch.finished or len(watch.values) == 2
    end_of(watch, None, 0)


@given(st.recursive(st.none() | st.integers() | st.text(max_size=4), lambda s: st.lists(s) | st.dictionaries(
    st.sampled_from(["key", "end", "values", "seconds", "detail", "cpu_seconds", "wall_seconds"]), s), max_leaves=8))  # fmt: skip
def test_an_invalid_outcome_raises_value_error(data: object) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(outcome_from(data), Outcome)


def test_limits_are_evalplus_s_rule() -> None:
    suite = Suite("plus", ("[]",) * 3, ("1",) * 3, (0.0, 0.2, 2.0))
    limits = limits_of(suite)
    assert (limits.cpu_seconds, limits.total_cpu_seconds) == ((1.0, 1.0, 8.0), 11.0)
    many = limits_of(Suite("plus", ("[]",) * 100, ("1",) * 100, (0.0,) * 100))
    assert many.total_cpu_seconds == 61.0


def test_the_memory_limit_is_beside_what_the_server_has() -> None:
    assert SandboxLimits((1.0,), 1.0).memory_bytes == 4 << 30


@pytest.mark.slow
def test_orders_run_side_by_side_and_each_outcome_is_its_own() -> None:
    orders = [
        Order(str(n), f"import random\ndef f(x):\n    return x * {n}, random.random()", "f", ('["l",2]',), LIMITS)
        for n in range(30)
    ]
    expected = random.Random(0).random()
    outcomes = {o.key: o for o in run_all(orders, workers=3) if isinstance(o, Outcome)}
    assert {key: o.values for key, o in outcomes.items()} == {
        str(n): (f'["t",{2 * n},{expected!r}]',) for n in range(30)
    }


@pytest.mark.slow
def test_waiting_a_little_in_every_test_does_not_add_up_to_hours() -> None:
    limits = replace(LIMITS, cpu_seconds=(1.0,) * 100, idle_seconds=2.0)
    order = Order("k", "import time\ndef f():\n    time.sleep(0.5)", "f", ('["l"]',) * 100, limits)
    (outcome,) = run_all([order], workers=1)
    assert isinstance(outcome, Outcome)
    assert (outcome.end, outcome.tries) == ("timeout", 1)
    assert 1 <= len(outcome.values) < 9
    assert "it waited" in outcome.detail


@pytest.mark.slow
def test_a_program_that_works_a_little_while_it_waits_is_waiting_too() -> None:
    limits = replace(LIMITS, idle_seconds=1.0, wall_factor=1000.0)
    order = Order("k", "import time\ndef f():\n    while True: time.sleep(0.01)", "f", ('["l"]',), limits)
    (outcome,) = run_all([order], workers=1)
    assert isinstance(outcome, Outcome)
    assert (outcome.end, outcome.doubtful) == ("timeout", False)


NUMPY_PROGRAM = """
import numpy as np
FIRST = np.random.random()
def f():
    return [FIRST, float(np.random.random()), float(np.random.default_rng().random())]
"""


@pytest.mark.slow
@pytest.mark.parametrize("namespaces", [True, False])
def test_numbers_that_numpy_draws_are_the_same_in_every_run(namespaces: bool) -> None:
    server = SandboxServer(Options(namespaces=namespaces, landlock=namespaces))
    try:
        first, second = (server.execute(Order("k", NUMPY_PROGRAM, "f", ('["l"]',), LIMITS)) for _ in range(2))
    finally:
        server.close()
    assert first.end == "finished"
    assert first.values == second.values
    state = np.random.RandomState(0)
    assert json.loads(first.values[0])[1:3] == [state.random(), state.random()]


@pytest.mark.slow
def test_a_program_without_numpy_does_not_load_it() -> None:
    order = Order("k", "import sys\ndef f():\n    return 'numpy' in sys.modules", "f", ('["l"]',), LIMITS)
    (outcome,) = run_all([order], workers=1)
    assert isinstance(outcome, Outcome)
    assert outcome.values == ("false",)


@pytest.mark.slow
def test_state_of_one_suite_is_not_seen_by_the_next() -> None:
    program_text = "import builtins\nn = getattr(builtins, 'n', 0)\nbuiltins.n = n + 1\ndef f():\n    return n"
    orders = [Order(str(n), program_text, "f", ('["l"]',), LIMITS) for n in range(3)]
    assert [o.values for o in run_all(orders, workers=1) if isinstance(o, Outcome)] == [("0",)] * 3


@pytest.mark.slow
def test_unsandboxed_runs_give_the_same_outcomes() -> None:
    for text, end in (("def f():\n    return {1}", "finished"), ("def f():\n    return 1 / 0", "exception"), ("x = 1", "missing_function")):  # fmt: skip
        outcome = run_unsandboxed(Order("k", text, "f", ('["l"]', '["l"]'), LIMITS))
        assert outcome.end == end
        assert outcome.values == (('["s",1]',) * 2 if end == "finished" else ())


def test_the_place_golds_are_imported_from_is_never_readable() -> None:
    """This matters if everything is installed in site-packages, which is inside the standard library's folder."""
    packages = Path(sysconfig.get_path("stdlib")) / "site-packages"
    paths = [Path(path) for path in readable_paths(packages)]
    assert any(path.name == "json" for path in paths)
    assert not [path for path in paths if packages.is_relative_to(path) or path.is_relative_to(packages)]
