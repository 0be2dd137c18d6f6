"""The CI files: the workflows and the script are well formed, and the comment is updated in place."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from controller.cli import app
from controller.experiment.load import load_experiment
from tests.tools.github import REPOSITORY, TOKEN, Comments, github_comments
from tests.tools.programs import program

ROOT = Path(__file__).parents[2]
CI = ROOT / "examples" / "ci"
TEMPLATE = ROOT / "examples" / "regression.yaml"
WORKFLOW = ROOT / ".github" / "workflows" / "regression-evaluation.yml"
CONTENT = "sha256:" + "0" * 64
HOSTILE = 'x"$(touch pwned)"`touch pwned`\n- {name: evil}\n# ${{ secrets.kubeconfig }}'


def shellcheck() -> str:
    return str(Path(sys.executable).with_name("shellcheck"))


def test_the_script_is_shellcheck_clean() -> None:
    done = subprocess.run([shellcheck(), CI / "regression.sh"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_actionlint_finds_nothing_in_the_workflows_and_their_shell(tmp_path: Path) -> None:
    """The files are side by side, so that the call is checked against the inputs and secrets of the called workflow."""
    workflows = tmp_path / ".github" / "workflows"
    workflows.mkdir(parents=True)
    for file in (WORKFLOW, CI / "pull-request.yml"):
        shutil.copy(file, workflows)
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    command = [str(program("actionlint")), "-shellcheck", shellcheck()]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout == ""
    caller = workflows / "pull-request.yml"
    caller.write_text(caller.read_text().replace("adapter:", "adaptor:"))
    assert (
        'input "adaptor" is not defined' in subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout
    )


def test_each_job_has_the_rights_it_needs_and_actions_are_pinned_by_commit() -> None:
    workflow = yaml.safe_load(WORKFLOW.read_text())
    assert workflow["permissions"] == {}
    rights = {name: job["permissions"] for name, job in workflow["jobs"].items()}
    assert rights == {
        "submit": {"contents": "read"},
        "gate": {"contents": "read"},
        "comment": {"contents": "read", "pull-requests": "write"},
    }
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    used = {step["uses"] for step in steps if "uses" in step}
    assert all(len(one.partition("@")[2]) == 40 for one in used)
    assert not [step for step in steps if "${{" in step.get("run", "")], "expressions reach a shell as variables only"


def test_the_page_shows_the_files_that_there_are() -> None:
    page = (ROOT / "docs" / "ci.md").read_text()
    call = (CI / "pull-request.yml").read_text()
    assert (CI / "read-only-policy.json").read_text() in page
    assert call[call.index("jobs:") :] in page


def candidate(out: Path, *words: str, template: Path = TEMPLATE) -> Result:
    return CliRunner().invoke(app, ["candidate", str(template), "--out", str(out), *words])


def test_a_branch_name_is_a_label_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "experiment.yaml"
    done = candidate(out, "--adapter", "s3://lab/17", "--content", CONTENT, "--label", HOSTILE)
    assert done.exit_code == 0, done.output
    found, template = load_experiment(out), load_experiment(TEMPLATE)
    asked = template.spec.candidates[0].model_copy(
        update={"adapter": "s3://lab/17", "content": CONTENT, "label": HOSTILE}
    )
    assert found.spec == template.spec.model_copy(update={"candidates": [asked]})
    assert sorted(file.name for file in tmp_path.iterdir()) == ["experiment.yaml"]


def test_the_same_candidate_has_the_same_name_and_another_another(tmp_path: Path) -> None:
    names = []
    for number, where in enumerate(["s3://lab/17", "s3://lab/17", "s3://lab/18"]):
        candidate(tmp_path / f"{number}.yaml", "--adapter", where, "--content", CONTENT)
        names.append(load_experiment(tmp_path / f"{number}.yaml").metadata.name)
    assert names[0] == names[1] != names[2]
    assert all(name.startswith("regression-") for name in names)


def test_a_template_without_its_one_candidate_is_wrong_input(tmp_path: Path) -> None:
    body = yaml.safe_load(TEMPLATE.read_text())
    body["spec"]["candidates"].append({"name": "second", "adapter": "a"})
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(body))
    done = candidate(tmp_path / "out.yaml", "--adapter", "s3://lab/17", template=tmp_path / "two.yaml")
    assert "spec.candidates: holds 2" in str(done.exception)
    assert not (tmp_path / "out.yaml").exists()


@pytest.fixture
def github() -> Iterator[Comments]:
    with github_comments() as comments:
        yield comments


def comment(github: Comments, tmp_path: Path, text: str) -> None:
    (tmp_path / "comment.md").write_text(text)
    environment = {"GITHUB_API_URL": github.url, "GITHUB_REPOSITORY": REPOSITORY, "GITHUB_TOKEN": TOKEN}
    command = [sys.executable, str(CI / "comment.py"), str(tmp_path / "comment.md"), "7"]
    subprocess.run(command, check=True, env=os.environ | environment)


def test_a_comment_is_written_once_and_then_in_its_place_however_many_there_are(
    github: Comments, tmp_path: Path
) -> None:
    for number in range(150):
        github.add(f"comment {number}", by="User")
    github.add("<!-- potstill-gate regression --> said by a person", by="User")
    comment(github, tmp_path, "<!-- potstill-gate other -->\nother")
    for text in ("first", "second"):
        comment(github, tmp_path, f"<!-- potstill-gate regression -->\n{text}")
    assert github.written == ["POST", "POST", "PATCH"]
    assert [one["body"].split("\n")[1] for one in github.all[-2:]] == ["other", "second"]
