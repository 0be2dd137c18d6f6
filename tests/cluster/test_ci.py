"""The regression evaluation that CI asks for, executed: the script and the workflow, against a real control plane and a
real S3 server, with an account of the cluster that is a researcher and one of the store that may only read.

Candidates are imported, checked and graded by the real programs; tests/cluster/answering.py answers in the engine's place.
"""

import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.exceptions import ClientError

from controller.executors.kubernetes.api import connect
from controller.executors.kubernetes.namespace_controller import Controller
from tests.cluster.harness import ControlPlane
from tests.cluster.harness.pod_runner import pod_runner
from tests.cluster.world import PACE, profile_of
from tests.controller import tiny_program
from tests.evaluate.models import edit_config, write_adapter
from tests.tools.github import REPOSITORY, TOKEN, Comments, github_comments
from tests.tools.programs import program
from tests.tools.s3 import S3Server
from tests.train.world import write_base, write_rows
from workloads.storage.base import open_store

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.long]
ROOT = Path(__file__).parents[2]
CI = ROOT / "examples" / "ci"
PROBLEMS = 100
WRONG = {"a" * 40: 0, "b" * 40: 30, "c" * 40: 5, "d" * 40: 5}
"""Wrong answers of 100 by the commit whose adapter it is: with 5 points allowed they pass, fail and leave it open."""
PASS, FAIL, OPEN, EARLY = WRONG
BRANCH = "fix\"$(touch pwned)`touch pwned`';touch pwned #"
OUTCOMES = {0: "pass", 1: "fail", 3: "not enough evidence"}
"""The outcome in the gate's report, by exit code."""
MARK = "<!-- potstill-gate regression -->"


@dataclass(frozen=True)
class Lab:
    plane: ControlPlane
    namespace: str
    folder: Path
    kubeconfig: Path
    reader: S3Server
    steer: Path

    def environment(self, **more: str) -> dict[str, str]:
        """Returns the environment of a CI job. It has only PATH of this process's variables."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {"PATH": path, "HOME": str(self.folder), **self.reader.environment(), **more}

    def labels(self) -> dict[str, str]:
        """The candidate's label by Experiment."""
        found = self.plane.api.items(f"/apis/potstill.dev/v1alpha1/namespaces/{self.namespace}/experiments")
        return {item["metadata"]["name"]: item["spec"]["candidates"][0]["label"] for item in found}

    def script(self, *words: str, **more: str) -> "subprocess.CompletedProcess[str]":
        command = [str(CI / "regression.sh"), *words]
        return subprocess.run(command, env=self.environment(**more), cwd=self.folder, capture_output=True, text=True)

    def submit(self, commit: str, out: Path, template: str = "regression.yaml") -> "subprocess.CompletedProcess[str]":
        weights = ["--adapter", f"s3://lab/adapters/{commit}", "--label", BRANCH]
        access = {"KUBECONFIG": str(self.kubeconfig), "REGRESSION_NAMESPACE": self.namespace}
        return self.script("submit", template, *weights, REGRESSION_OUT=str(out), **access)


