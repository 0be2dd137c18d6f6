"""`python -m tests.tools.chart`: the chart lints, renders, and everything in it is a valid Kubernetes object."""

import subprocess
import sys
from pathlib import Path

from tests.tools.programs import program

CHART = Path(__file__).parents[2] / "charts/potstill"
VALUES = [
    "--set", f"image.reference=registry.example/potstill-controller@sha256:{'0' * 64}",
    "--set", "store.url=s3://bucket/prefix",
    "--set", "metrics.dashboard=true",
    "--set", "profiles.default.engine.name=vllm",
    "--set", "profiles.default.engine.version=0.32.0",
]  # fmt: skip


def main() -> int:
    helm = str(program("helm"))
    subprocess.run([helm, "lint", str(CHART), *VALUES], check=True)
    subprocess.run([helm, "template", "potstill", str(CHART), *VALUES], check=True, stdout=subprocess.DEVNULL)
    refused = subprocess.run(
        [helm, "template", "potstill", str(CHART), *VALUES, "--set", "image.reference=a/b:latest"], capture_output=True
    )
    if refused.returncode == 0:
        print("the chart takes an image tagged latest", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
