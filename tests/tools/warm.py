"""`potstill` and the programs that it starts, in forks of a process that has imported torch and transformers.

For tests of a whole run, whose programs would spend most of their time on imports. That the programs start by
themselves is tested by tests/whole and `make quickstart`.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.faults.lab import Forks, Program


@dataclass
class WarmStart:
    """`folder`: for the commands' output."""

    forks: Forks
    folder: Path
    runs: int = 0

    def potstill(
        self, *words: str, folder: Path, environment: Mapping[str, str] | None = None, seconds: float = 800.0
    ) -> subprocess.CompletedProcess[str]:
        """The command, run in `folder`. Raises NotInTimeError after `seconds`."""
        self.runs += 1
        output, errors = (self.folder / f"{self.runs:03d}-{kind}" for kind in ("out", "err"))
        runner = {"POTSTILL_TEST_RUNNER": str(self.forks.client)}
        whole = {**os.environ, **self._environment(), **runner, **(environment or {})}
        program = Program(self.forks.socket, "tests.faults.run", words, whole, output, folder, errors)
        code = program.wait(seconds)
        return subprocess.CompletedProcess(words, code, output.read_text(), errors.read_text())

    def in_place_of(self, command: list[str]) -> list[str]:
        """Returns the command that runs a pod's `python -m ...` in a fork."""
        assert command[0] == "python", command
        return ["env", *(f"{key}={value}" for key, value in self._environment().items()),
                str(self.forks.client), *command[1:]]  # fmt: skip

    def _environment(self) -> dict[str, str]:
        return {
            "POTSTILL_TEST_PYTHON": sys.executable,
            "POTSTILL_TEST_FORK_SERVER": str(self.forks.socket),
            "POTSTILL_TEST_STARTS": str(self.folder / "starts"),
        }
