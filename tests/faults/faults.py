"""What each kind of fault does to a stack. A fault that lasts is undone when its generator is closed."""

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from tests.faults.schedules import Fault
from tests.faults.stack import S3, Stack
from tests.storage.http_proxy import Answer, Do, Seen

CLOCK_STEP_SECONDS = 120.0


@dataclass(frozen=True)
class EmptyAnswer(Answer):
    def body(self) -> bytes:
        return b""


def has_target(stack: Stack, kind: str) -> bool:
    """Whether the program that a fault kills or pauses is running. Other faults need none."""
    verb, _, what = kind.partition(" ")
    if verb == "S3" and what in ("restart", "killed", "pause"):
        return stack.s3 is not None and stack.s3.server.process.running
    if verb not in ("kill", "pause", "stop"):
        return True
    if what in ("runner", "everything"):
        return bool(runner_of(stack))
    return bool(stack.live(f"workloads.{what}"))


@contextmanager
def fault(stack: Stack, fault: Fault, chance: random.Random) -> Iterator[None]:
    """Begins it; ends it with the block. One that is over at once (a kill) does nothing at its end."""
    verb, _, what = fault.kind.partition(" ")
    if verb == "S3":
        assert stack.s3 is not None
        with of_s3(stack.s3, what, chance):
            yield
    elif verb == "pause":
        with paused(runner_of(stack) if what == "runner" else stack.live(f"workloads.{what}")):
            yield
    elif verb == "clock":
        stack.clock.write_text(str(CLOCK_STEP_SECONDS if what == "ahead" else -CLOCK_STEP_SECONDS))
        try:
            yield
        finally:
            stack.clock.write_text("0")
    elif fault.kind == "full disk":
        with stack.full_disk():
            yield
    else:
        at_once(stack, fault.kind)
        yield


def at_once(stack: Stack, kind: str) -> None:
    match kind:
        case "stop runner":
            send(runner_of(stack), signal.SIGTERM)
        case "kill runner":
            send(runner_of(stack), signal.SIGKILL)
        case "kill everything":
            send([*runner_of(stack), *stack.live()], signal.SIGKILL)
        case "second runner":
            stack.others.append(stack.run())
        case "other machine":
            stack.others.append(stack.run("second"))
        case "gc beside":
            stack.others.append(stack.potstill("gc", stack.url, "--older-than", "1h", "--delete"))
        case "retry beside":
            stack.others.append(stack.potstill("retry", stack.lab.spec, "--store", stack.url))
        case _:
            send(stack.live("workloads." + kind.removeprefix("kill ")), signal.SIGKILL)


def runner_of(stack: Stack) -> list[int]:
    return [stack.runner.pid] if stack.runner is not None and stack.runner.poll() is None else []


def send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@contextmanager
def paused(pids: list[int]) -> Iterator[None]:
    send(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        send(pids, signal.SIGCONT)


@contextmanager
def of_s3(s3: S3, what: str, chance: random.Random) -> Iterator[None]:
    if what in ("restart", "killed"):
        s3.server.process.stop(signal.SIGTERM if what == "restart" else signal.SIGKILL)
        try:
            yield
        finally:
            s3.server.process.start(lambda: answers(s3))
    elif what == "pause":
        s3.server.process.pause()
        try:
            yield
        finally:
            s3.server.process.resume()
    elif what == "refuses connections":
        s3.network.cut()
        try:
            yield
        finally:
            s3.network.heal()
    elif what in NETWORK:
        kind, attributes = NETWORK[what]
        name = s3.network.add(kind, **attributes)
        try:
            yield
        finally:
            s3.network.remove(name)
    else:
        s3.requests.rule = sometimes(REQUESTS[what], chance)
        try:
            yield
        finally:
            s3.requests.rule = lambda _: Do.FORWARD


NETWORK: dict[str, tuple[str, dict[str, Any]]] = {
    "latency": ("latency", {"latency": 150, "jitter": 100}),
    "bandwidth": ("bandwidth", {"rate": 400}),
    "resets": ("limit_data", {"bytes": 20_000}),
}
REQUESTS: dict[str, Callable[[], Do | Answer]] = {
    "answers 5xx": lambda: Answer(503, "SlowDown"),
    "loses answers": lambda: Do.LOSE_ANSWER,
    "empty answers": lambda: EmptyAnswer(200, ""),
}


def sometimes(make: Callable[[], Do | Answer], chance: random.Random) -> Callable[[Seen], Do | Answer]:
    """For two requests of three."""
    lock = threading.Lock()

    def rule(_: Seen) -> Do | Answer:
        with lock:
            return make() if chance.random() < 2 / 3 else Do.FORWARD

    return rule


def answers(s3: S3) -> bool:
    with suppress(Exception):
        s3.server.client().head_bucket(Bucket=s3.server.bucket)
        return True
    return False
