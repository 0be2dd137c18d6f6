"""Processes that write to a store for the tests: `python -m tests.storage.writers <what> <store url> <arguments>`.

Each prints `ready`, waits for a line on its input, does its work, and prints one JSON line.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from workloads.api.records import CheckpointRecord
from workloads.api.units import UnitRef
from workloads.storage.base import AlreadyExists, Store, open_store
from workloads.storage.markers import Superseded, commit_marker

UNIT = UnitRef(kind="train", digest="5" * 64)
NAME = "checkpoint-000000100"
NOW = datetime(2026, 2, 16, tzinfo=UTC)
SIZE = 50_000
"""The size of a checkpoint's file; large enough for several blocks, small enough for a step-by-step test."""


def content_of_attempt(attempt: int, seed: int | None = None) -> bytes:
    return (b"%d " % (attempt if seed is None else seed)) * (SIZE // 2)


def commit(store: Store, attempt: int, seed: int | None = None) -> str:
    """Commits a checkpoint of two files; `seed` makes the content of several attempts equal."""
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / name for name in ("adapter_model.safetensors", "adapter_config.json")}
        for path in files.values():
            path.write_bytes(content_of_attempt(attempt, seed))
        try:
            marker = commit_marker(store, UNIT, attempt, NAME, files, CheckpointRecord(samples=100, step=2), now=NOW)
        except Superseded:
            return "superseded"
    return f"attempt {marker.attempt}"


def race_for_new_keys(store: Store, writer: int, keys: int) -> list[int]:
    """Returns the numbers of the keys that this writer won."""
    won = []
    for number in range(keys):
        try:
            store.put_new(f"race/{number}", b"writer %d" % writer)
            won.append(number)
        except AlreadyExists:
            continue
    return won


def count_up(store: Store, times: int) -> int:
    """Adds 1 to a counter `times` times by compare-and-set. Returns the number of tries."""
    tries = done = 0
    while done < times:
        tries += 1
        data, etag = store.get_with_etag("counter")
        try:
            # The writer's own number makes equal counts of two writers differ.
            store.put_if("counter", b"%d %d" % (int(data.split()[0]) + 1, os.getpid()), etag)
            done += 1
        except AlreadyExists:
            continue
    return tries


def kill_self_at_file_operation(number: int) -> None:
    """Sends SIGKILL before the `number`-th time that this process touches the file system to write."""
    seen = 0

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        writes = event in ("os.mkdir", "os.link", "os.rename", "os.remove", "os.rmdir", "fcntl.flock")
        if (
            event == "open"
            and isinstance(arguments[2], int)
            and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_DIRECTORY)
        ):
            writes = True
        seen += writes
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(audit)


WORK: Mapping[str, Callable[[Store, list[int]], object]] = {
    "commit": lambda store, numbers: commit(store, *numbers),
    "race": lambda store, numbers: race_for_new_keys(store, *numbers),
    "count": lambda store, numbers: count_up(store, *numbers),
}


def start(what: str, url: str, *numbers: int, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Starts a writer that is ready to begin."""
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, what, url, *map(str, numbers)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, **(environment or {})},
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def begin(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("begin\n")
    process.stdin.flush()


def result(process: subprocess.Popen[str]) -> object:
    """Returns its output once it has ended; None if it was killed."""
    told, _ = process.communicate(timeout=120)
    return json.loads(told) if process.returncode == 0 else None


if __name__ == "__main__":
    what, url, *rest = sys.argv[1:]
    store, numbers = open_store(url), [int(number) for number in rest]
    print("ready", flush=True)
    sys.stdin.readline()
    if kill_at := os.environ.get("KILL_AT_FILE_OPERATION"):
        kill_self_at_file_operation(int(kill_at))
    print(json.dumps(WORK[what](store, numbers)))
