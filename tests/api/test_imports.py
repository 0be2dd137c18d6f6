"""The base install needs no torch: importing the controller or workloads.api loads no heavy library."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "vllm", "peft", "accelerate", "triton", "math_verify", "sympy")


@pytest.mark.slow
@pytest.mark.parametrize(
    "module",
    [
        "controller.cli",
        "controller.planner",
        "workloads.api.tasks",
        "workloads.api.manifest",
        "workloads.prefetch",
        "workloads.storage.base",
    ],
)
def test_importing_it_loads_no_heavy_library(module: str) -> None:
    program = f"import sys, {module}; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
