"""A command does not import modules that only other commands need, because CI calls several in a row."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("heavy", ["scipy", "statsmodels", "pandas", "plotly", "torch", "transformers"])
def test_the_command_line_starts_without(heavy: str, loaded: set[str]) -> None:
    assert heavy not in loaded


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    command = [sys.executable, "-c", "import sys, controller.cli; print(*sys.modules, sep=chr(10))"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.slow
@pytest.mark.parametrize(("typed", "offered"), [("potstill doc", "doctor"), ("potstill plan --prof", "--profile")])
def test_bash_completes_commands_and_options(typed: str, offered: str) -> None:
    environment = {**os.environ, "_POTSTILL_COMPLETE": "complete_bash", "COMP_WORDS": typed}
    environment["COMP_CWORD"] = str(len(typed.split()) - 1)
    potstill = Path(sys.executable).with_name("potstill")
    done = subprocess.run([potstill], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [offered]
