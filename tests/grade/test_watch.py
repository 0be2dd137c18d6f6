"""A candidate's output is hostile: every status and every stream of frames becomes an outcome."""

import os
import struct
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.sandbox import lock, server
from workloads.sandbox.order import ENDS, Order, SandboxLimits
from workloads.sandbox.place import PrivateFolder
from workloads.sandbox.watch import OWN_RESIDENT_BYTES, ProcessEnd, Time, Watch, end_of, signal_name, waited_seconds
from workloads.typed_json import encode

LIMITS = SandboxLimits((1.0, 2.0), 3.0, output_bytes=5_000)
ORDER = Order("k", "", "f", ("[]", "[]"), LIMITS)


def frame(kind: bytes, text: bytes, length: int | None = None) -> bytes:
    return kind + struct.pack(">I", len(text) if length is None else length) + text


def watch_of(data: bytes, cpu_seconds: float = 0.0) -> Watch:
    watch = Watch(ORDER)
    watch.take(data, cpu_seconds)
    return watch


STATES = (b"", b"L", b"LS", b"LST", b"LST" + frame(b"V", b"1"), b"LSX", b"?", b"LS" + frame(b"X", b'["E",""]'))
OUT_OF: tuple[Time | None, ...] = (None, "CPU", "wall", "waiting")


def test_every_wait_status_is_an_outcome() -> None:
    running = watch_of(b"LST")
    for status in range(1 << 16):
        assert end_of(running, None, status).end in ENDS
    for data, out_of, status in product(STATES, OUT_OF, (None, *range(0, 1 << 16, 251))):
        assert end_of(watch_of(data), out_of, status).end in ENDS


@pytest.mark.parametrize(
    ("status", "end", "detail"),
    [
        (35, "crash", "ended by signal 35"),
        (63 | 0x80, "crash", "ended by signal 63"),
        (11 | 0x80, "crash", "ended by SIGSEGV"),
        (24, "timeout", "CPU limit"),
        (9, "memory", "killed, as by a kernel without memory"),
        (3 << 8, "exit", "the process ended by itself with 3"),
        (0x137F, "crash", "wait status 0x137f"),
    ],
)
def test_how_a_process_ended(status: int, end: str, detail: str) -> None:
    ended = end_of(watch_of(b"LS"), None, status)
    assert (ended.end, ended.detail) == (end, detail)


def test_signals_without_a_name_have_their_number() -> None:
    assert [signal_name(n) for n in (9, 32, 35, 63, 65, 127)] == [
        "SIGKILL", "signal 32", "signal 35", "signal 63", "signal 65", "signal 127",
    ]  # fmt: skip


def test_a_small_process_that_was_killed_killed_itself() -> None:
    """A kernel without memory kills a large process: only that is repeated."""
    assert not end_of(watch_of(b"LS"), None, 9, OWN_RESIDENT_BYTES).doubtful
    assert end_of(watch_of(b"LS"), None, 9, OWN_RESIDENT_BYTES + 1).doubtful


FRAMES = st.one_of(
    st.sampled_from([b"L", b"S", b"T", b"D", b"V", b"X", b"?", b"LS"]),
    st.binary(max_size=12),
    st.builds(frame, st.sampled_from([b"V", b"X"]), st.binary(max_size=40)),
    st.builds(frame, st.sampled_from([b"V", b"X"]), st.binary(max_size=9), st.integers(0, 2**32 - 1)),
    st.builds(
        frame,
        st.just(b"X"),
        st.sampled_from([
            b"[" * 5_000, b'["a"]', b'{"a":1,"b":2}', b"[" * 900 + b"]" * 900, b'["\\ud800", 3]', b"9" * 4_900, b"NaN",
            b"[[" + b"[" * 400 + b"]" * 400 + b"], []]",
        ]),
    ),
)  # fmt: skip


@given(st.lists(FRAMES, max_size=12), st.lists(st.integers(1, 60), max_size=6), st.floats(0, 100))
def test_every_stream_of_frames_is_an_outcome(frames: list[bytes], cuts: list[int], cpu_seconds: float) -> None:
    data = b"".join(frames)
    watch = Watch(ORDER)
    for cut in [*cuts, len(data)]:
        if not watch.over:
            watch.take(data[:cut], cpu_seconds)
        data = data[cut:]
    for out_of in OUT_OF:
        ended = end_of(watch, out_of, 0)
        assert ended.end in ENDS
        ended.detail.encode()
    assert len(watch.values) <= 2
    assert not watch.finished or len(watch.values) == 2 or watch.late
    assert watch.limit() > 0


