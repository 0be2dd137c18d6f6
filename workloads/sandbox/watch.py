"""The state of a candidate as seen from outside: the frames on its pipe, its clocks and its status, and how it ended.
No I/O.

All input may be hostile: no function here raises for any input.
"""

import json
import os
import re
import signal
import struct
from dataclasses import dataclass, field
from typing import Literal

from workloads.sandbox.order import End, Order

Time = Literal["CPU", "wall", "waiting"]
"""The exceeded limit. waiting: it waited too long although the machine had processor time for it."""
LATE_SECONDS = 0.1
"""CPU seconds that a candidate may use before the watcher reads its output."""
SECONDS_PER_BYTE, SECONDS_PER_NODE = 1e-6, 1e-5
"""CPU seconds that encoding may add to a test's limit, by the length of the value's text, or by the number of nodes in
a digest (which must equal that of the expected value). Measured: 4e-6 for a node of Mbpp/255.
"""
WAITED = "it waited"
"""The part of a time-out's detail that says that the candidate used little processor time."""
WAITING_SHARE = 4.0
"""A candidate that uses more than a quarter of the available processor time is not waiting."""
OWN_RESIDENT_BYTES = 96 << 20
"""A kernel without memory does not kill a process as small as this: the candidate killed itself."""
DISK_BLOCKS = 1_000
"""Blocks of 512 bytes.

A candidate that read more from disk may have waited for the disk, for example at a first import.
"""

_ADDRESS = re.compile(r"0x[0-9a-f]{6,}")
"""It differs in each run; grades must not."""
_DIGEST = re.compile(r'\["H","[0-9a-f]{64}",([0-9]{1,15})\]')
_SPECIAL_ENDS: dict[str, End] = {
    "MemoryError": "memory",
    "SyntaxError": "syntax_error",
    "IndentationError": "syntax_error",
    "TabError": "syntax_error",
    "MissingFunction": "missing_function",
    "SystemExit": "exit",
}


@dataclass
class Watch:
    """The data read from one candidate."""

    order: Order
    buffer: bytearray = field(default_factory=bytearray)
    received: int = 0
    values: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    locked: bool = False
    loaded: bool = False
    returned: bool = False
    finished: bool = False
    exception: list[str] | None = None
    broken: str | None = None
    late: bool = False

    def limit(self) -> float:
        """Returns the CPU seconds after which the current stage is ended.

        A test whose call has returned gets more time: `take` then decides by the size of the value whether it was in
        time.
        """
        limits = self.order.limits
        if not self.loaded:
            return limits.total_cpu_seconds
        return self._test_limit(len(self.values)) + (limits.encode_cpu_seconds if self.returned else 0.0)

    def _test_limit(self, index: int) -> float:
        limits = self.order.limits.cpu_seconds
        return limits[index] if index < len(limits) else 1.0

    def take(self, data: bytes, cpu_in_stage: float) -> bool:
        """Reads frames. Returns True if a stage ended with one.

        Sets `broken` if they do not follow the protocol, and `late` if the ended tests, calls and encoding together,
        exceeded their limit.
        """
        first, was_stage = len(self.values), (self.locked, self.loaded)
        self._read(data, cpu_in_stage)
        ended = self.values[first:]
        allowed = sum(self._test_limit(first + n) + self._earned(text) for n, text in enumerate(ended))
        if ended and cpu_in_stage > allowed + LATE_SECONDS:
            self.late = True
            del self.values[first:]
        return bool(ended) or was_stage != (self.locked, self.loaded)

    def _earned(self, text: str) -> float:
        """Returns the CPU seconds that encoding this value may use."""
        earned = len(text) * SECONDS_PER_BYTE
        digest = _DIGEST.fullmatch(text)
        if digest:
            earned += int(digest[1]) * SECONDS_PER_NODE
        return min(earned, self.order.limits.encode_cpu_seconds)

    def _read(self, data: bytes, cpu_in_stage: float) -> None:
        self.received += len(data)
        if self.received > self.order.limits.output_bytes:
            self.broken = "more output than allowed"
        self.buffer += data
        while self.broken is None and self.buffer and not self.over:
            kind = bytes(self.buffer[:1])
            length = 1
            text = ""
            if kind in (b"V", b"X"):
                if len(self.buffer) < 5:
                    break
                length = 5 + struct.unpack(">I", self.buffer[1:5])[0]
                if length > self.order.limits.output_bytes:
                    self.broken = "a frame longer than allowed"
                    break
                if len(self.buffer) < length:
                    break
                text = self.buffer[5:length].decode(errors="replace")
            self._frame(kind, text, cpu_in_stage)
            del self.buffer[:length]

    @property
    def over(self) -> bool:
        return self.finished or self.late or self.exception is not None or self.broken is not None

    def _frame(self, kind: bytes, text: str, cpu_in_stage: float) -> None:
        tests = len(self.order.arguments)
        if kind == b"L" and not self.locked:
            self.locked = True
        elif kind == b"S" and self.locked and not self.loaded:
            self.loaded = True
        elif kind == b"T" and self.loaded and not self.returned and len(self.values) < tests:
            self.returned = True
            self.seconds.append(cpu_in_stage)
        elif kind == b"V" and self.returned:
            self.returned = False
            self.values.append(text)
        elif kind == b"X":
            self.exception = _exception(text)
        elif kind == b"D" and self.loaded and len(self.values) == tests:
            self.finished = True
        else:
            self.broken = "not the protocol"