@pytest.fixture(scope="module")
def lab(crd: None, plane: ControlPlane, server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    steer = folder / "steer"
    steer.mkdir()
    namespace = plane.namespace(labels={"pod-security.kubernetes.io/enforce": "restricted"})
    base = write_base(folder / "files" / "base")
    problems = ({"id": f"p{n}", "prompt": f"{n} + {n}", "answer": str(2 * n)} for n in range(PROBLEMS))
    write_rows(folder / "files" / "own.jsonl", problems)
    (folder / "regression.yaml").write_text(yaml.safe_dump(template()))
    for commit, wrong in WRONG.items():
        adapter = write_adapter(folder / commit, base, seed=1)
        edit_config(adapter, revision=f"{wrong} wrong")
        for file in adapter.iterdir():
            server.client().upload_file(str(file), server.bucket, f"adapters/{commit}/{file.name}")
    access = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
    plane.api.post(f"/api/v1/namespaces/{namespace}/secrets", {"metadata": {"name": "store"}, "stringData": access})
    reader = server.account(json.loads((CI / "read-only-policy.json").read_text())["Statement"])
    kubeconfig = researcher(plane, namespace)

    def pods(command: list[str]) -> list[str]:
        if "workloads.evaluate" in command:
            return ["python", "-m", "tests.cluster.answering", str(steer), command[-1]]
        if "workloads.report" in command:
            return ["python", tiny_program.__file__, str(steer), command[-1]]
        return command

    with ExitStack() as stack:
        environment = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in server.environment().items():
            environment.setenv(name, value)
        url = f"s3://{server.bucket}/{namespace}"
        profile = profile_of(folder / "files", url, server)
        runner = stack.enter_context(pod_runner(plane.api, namespace, folder / "pods", pods))
        api = connect(plane.kubeconfig())
        controller = Controller(api, open_store(url), {"default": profile}, namespace, pace=PACE, busy_seconds=1.0)
        controller.start()
        stack.callback(controller.stop)
        yield Lab(plane, namespace, folder, kubeconfig, reader, steer)
        print("\n".join(runner.failures))


def template() -> dict[str, Any]:
    """examples/regression.yaml with the tiny base and its benchmark."""
    body: dict[str, Any] = yaml.safe_load((ROOT / "examples" / "regression.yaml").read_text())
    spec = body["spec"]
    spec["base"] = {"model": "base"}
    spec["candidates"][0]["thinking"] = False
    spec["evaluation"] |= {"benchmarks": [{"name": "own", "uri": "own.jsonl", "grader": "exact"}], "budgets": [8]}
    spec["gate"]["require"] = [{"benchmark": "own", "maxDrop": 0.05}]
    return body


def researcher(plane: ControlPlane, namespace: str) -> Path:
    """A kubeconfig of a user who has the Role of k8s/install.yaml in the namespace, and nothing else."""
    objects = yaml.safe_load_all((ROOT / "k8s" / "install.yaml").read_text())
    role = next(one for one in objects if one and one["metadata"]["name"] == "potstill-researcher")
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    plane.api.post(f"{path}/roles", {"metadata": {"name": "researcher"}, "rules": role["rules"]})
    subject = {"kind": "User", "name": "researcher", "apiGroup": "rbac.authorization.k8s.io"}
    bound = {"kind": "Role", "name": "researcher", "apiGroup": "rbac.authorization.k8s.io"}
    plane.api.post(f"{path}/rolebindings", {"metadata": {"name": "ci"}, "roleRef": bound, "subjects": [subject]})
    return plane.kubeconfig("researcher")


@pytest.mark.parametrize(("commit", "code"), [(PASS, 0), (FAIL, 1)])
def test_the_script_ends_as_the_gate_decides(lab: Lab, tmp_path: Path, commit: str, code: int) -> None:
    assert (done := lab.submit(commit, tmp_path)).returncode == 0, done.stderr
    summary = tmp_path / "step-summary.md"
    done = lab.script("gate", REGRESSION_OUT=str(tmp_path), GITHUB_STEP_SUMMARY=str(summary))
    assert done.returncode == code, done.stdout + done.stderr
    assert summary.read_text().startswith(f"## Potstill gate: {OUTCOMES[code]}\n")
    assert (tmp_path / "comment.md").read_text().startswith(f"{MARK}\n## Potstill gate: {OUTCOMES[code]}\n")
    assert json.loads((tmp_path / "gate.json").read_text())["requirements"][0]["n"] == PROBLEMS
    assert junit_tags(tmp_path) == ["failure"] * code
    assert not list(lab.folder.glob("pwned"))


def junit_tags(folder: Path) -> list[str]:
    cases = ET.parse(folder / "junit.xml").findall("testsuite/testcase/*")
    return [part.tag for part in cases if part.tag != "system-out"]


@pytest.fixture
def held(lab: Lab) -> Iterator[Path]:
    """Nothing is generated until this file is gone."""
    file = lab.steer / "hold"
    file.touch()
    yield file
    file.unlink(missing_ok=True)


def test_a_gate_that_comes_too_early_has_no_verdict_and_is_asked_again(lab: Lab, held: Path, tmp_path: Path) -> None:
    assert (done := lab.submit(EARLY, tmp_path)).returncode == 0, done.stderr
    early = lab.script("gate", REGRESSION_OUT=str(tmp_path), REGRESSION_WAIT_MINUTES="0")
    assert early.returncode == 4
    assert "has not finished" in early.stderr or "does not exist" in early.stderr
    comment = (tmp_path / "comment.md").read_text()
    assert comment.startswith(f"{MARK}\n## Potstill gate: ")
    assert early.stderr.splitlines()[0] in comment
    held.unlink()
    again = lab.script("gate", REGRESSION_OUT=str(tmp_path))
    assert again.returncode == 3, again.stdout + again.stderr
    assert (tmp_path / "summary.md").read_text().startswith("## Potstill gate: not enough evidence\n")
    assert junit_tags(tmp_path) == ["failure"]


def test_the_same_candidate_submitted_twice_is_one_experiment(lab: Lab, tmp_path: Path) -> None:
    first = lab.submit(PASS, tmp_path)
    before = lab.labels()
    again = lab.submit(PASS, tmp_path)
    assert again.stdout == first.stdout
    assert "submitted (generation 1)" in again.stdout
    assert lab.labels() == before


def test_the_keys_of_the_gate_are_read_only(lab: Lab) -> None:
    client = lab.reader.client()
    key = f"adapters/{PASS}/adapter_config.json"
    assert key in [found["Key"] for found in client.list_objects_v2(Bucket="lab", Prefix="adapters/")["Contents"]]
    with pytest.raises(ClientError, match="AccessDenied"):
        client.put_object(Bucket="lab", Key=key, Body=b"changed")
    with pytest.raises(ClientError, match="AccessDenied"):
        client.delete_object(Bucket="lab", Key=key)


def test_an_experiment_that_the_controller_refuses_is_reported_at_once(lab: Lab, tmp_path: Path) -> None:
    body = template()
    body["spec"]["profile"] = "h300"
    (lab.folder / "refused.yaml").write_text(yaml.safe_dump(body))
    done = lab.submit(PASS, tmp_path, "refused.yaml")
    assert done.returncode == 2
    assert "there is no profile h300" in done.stderr


@pytest.fixture(scope="module")
def github() -> Iterator[Comments]:
    with github_comments() as comments:
        yield comments


@pytest.fixture(scope="module")
def repository(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that has copied what docs/ci.md says, and states where its cluster and store are."""
    folder = tmp_path_factory.mktemp("models")
    workflows = folder / ".github" / "workflows"
    workflows.mkdir(parents=True)
    shutil.copy(ROOT / ".github" / "workflows" / "regression-evaluation.yml", workflows)
    shutil.copytree(CI, folder / "ci")
    shutil.copy(lab.folder / "regression.yaml", folder)
    caller = (CI / "pull-request.yml").read_text()
    here = f"namespace: {lab.namespace}\n      store-endpoint: {lab.reader.endpoint}\n      potstill: ''\n      "
    assert caller.count("experiment: regression.yaml") == 1
    (workflows / "pull-request.yml").write_text(caller.replace("experiment: ", f"{here}experiment: "))
    git = ["git", "-C", str(folder), "-c", "user.name=lab", "-c", "user.email=lab@example.org"]
    subprocess.run([*git, "init", "--quiet", "--initial-branch=main"], check=True)
    subprocess.run([*git, "remote", "add", "origin", f"https://github.com/{REPOSITORY}.git"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message=models"], check=True)
    return folder


def act(
    lab: Lab, repository: Path, github: Comments, commit: str, full_name: str = REPOSITORY
) -> "subprocess.CompletedProcess[str]":
    """The workflow run on this machine by github.com/nektos/act, as for a pull request from BRANCH at `commit`."""
    head = {"sha": commit, "ref": f"{BRANCH} {commit}", "repo": {"full_name": full_name}}
    event = {"action": "synchronize", "pull_request": {"number": 7, "head": head, "base": {"ref": "main"}}}
    (repository.parent / "event.json").write_text(json.dumps(event))
    secrets = {
        "POTSTILL_KUBECONFIG": lab.kubeconfig.read_text(),
        "POTSTILL_READ_ACCESS_KEY_ID": lab.reader.access_key,
        "POTSTILL_READ_SECRET_ACCESS_KEY": lab.reader.secret_key,
        "GITHUB_TOKEN": TOKEN,
    }
    words = [
        "pull_request",
        "--platform",
        "ubuntu-24.04=-self-hosted",
        "--eventpath",
        repository.parent / "event.json",
    ]
    words += ["--workflows", ".github/workflows/pull-request.yml", "--no-cache-server", "--pull=false"]
    words += [word for name in secrets for word in ("--secret", name)]
    environment = {"PATH": lab.environment()["PATH"], "HOME": str(lab.folder), **secrets}
    command = [str(program("act")), *map(str, words), "--env", f"GITHUB_API_URL={github.url}"]
    return subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(("commit", "code"), [(PASS, 0), (FAIL, 1), (OPEN, 3)])
def test_the_workflow_ends_as_the_gate_decides_and_says_so_in_one_comment(
    lab: Lab, repository: Path, github: Comments, commit: str, code: int
) -> None:
    before = lab.labels()
    done = act(lab, repository, github, commit)
    assert (done.returncode == 0) == (code == 0), done.stdout + done.stderr
    assert f"exit-code={code}\n" in done.stdout
    made = [label for name, label in lab.labels().items() if name not in before]
    assert made == [f"{BRANCH} {commit}"]
    assert len(github.all) == 1
    assert github.all[0]["body"].startswith(f"{MARK}\n## Potstill gate: {OUTCOMES[code]}\n")
    assert lab.reader.secret_key not in done.stdout
    assert not [*lab.folder.glob("pwned"), *repository.glob("pwned")]


def test_where_there_is_no_adapter_the_workflow_ends_with_what_is_missing(
    lab: Lab, repository: Path, github: Comments
) -> None:
    before = lab.labels(), list(github.written)
    done = act(lab, repository, github, "e" * 40)
    assert done.returncode == 1
    assert f"s3://lab/adapters/{'e' * 40} holds no .safetensors file" in done.stdout
    assert "Main Gate" not in done.stdout
    assert (lab.labels(), github.written) == before


def test_a_forks_pull_request_starts_nothing(lab: Lab, repository: Path, github: Comments) -> None:
    before = lab.labels(), list(github.written)
    act(lab, repository, github, PASS, full_name="stranger/models")
    assert (lab.labels(), github.written) == before