def ground_of(private: PrivateFolder | None = None) -> server.Ground:
    """Of candidates that may open no file."""
    locks = lock.prepare([], [], None, use_landlock=False)
    return server.Ground(locks, private, os.open(os.devnull, os.O_RDWR), own_processes=False)


def test_an_exception_of_the_watcher_is_an_outcome_once_the_program_may_have_run() -> None:
    class Failing(Watch):
        def take(self, data: bytes, cpu_in_stage: float) -> bool:
            super().take(data[:1], cpu_in_stage)
            raise UnicodeError("hostile")

    order = replace(ORDER, program="import time\n\ndef f():\n    time.sleep(60)", entry_point="f")
    outcome = server.execute(order, ground_of(), Failing(order))
    assert (outcome.end, outcome.detail) == ("flood", "the watcher could not read it: UnicodeError: hostile")


def _stream(*tests: tuple[bytes, float]) -> Watch:
    """A value of each test, and the CPU seconds between two reads."""
    watch = watch_of(b"LS")
    for value, seconds in tests:
        watch.take(b"T", 0.0)
        watch.take(frame(b"V", value), seconds)
    return watch


def test_call_and_encoding_of_a_test_share_one_limit_whenever_the_candidate_says_that_it_returned() -> None:
    assert not _stream((b"1", 1.0)).late
    late = _stream((b"1", 0.5), (b"1", 2.6))
    assert (late.late, late.values) == (True, ["1"])
    assert end_of(late, None, 0) == ProcessEnd("timeout", "test 1, CPU time")


def test_values_that_are_read_at_once_share_the_limits_of_their_tests() -> None:
    watch = watch_of(b"LS")
    watch.take((b"T" + frame(b"V", b"1")) * 2, 2.9)
    assert not watch.late
    watch = watch_of(b"LS")
    watch.take((b"T" + frame(b"V", b"1")) * 2, 3.3)
    assert (watch.late, watch.values) == (True, [])


def test_a_large_value_earns_time_for_its_encoding() -> None:
    digest = b'["H","%s",400000]' % (b"0" * 64)
    assert not _stream((digest, 4.9)).late
    assert _stream((digest, 5.3)).late
    huge = b'["H","%s",999999999999999]' % (b"0" * 64)
    assert _stream((huge, 1.0 + LIMITS.encode_cpu_seconds + 0.2)).late


def test_before_the_call_has_returned_there_is_no_more_time_than_the_tests() -> None:
    watch = watch_of(b"LS")
    assert watch.limit() == 1.0
    watch.take(b"T", 0.5)
    assert watch.limit() == 1.0 + LIMITS.encode_cpu_seconds


def test_waiting_is_what_a_candidate_does_not_use_of_a_machine_that_is_free() -> None:
    assert waited_seconds(1.0, 0.0, 1.0) == 1.0
    assert waited_seconds(1.0, 0.25, 1.0) == 0.0
    assert waited_seconds(1.0, 0.1, 0.2) == 0.0
    assert waited_seconds(1.0, 0.0, 0.0) == 1.0


def test_time_without_a_processor_is_doubtful_and_waiting_is_not() -> None:
    watch = watch_of(b"LS")
    assert end_of(watch, "wall", None).doubtful
    assert not end_of(watch, "waiting", None).doubtful
    assert not end_of(watch, "CPU", None).doubtful


def test_a_folder_that_cannot_be_deleted_does_not_lose_the_outcome(tmp_path: Path) -> None:
    dropped: list[str] = []

    class Stays(PrivateFolder):
        def renew(self) -> None:
            """It is new."""

        def drop(self) -> None:
            dropped.append(self.path)
            raise PermissionError(self.path)

    order = replace(ORDER, program="def f():\n    return 1", entry_point="f", arguments=(encode([]),) * 2)
    outcome = server.execute(order, ground_of(Stays(str(tmp_path))))
    assert (outcome.end, outcome.detail, outcome.values) == ("finished", "", (encode(1),) * 2)
    assert dropped == [str(tmp_path)]
