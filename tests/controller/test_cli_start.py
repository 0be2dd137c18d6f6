"""A command starts without what only some commands need: CI calls several, one after another."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("heavy", ["scipy", "statsmodels", "pandas", "plotly", "torch", "transformers"])
def test_the_command_line_starts_without(heavy: str, loaded: set[str]) -> None:
    assert heavy not in loaded


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    command = [sys.executable, "-c", "import sys, controller.cli; print(*sys.modules, sep=chr(10))"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
