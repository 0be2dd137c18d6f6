"""The whole path on one machine, by the command line and the real programs: what a user may rely on."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.tools.shared import made_once
from tests.tools.warm import WarmStart
from tests.train.world import sums, write_base, write_rows
from workloads.api.units import GRADER_VERSION

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200), pytest.mark.long]

EXPERIMENT = """\
apiVersion: potstill.dev/v1alpha1
kind: Experiment
metadata: {name: whole}
spec:
  base: {model: base}
  data: {sums: {uri: sums.jsonl, onShort: repeat}}
  training: {lora: {rank: 4, alpha: 8, target: [attention]}, batchSize: 4, samples: 40, checkpointEverySamples: 20}
  runs:
    - {name: cut, data: sums, sequenceTokens: 48, overlong: truncate}
    - {name: left, data: sums, sequenceTokens: 64, overlong: drop}
  evaluation:
    benchmarks: [{name: own, uri: own.jsonl, grader: math}, {name: lists, uri: code.jsonl, grader: code}]
    budgets: [8, 16]
"""

CANDIDATES = """\
apiVersion: potstill.dev/v1alpha1
kind: Experiment
metadata: {name: regression}
spec:
  base: {model: base}
  candidates: [{name: mine, adapter: adapter}]
  evaluation:
    benchmarks: [{name: own, uri: own.jsonl, grader: math}]
    budgets: [8, 16]
"""

ANOTHER_TRAINER = """\
apiVersion: potstill.dev/v1alpha1
kind: Experiment
metadata: {name: elsewhere}
spec:
  base: {model: base}
  runs:
    - {name: watched, checkpoints: {watch: out, ready: DONE, expect: [10, 20]}}
    - {name: given, checkpoints: {publish: true, expect: [10]}}
  evaluation:
    benchmarks: [{name: own, uri: own.jsonl, grader: math}]
    budgets: [8, 16]
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files, and the store after an undisturbed run of whole.yaml: for all workers, by the same paths."""
    return made_once(tmp_path_factory, "whole", run_undisturbed)


def run_undisturbed(folder: Path) -> None:
    write_files(folder / "files")
    write_shadows(folder / "shadows")
    words = ("run", str(folder / "files" / "whole.yaml"), "--store", str(folder / "store"))
    potstill(*words, state=folder / "state", directory=folder / "shadows")


def write_shadows(folder: Path) -> None:
    """A current directory whose modules have the names of the standard library's, the project's and its packages'."""
    folder.mkdir()
    for name in ("random", "json", "torch", "workloads", "controller"):
        package = folder / name
        package.mkdir()
        (package / "__init__.py").write_text("raise ImportError('a module of the current directory was imported')\n")
    (folder / "queue.py").write_text("raise ImportError('a module of the current directory was imported')\n")


@pytest.fixture(scope="module")
def files(undisturbed: Path) -> Path:
    """Each test writes there under its own name."""
    return undisturbed / "files"


@pytest.fixture(scope="module")
def store(undisturbed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This worker's copy."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return Path(shutil.copytree(undisturbed / "store", folder / "store"))


def write_files(folder: Path) -> None:
    folder.mkdir()
    write_base(folder / "base")
    write_rows(folder / "sums.jsonl", sums(60))
    write_rows(folder / "own.jsonl", [{"id": f"p{n}", "prompt": f"{n} + {n}", "answer": str(2 * n)} for n in range(6)])
    tests = [{"args": [n], "expected": n + 1} for n in range(3)]
    rows = [{"id": "c1", "prompt": "add one", "entry_point": "f", "tests": tests}]
    write_rows(folder / "code.jsonl", rows)
    (folder / "whole.yaml").write_text(EXPERIMENT)
    (folder / "regression.yaml").write_text(CANDIDATES)
    (folder / "elsewhere.yaml").write_text(ANOTHER_TRAINER)


def environment(state: Path, **more: str) -> dict[str, str]:
    """One thread, so that results are equal to the last bit; nothing of this machine's earlier runs."""
    return os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "XDG_STATE_HOME": str(state)} | more


