"""The packages of the evaluation image include all that vLLM imports on a GPU."""

import subprocess
import sys
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

pytestmark = [pytest.mark.gpu_set, pytest.mark.timeout(900)]

RECORDED = Path(__file__).parent / "data" / "gpu-imports.txt"
"""The modules that were imported on a GPU."""


def test_every_module_of_the_path_on_a_gpu_can_be_imported() -> None:
    command = [sys.executable, "-m", "tests.evaluate.gpu_imports", str(RECORDED)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-4000:]}{done.stderr[-4000:]}"
    assert done.stdout.endswith("0 failed\n")


def test_every_package_that_vllm_requires_is_installed_in_a_version_that_it_allows() -> None:
    """An override in pyproject.toml must neither remove a package nor change its version."""
    stated = [Requirement(text) for text in requires("vllm") or []]
    needed = [r for r in stated if r.marker is None or r.marker.evaluate({"extra": ""})]
    assert needed
    wrong = {str(r): version(r.name) for r in needed if not r.specifier.contains(version(r.name), prereleases=True)}
    assert wrong == {}