def _exception(text: str) -> list[str]:
    try:
        name, message = json.loads(text)
    except Exception:
        return ["Exception", "an unreadable description"]
    if type(name) is not str or type(message) is not str:
        return ["Exception", "an unreadable description"]
    return [name[:100], message[:500]]


def waited_seconds(wall: float, cpu: float, share: float) -> float:
    """Returns how long of `wall` seconds a candidate waited by its own choice, if it used `cpu` CPU seconds in them and
    the machine gave `share` of a processor to processes that wanted one. It is 0 as soon as the machine may be the
    reason.
    """
    return max(0.0, wall - WAITING_SHARE * cpu / max(share, 0.01))


@dataclass(frozen=True)
class ProcessEnd:
    """`doubtful`: the machine may have ended it, and not the program."""

    end: End
    detail: str
    doubtful: bool = False


def end_of(
    watch: Watch, out_of: Time | None, status: int | None, resident_bytes: int = 0, blocks: int = 0
) -> ProcessEnd:
    """Returns how the execution ended. `status`: from wait, None if the candidate had to be killed.

    `resident_bytes`: its peak memory. `blocks`: blocks of 512 bytes that it read from disk.
    """
    place = f"test {len(watch.values)}" if watch.loaded else "while loading"
    if out_of == "waiting":
        return ProcessEnd("timeout", f"{place}, wall time: {WAITED}", doubtful=blocks > DISK_BLOCKS)
    if out_of is not None:
        return ProcessEnd("timeout", f"{place}, {out_of} time", doubtful=out_of == "wall")
    if watch.broken is not None:
        return ProcessEnd("flood", watch.broken)
    if watch.late:
        return ProcessEnd("timeout", f"{place}, CPU time")
    if watch.finished:
        return ProcessEnd("finished", "")
    if watch.exception is not None:
        name, message = watch.exception
        shown = _ADDRESS.sub("0x...", f"{name}: {message}" if message else name)
        return ProcessEnd(_SPECIAL_ENDS.get(name, "exception"), shown)
    if status is None:
        return ProcessEnd("exit", "it closed its channel and continued")
    if os.WIFEXITED(status):
        return ProcessEnd("exit", f"the process ended by itself with {os.WEXITSTATUS(status)}")
    if not os.WIFSIGNALED(status):
        return ProcessEnd("crash", f"wait status {status:#x}")
    number = os.WTERMSIG(status)
    if number == signal.SIGXCPU:
        return ProcessEnd("timeout", "CPU limit")
    if number == signal.SIGKILL:
        large = resident_bytes > OWN_RESIDENT_BYTES
        return ProcessEnd("memory", "killed, as by a kernel without memory", doubtful=large)
    return ProcessEnd("crash", f"ended by {signal_name(number)}")


def signal_name(number: int) -> str:
    """Returns SIGSEGV, for example, or `signal 35` for one without a name, such as real-time signals."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
