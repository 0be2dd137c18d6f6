"""Commands that answer quickly read the registries: these load no library that only programs need."""

import subprocess
import sys

HEAVY = ("boto3", "math_verify", "numpy", "scipy", "sympy", "tokenizers", "torch", "transformers", "vllm")


def test_the_registries_load_no_library_that_only_programs_need() -> None:
    code = (
        "import sys, controller.experiment.validate as v\n"
        "[list(registry.values()) for registry in v.REGISTRIES]\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