def potstill(
    *words: str,
    state: Path,
    check: bool = True,
    directory: Path | None = None,
    warm: WarmStart | None = None,
    **more: str,
) -> subprocess.CompletedProcess[str]:
    if warm is not None:
        done = warm.potstill(*words, folder=directory or state, environment=environment(state, **more))
    else:
        command = [sys.executable, "-P", "-m", "controller.cli", *words]
        done = subprocess.run(command, env=environment(state, **more), cwd=directory, capture_output=True, text=True)
    if check and done.returncode != 0:
        raise AssertionError(
            f"potstill {' '.join(words)}: {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        )
    return done


def manifests(store: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(store.glob(f"experiments/{name}/*/manifest.json"))]


TIMES = {"trainSeconds", "tokensPerSecond", "generateSeconds"}
ATTEMPTS = {"attempts", "generateAttempts", "gradeAttempts"}


def without(value: Any, names: set[str]) -> Any:
    if isinstance(value, dict):
        return {key: without(item, names) for key, item in value.items() if key not in names}
    return [without(item, names) for item in value] if isinstance(value, list) else value


def tasks(store: Path, kind: str) -> set[str]:
    found = store.glob(f"units/{kind}/*/tasks/*.json")
    return {str(path.relative_to(store)) for path in found if path.name.removesuffix(".json").isdigit()}


def test_every_checkpoint_and_the_base_are_graded_and_reported(store: Path) -> None:
    (manifest,) = manifests(store, "whole")
    assert manifest["state"] == "succeeded"
    assert [e["state"] for e in manifest["evaluations"]] == ["done"] * 10
    assert {e["generateAttempts"] for e in manifest["evaluations"]} == {1}, (
        "what an engine was offered is not an attempt"
    )
    assert {len(b["verdicts"]) for e in manifest["evaluations"] if e["benchmark"] == "own" for b in e["budgets"]} == {6}
    generated = [json.loads((store / key).read_text()) for key in tasks(store, "generate")]
    assert {task["loraTarget"] for task in generated if task["type"] == "generate"} == {"attention"}
    (report,) = store.glob("experiments/whole/*/report/index.html")
    assert "cut" in report.read_text()


def test_modules_of_the_current_directory_shadow_nothing(undisturbed: Path, store: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run([sys.executable, "-c", "import random"], cwd=undisturbed / "shadows", check=True)
    (manifest,) = manifests(store, "whole")
    assert manifest["state"] == "succeeded"


def test_run_again_it_does_nothing_again(files: Path, store: Path, tmp_path: Path, warm: WarmStart) -> None:
    before = tasks(store, "*")
    potstill("run", str(files / "whole.yaml"), "--store", str(store), state=tmp_path, warm=warm)
    assert tasks(store, "*") == before


def test_killed_at_ten_random_moments_it_ends_in_the_same_manifest(files: Path, store: Path, tmp_path: Path) -> None:
    moments = random.Random(16)
    broken = tmp_path / "store"
    command = [sys.executable, "-c", "from controller.cli import main; main()", "run", str(files / "whole.yaml")]
    kills = 0
    for _ in range(10):
        process = subprocess.Popen(
            [*command, "--store", str(broken)], env=environment(tmp_path), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            process.wait(moments.uniform(2, 8))
        except subprocess.TimeoutExpired:
            kills += 1
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    potstill("run", str(files / "whole.yaml"), "--store", str(broken), state=tmp_path)
    assert kills >= 5
    assert without(manifests(broken, "whole"), TIMES | ATTEMPTS) == without(manifests(store, "whole"), TIMES | ATTEMPTS)


def test_an_edited_run_is_all_that_executes(files: Path, store: Path, tmp_path: Path, warm: WarmStart) -> None:
    edited = files / "edited.yaml"
    edited.write_text(EXPERIMENT.replace("overlong: drop}", "overlong: drop, learningRate: 1.0e-3}"))
    copy = tmp_path / "store"
    shutil.copytree(store, copy)
    before = tasks(copy, "train"), tasks(copy, "generate")
    potstill("run", str(edited), "--store", str(copy), state=tmp_path, warm=warm)
    assert len(tasks(copy, "train") - before[0]) == 1
    trained = {m["id"]: m["content"] for m in manifests(copy, "whole")[0]["models"]}
    again = {m["id"]: m["content"] for m in manifests(copy, "whole")[1]["models"]}
    changed = {name for name in trained if trained[name] != again[name]}
    assert changed == {"left@20", "left@40"}
    new = [json.loads((copy / key).read_text()) for key in tasks(copy, "generate") - before[1]]
    members = [member for task in new if task["type"] == "generate" for member in task["members"]]
    assert len(members) == 4


@pytest.fixture
def adapter(store: Path) -> Path:
    """The files of a committed checkpoint."""
    marker = json.loads(next(iter(sorted(store.glob("units/train/*/markers/checkpoint-000000020.json")))).read_text())
    return (store / str(marker["files"][0]["key"])).parent


def test_a_spec_of_candidates_alone_is_evaluated(
    files: Path, store: Path, adapter: Path, tmp_path: Path, warm: WarmStart
) -> None:
    shutil.copytree(adapter, files / "adapter", dirs_exist_ok=True)
    potstill("run", str(files / "regression.yaml"), "--store", str(tmp_path / "store"), state=tmp_path, warm=warm)
    (manifest,) = manifests(tmp_path / "store", "regression")
    assert [(e["model"], e["state"]) for e in manifest["evaluations"]] == [("base", "done"), ("mine", "done")]


def test_checkpoints_of_another_trainer_are_watched_and_handed_in(
    files: Path, store: Path, adapter: Path, tmp_path: Path, warm: WarmStart
) -> None:
    for samples in (10, 20):
        shutil.copytree(adapter, files / "out" / f"checkpoint-{samples}", dirs_exist_ok=True)
        (files / "out" / f"checkpoint-{samples}" / "DONE").touch()
    spec, where = str(files / "elsewhere.yaml"), str(tmp_path / "store")
    wrong = potstill(
        "publish",
        spec,
        str(adapter),
        "--run",
        "given",
        "--samples",
        "11",
        "--store",
        where,
        state=tmp_path,
        check=False,
        warm=warm,
    )
    assert wrong.returncode == 2
    assert "given expects checkpoints at 10, not at 11" in wrong.stderr
    potstill(
        "publish", spec, str(adapter), "--run", "given", "--samples", "10", "--store", where, state=tmp_path, warm=warm
    )
    potstill("run", spec, "--store", where, state=tmp_path, warm=warm)
    (manifest,) = manifests(tmp_path / "store", "elsewhere")
    assert {e["model"]: e["state"] for e in manifest["evaluations"]} == dict.fromkeys(
        ["base", "watched@10", "watched@20", "given@10"], "done"
    )


@pytest.fixture
def next_version(tmp_path: Path) -> Path:
    """A copy of these packages whose grader is another version."""
    root, folder = Path(__file__).parents[2], tmp_path / "next"
    for package in ("controller", "workloads"):
        shutil.copytree(root / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    units = folder / "workloads/api/units.py"
    stated = f'GRADER_VERSION = "{GRADER_VERSION}"'
    assert stated in units.read_text()
    units.write_text(units.read_text().replace(stated, 'GRADER_VERSION = "grade-next"'))
    return folder


def graded(store: Path, keys: set[str]) -> list[dict[str, Any]]:
    """The inputs of all members of the grade tasks among `keys`."""
    found = [json.loads((store / key).read_text()) for key in keys]
    return [member["inputs"] for task in found if task["type"] == "grade" for member in task["members"]]


def test_a_new_grader_grades_stored_outputs_again_and_nothing_else_runs(
    files: Path, store: Path, next_version: Path, tmp_path: Path
) -> None:
    copy, spec = tmp_path / "store", str(files / "whole.yaml")
    (tmp_path / "empty").mkdir()
    early = potstill("regrade", spec, "--store", str(tmp_path / "empty"), state=tmp_path, check=False)
    assert early.returncode == 4
    assert "10 evaluations without outputs (first: " in early.stdout
    shutil.copytree(store, copy)
    before = {kind: tasks(copy, kind) for kind in ("train", "generate", "grade")}
    potstill("regrade", spec, "--store", str(copy), state=tmp_path)
    assert {kind: tasks(copy, kind) for kind in before} == before, "by the same grader there is nothing to do"
    other: dict[str, Any] = {"PYTHONPATH": str(next_version), "PYTHONSAFEPATH": "1"}
    potstill("regrade", spec, "--store", str(copy), state=tmp_path, **other)
    after = {kind: tasks(copy, kind) for kind in before}
    assert {kind for kind in before if after[kind] != before[kind]} == {"grade"}
    asked, again = graded(copy, before["grade"]), graded(copy, after["grade"] - before["grade"])
    assert {member["graderVersion"] for member in again} == {"grade-next"}
    assert len(again) == len(asked)
    assert {member["outputsContent"] for member in again} == {member["outputsContent"] for member in asked}
    (first,) = manifests(store, "whole")
    states = [[e["state"] for e in manifest["evaluations"]] for manifest in manifests(copy, "whole")]
    assert states[-1] == ["done"] * len(first["evaluations"])
