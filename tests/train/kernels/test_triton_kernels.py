"""Every Triton kernel computes the same as the plain PyTorch version; here under Triton's interpreter, on the CPU.

The interpreter is chosen when a kernel is decorated, so the checks run in one separate process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_kernels_match_their_reference_in_the_interpreter() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tests.train.kernels.triton_checks", "cpu"],
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "all kernels agree" in result.stdout
