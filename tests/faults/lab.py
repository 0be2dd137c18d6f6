"""What all schedules share: a fork server, a tiny base with its data, and the manifest of an undisturbed run."""

import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.faults.fork_client import send
from tests.tools.processes import Server, wait_until

ROOT = Path(__file__).parents[2]
EXPERIMENT = """\
apiVersion: potstill.dev/v1alpha1
kind: Experiment
metadata: {name: faulty}
spec:
  base: {model: base}
  data: {sums: {uri: sums.jsonl, onShort: repeat}}
  training: {lora: {rank: 256, alpha: 16, target: [attention]}, batchSize: 2, samples: 24, checkpointEverySamples: 12}
  runs:
    - {name: cut, data: sums, sequenceTokens: 48, overlong: truncate}
    - {name: left, data: sums, sequenceTokens: 64, overlong: drop}
  evaluation:
    benchmarks: [{name: own, uri: own.jsonl, grader: math}]
    budgets: [8, 16]
  limits: {attempts: 20, preemptions: 200}
"""
TIMES = frozenset({"trainSeconds", "tokensPerSecond", "generateSeconds"})
ATTEMPTS = frozenset({"attempts", "generateAttempts", "gradeAttempts"})
DEADLINE_SECONDS = 300.0
STORE_DEADLINE_SECONDS = "8"


@dataclass(frozen=True)
class Lab:
    files: Path
    forks: Path
    """The fork server's socket."""
    client: Path
    server: Server
    manifest: Any
    """The manifest of an undisturbed run, without times and attempts."""

    @property
    def spec(self) -> str:
        return str(self.files / "faulty.yaml")


class Program:
    """A program that the fork server runs for this process, and that ends with it.

    It runs in `folder` or, without one, in the folder of its log. It writes errors to `errors` or, without one, to its
    log.
    """

    def __init__(
        self,
        forks: Path,
        module: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        folder: Path | None = None,
        errors: Path | None = None,
    ):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(forks))
        order = {"module": module, "arguments": list(arguments), "environment": dict(environment)}
        with log.open("ab") as file, (errors or log).open("ab") as error_file:
            files = [file.fileno(), error_file.fileno()]
            send(self._socket, {**order, "folder": str(folder or log.parent), "client": os.getpid()}, files)
        self._answers = self._socket.makefile("rb")
        self.pid = int(json.loads(self._answers.readline())["pid"])
        self.log = log
        self._code: int | None = None
        self._socket.setblocking(False)

    def poll(self) -> int | None:
        """Returns the exit code, or None while the program runs, as subprocess.Popen.poll does."""
        if self._code is None:
            line = self._answers.readline()
            if line:
                self._code = os.waitstatus_to_exitcode(json.loads(line)["status"])
                self._socket.close()
        return self._code

    def wait(self, deadline_seconds: float = DEADLINE_SECONDS) -> int:
        wait_until(lambda: self.poll() is not None, f"the end of {self.log}", deadline_seconds)
        assert self._code is not None
        return self._code

    def signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


@contextmanager
def lab(folder: Path) -> Iterator[Lab]:
    """Yields a lab. Raises NotInTimeError or AssertionError if an undisturbed run does not succeed."""
    with programs(folder) as made:
        yield replace(made, manifest=undisturbed(made, folder))


@dataclass(frozen=True)
class Forks:
    """A fork server's socket, and the program that stands in for the Python interpreter of what it runs."""

    socket: Path
    client: Path
    server: Server


@contextmanager
def fork_server(folder: Path) -> Iterator[Forks]:
    """Raises NotInTimeError."""
    forks = folder / "forks"
    forks.unlink(missing_ok=True)
    environment = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    server = Server([sys.executable, "-m", "tests.faults.fork_server", str(forks)], folder / "forks.log",
                    {**environment, "PYTHONPATH": str(ROOT)})  # fmt: skip
    server.start(forks.exists, DEADLINE_SECONDS)
    try:
        client = folder / "fork_client"
        client.write_text(f"#!{sys.executable} -IS\n" + (ROOT / "tests/faults/fork_client.py").read_text())
        client.chmod(0o755)
        yield Forks(forks, client, server)
    finally:
        server.stop()


@contextmanager
def programs(folder: Path) -> Iterator[Lab]:
    """The fork server and the files, without a manifest. Raises NotInTimeError."""
    with fork_server(folder) as forks:
        files = folder / "files"
        if not files.exists():
            write_files(files)
        yield Lab(files, forks.socket, forks.client, forks.server, None)


def write_files(files: Path) -> None:
    """A base whose adapters of rank 256 have states of more than 5 MiB, so that uploads to S3 have several parts."""
    from tests.train import world

    files.mkdir()
    sizes = {"hidden_size": 128, "head_dim": 32, "intermediate_size": 64}
    before = dict(world.SIZES)
    world.SIZES.update(sizes)
    try:
        world.write_base(files / "base")
    finally:
        world.SIZES.update(before)
    world.write_rows(files / "sums.jsonl", world.sums(60))
    problems = [{"id": f"p{n}", "prompt": f"{n} + {n}", "answer": str(2 * n)} for n in range(4)]
    world.write_rows(files / "own.jsonl", problems)
    (files / "faulty.yaml").write_text(EXPERIMENT)


def base_environment(lab: Lab, folder: Path, machine: str = "first") -> dict[str, str]:
    """Returns the environment of a runner whose schedule is in `folder`. Each machine has separate records of starts."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TMPDIR": str(temporary),
        "XDG_STATE_HOME": str(folder / machine),
        "POTSTILL_STORE_DEADLINE_SECONDS": STORE_DEADLINE_SECONDS,
        **fork_environment(lab, folder / f"starts-{machine}"),
        "POTSTILL_TEST_RUNNER": str(lab.client),
    }


def fork_environment(lab: Lab, starts: Path) -> dict[str, str]:
    """What `fork_client` and the fork server read. Each start of a program is a line in `starts`."""
    return {
        "POTSTILL_TEST_PYTHON": sys.executable,
        "POTSTILL_TEST_FORK_SERVER": str(lab.forks),
        "POTSTILL_TEST_STARTS": str(starts),
    }


def undisturbed(lab: Lab, folder: Path) -> Any:
    kept = folder / "undisturbed"
    if not (kept / "manifest").exists():
        kept.mkdir()
        words = ["run", lab.spec, "--store", str(kept / "store")]
        runner = Program(lab.forks, "tests.faults.run", words, base_environment(lab, kept), kept / "log")
        code = runner.wait()
        assert code == 0, (kept / "log").read_text()[-3000:]
        (kept / "manifest").write_text(json.dumps(compared(kept / "store")))
    return json.loads((kept / "manifest").read_text())


def compared(store: Path, uid8: str = "*") -> Any:
    """The manifest in a store's folder, without times and attempts; that of one Experiment also without its UID."""
    (path,) = store.glob(f"experiments/faulty/{uid8}/manifest.json")
    return without(json.loads(path.read_text()), TIMES | ATTEMPTS | ({"uid8"} if uid8 != "*" else set()))


def without(value: Any, names: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {key: without(item, names) for key, item in value.items() if key not in names}
    return [without(item, names) for item in value] if isinstance(value, list) else value
