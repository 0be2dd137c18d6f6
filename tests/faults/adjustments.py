"""What a fault schedule changes in a program or runner, by its environment, before it begins.

POTSTILL_TEST_CLOCK    a file with a number of seconds by which this process's clock is wrong, read at every look at it
POTSTILL_TEST_MACHINE  the name of the machine that `potstill run` believes to be on
POTSTILL_TEST_FASTER   how many times as fast leases go stale and unstarted tasks are given up
POTSTILL_TEST_RUNNER   in a runner: programs are started through `fork_client`
Uploads to S3 go in parts of 5 MiB, the smallest that S3 takes, so that a tiny training's states have several.
"""

import sys
import time
from collections.abc import Mapping
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

PART_BYTES = 5 * 1024 * 1024
CLIENT = Path(__file__).with_name("fork_client.py")


def apply(environment: Mapping[str, str]) -> None:
    import workloads.storage.s3.store as s3

    vars(s3)["part_bytes"] = lambda _size: PART_BYTES
    if clock := environment.get("POTSTILL_TEST_CLOCK"):
        step_clock(Path(clock))
    if "POTSTILL_TEST_RUNNER" in environment:
        adjust_runner(environment)


def adjust_runner(environment: Mapping[str, str]) -> None:
    import controller.executors.local.executor as local
    import controller.lease as lease
    import controller.planner.completion_checks as completion_checks

    client = environment["POTSTILL_TEST_RUNNER"]
    vars(local)["sys"] = _Interpreter(client)
    if name := environment.get("POTSTILL_TEST_MACHINE"):
        vars(lease)["machine"] = lambda: name
    if factor := float(environment.get("POTSTILL_TEST_FASTER", "0")):
        for module, names in (
            (lease, ("LEASE_SECONDS", "RENEW_SECONDS", "LOOK_SECONDS")),
            (completion_checks, ("START_GRACE_SECONDS",)),
        ):
            for name in names:
                vars(module)[name] /= factor


class _Interpreter:
    """`sys` as the local executor sees it: with another interpreter for the programs."""

    def __init__(self, executable: str) -> None:
        self.executable = executable

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)


def step_clock(file: Path) -> None:
    """`datetime.now` in Potstill's own modules, and `time.time` in all."""
    true_time = time.time

    def offset() -> float:
        return float(file.read_text() or "0")

    class Stepped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "datetime":  # type: ignore[override]
            return datetime.fromtimestamp(true_time(), tz) + timedelta(seconds=offset())

    for name, module in list(sys.modules.items()):
        if name.startswith(("controller", "workloads")) and vars(module).get("datetime") is datetime:
            vars(module)["datetime"] = Stepped
    vars(time)["time"] = lambda: true_time() + offset()
