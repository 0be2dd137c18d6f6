"""The project's own files: workflows run the Makefile's targets, every copy of the version is the same, and no test
patches a private name.
"""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from scripts.version import version
from tests.tools.programs import program

ROOT = Path(__file__).parents[2]
WORKFLOWS = ROOT / ".github" / "workflows"
PATCHES = ("setattr", "delattr")
PRIVATE = re.compile(r"(?:^|\.)_(?!_)\w*$")
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def steps(workflow: str) -> list[dict[str, object]]:
    jobs = yaml.safe_load((WORKFLOWS / workflow).read_text())["jobs"].values()
    return [step for job in jobs for step in job["steps"]]


def runs(workflow: str) -> list[str]:
    return [str(step["run"]) for step in steps(workflow) if "run" in step]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["ci.yml", "release.yml"])
def test_actionlint_finds_nothing(name: str) -> None:
    shellcheck = str(Path(sys.executable).with_name("shellcheck"))
    command = [str(program("actionlint")), "-shellcheck", shellcheck, str(WORKFLOWS / name)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_make_of_a_workflow_is_a_target_of_the_makefile() -> None:
    made = [run.split()[1] for name in ("ci.yml", "release.yml") for run in runs(name) if run.startswith("make ")]
    assert made
    assert set(made) <= TARGETS


def test_a_pull_request_is_checked_by_the_targets_that_the_makefile_has_for_it() -> None:
    jobs = yaml.safe_load((WORKFLOWS / "ci.yml").read_text())["jobs"]
    for name in ("check", "test", "test-vllm", "test-node"):
        assert f"make {name}" in [step.get("run") for step in jobs[name]["steps"]]
        condition = jobs[name]["if"].split(" || ")[0]
        assert condition == f"github.event_name {'==' if name == 'test-node' else '!='} 'schedule'"
    plain = [run for run in runs("ci.yml") if not run.startswith("make ")]
    assert [run.split()[0] for run in plain] == ["git", "apt-get"]


@pytest.mark.parametrize("name", ["ci.yml", "release.yml"])
def test_an_expression_reaches_a_shell_only_as_a_variable(name: str) -> None:
    assert not [run for run in runs(name) if "${{" in run]


def test_every_copy_of_the_version_is_that_of_pyproject() -> None:
    chart = yaml.safe_load((ROOT / "charts/potstill/Chart.yaml").read_text())
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    workflow = yaml.safe_load((WORKFLOWS / "regression-evaluation.yml").read_text())
    installed = workflow[True]["workflow_call"]["inputs"]["potstill"]["default"]  # YAML reads the key `on` as true
    copies = {
        "chart": chart["version"],
        "chart's appVersion": chart["appVersion"],
        "citation": citation["version"],
        "regression workflow": installed.removeprefix("potstill=="),
    }
    for path in (*(ROOT / "images").iterdir(), ROOT / "k8s/install.yaml"):
        for found in re.findall(
            r"(?:registry\.example/\S*[: ]|kubernetes\.io/version: \"?)(\d+\.\d+\.\d+)", path.read_text()
        ):
            assert copies.setdefault(path.name, found) == found
    assert {"build.sh", "train.Dockerfile", "install.yaml"} <= set(copies)
    assert copies == dict.fromkeys(copies, version())


def private_patches(source: str) -> list[int]:
    """The lines of calls of setattr and delattr, also pytest's, with a name that begins with one underscore."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and (node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")) in PATCHES
        and any(isinstance(word, ast.Constant) and PRIVATE.search(str(word.value)) for word in node.args[:2])
    ]


def test_a_patch_of_a_private_name_is_found() -> None:
    assert private_patches('x = 1\nmonkeypatch.setattr(server, "_watch", x)\nsetattr(server, "_watch", x)') == [2, 3]
    assert private_patches('monkeypatch.delattr("workloads.sandbox.server._watch")') == [1]
    assert private_patches('monkeypatch.setattr(server, "watch", "_x")\nsetattr(torch, "__version__", "3")') == []


def test_no_test_patches_a_private_name() -> None:
    found = {str(path.relative_to(ROOT)): private_patches(path.read_text()) for path in (ROOT / "tests").rglob("*.py")}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_the_other_files_of_the_project_can_be_read() -> None:
    for path in (
        *(ROOT / ".github").glob("*.yml"),
        *(ROOT / ".github/ISSUE_TEMPLATE").iterdir(),
        ROOT / "CITATION.cff",
    ):
        assert isinstance(yaml.safe_load(path.read_text()), dict), path
    assert json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())["postCreateCommand"].split()[1] in TARGETS
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert [hook["id"] for hook in hooks] == ["ruff-check", "ruff-format", "codespell", "prose"]
