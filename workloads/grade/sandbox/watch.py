"""What is read of a candidate: the frames on its pipe, and from them and its status how it ended. No I/O."""

import json
import os
import re
import signal
import struct
from dataclasses import dataclass, field
from typing import Literal

from workloads.grade.sandbox.order import End, Order

Time = Literal["CPU", "wall"]

_ADDRESS = re.compile(r"0x[0-9a-f]{6,}")
"""Differs from run to run; grades do not."""
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
    """What has been read of one candidate."""

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

    def limit(self) -> float:
        """CPU seconds that the stage now running may take."""
        if not self.loaded:
            return self.order.limits.total_cpu_seconds
        if self.returned:
            return self.order.limits.encode_cpu_seconds
        index = len(self.values)
        return self.order.limits.cpu_seconds[index] if index < len(self.order.limits.cpu_seconds) else 1.0

    def take(self, data: bytes, cpu_in_stage: float) -> bool:
        """Reads frames; True when a stage ended with one. `broken` is set by anything that is not the protocol."""
        self.received += len(data)
        if self.received > self.order.limits.output_bytes:
            self.broken = "more output than allowed"
        self.buffer += data
        moved = False
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
            moved = True
        return moved

    @property
    def over(self) -> bool:
        return self.finished or self.exception is not None or self.broken is not None

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
    except (ValueError, TypeError, RecursionError):
        return ["Exception", "an unreadable description"]
    return [str(name)[:100], str(message)[:500]]


@dataclass(frozen=True)
class Ended:
    """`doubtful`: the machine may have ended it, not the program."""

    end: End
    detail: str
    doubtful: bool = False


def end_of(watch: Watch, out_of: Time | None, status: int | None) -> Ended:
    """How the execution ended. `status`: of wait, None when the candidate had to be killed."""
    if out_of is not None:
        place = f"test {len(watch.values)}" if watch.loaded else "while loading"
        return Ended("timeout", f"{place}, {out_of} time", doubtful=out_of == "wall")
    if watch.broken is not None:
        return Ended("flood", watch.broken)
    if watch.finished:
        return Ended("finished", "")
    if watch.exception is not None:
        name, message = watch.exception
        told = _ADDRESS.sub("0x...", f"{name}: {message}" if message else name)
        return Ended(_SPECIAL_ENDS.get(name, "exception"), told)
    if status is None:
        return Ended("exit", "it closed its channel and went on")
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGXCPU:
        return Ended("timeout", "CPU limit")
    if code == -signal.SIGKILL:
        return Ended("memory", "killed, as by a kernel without memory", doubtful=True)
    if code >= 0:
        return Ended("exit", f"the process ended by itself with {code}")
    return Ended("crash", f"ended by {signal.Signals(-code).name}")
