"""Our four images under the rules of the pods: numbered user, read-only root, no network.

Each has only its own packages.
"""

import json
from collections.abc import Callable

import pytest

from tests.node.node import Node
from tests.node.test_node import RESTRICTED, run_job

CONTENT = """
import importlib.util, json, os, shutil
present = [name for name in ("torch", "vllm", "math_verify", "pytest", "pip", "uv") if importlib.util.find_spec(name)]
writable = [place for place in ("/", "/opt/potstill", "/usr") if os.access(place, os.W_OK)]
print(json.dumps({"user": os.getuid(), "present": present, "writable": writable, "gcc": bool(shutil.which("gcc"))}))
"""


@pytest.fixture(scope="module")
def namespace(node: Node) -> str:
    return node.plane.namespace(labels=RESTRICTED)


@pytest.mark.parametrize(
    ("name", "present", "gcc"),
    [
        ("controller", [], False),
        ("grade", ["math_verify"], False),
        ("train", ["torch"], True),
        ("evaluate", ["torch"], True),
    ],
)
def test_an_image_holds_what_it_is_for(
    node: Node, namespace: str, image: Callable[[str], str], name: str, present: list[str], gcc: bool
) -> None:
    told = json.loads(run_job(node, namespace, image(name), ["python", "-c", CONTENT]))
    assert told == {"user": 65532, "present": present, "writable": [], "gcc": gcc}


@pytest.mark.parametrize(
    ("name", "program"),
    [
        ("controller", "workloads.report"),
        ("train", "workloads.train"),
        ("evaluate", "workloads.evaluate"),
        ("grade", "workloads.grade"),
    ],
)
def test_an_images_programs_start(
    node: Node, namespace: str, image: Callable[[str], str], name: str, program: str
) -> None:
    script = f"import importlib; print(importlib.import_module({program!r}).__name__)"
    assert run_job(node, namespace, image(name), ["python", "-c", script]) == f"{program}\n"


def test_training_reckons_in_its_image(node: Node, namespace: str, image: Callable[[str], str]) -> None:
    script = "import torch, peft, transformers; print(torch.ones(3, 3).matmul(torch.ones(3, 3)).sum().item())"
    assert run_job(node, namespace, image("train"), ["python", "-c", script]) == "27.0\n"
