"""A package that is installed beside Potstill adds stages: one for each checkpoint, one for each graded evaluation."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from controller.cli.added_checks import check_added_parts
from controller.gc.collector import look
from controller.snapshot.reader import SnapshotReader
from controller.snapshot.types import Unknown
from tests.controller.driver import small
from tests.kubernetes.tasks import profile
from tests.stages.package import BROKEN, WEIGH, install, of_page
from workloads.api import store_keys
from workloads.api.experiment import FrozenExperiment
from workloads.api.manifest import Manifest
from workloads.api.records import Marker, StageRecord
from workloads.registry import Registry, RegistryError
from workloads.stages.base import Stage
from workloads.stages.registry import STAGES, stage_named, stage_problems
from workloads.stages.train import TRAIN
from workloads.storage.base import Store, open_store
from workloads.storage.markers import Corrupt

MARKER = re.compile(r"units/[a-z]+/[0-9a-f]{64}/markers/[a-z]+\.json")


def output_of(site: Path, module: str, *arguments: str) -> str:
    """Returns the output of `python -m MODULE ARGUMENTS` with the packages of `site` installed."""
    path = os.pathsep.join([str(site), str(Path.cwd())])
    ended = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return ended.stdout


def run_small(site: Path, folder: Path) -> str:
    """Returns the last line of `potstill run`, with the packages of `site` installed."""
    return output_of(site, "tests.controller.driver", str(folder)).splitlines()[-1].partition(":")[0]


def store_of(folder: Path) -> Store:
    return open_store((folder / "store").as_uri())


def results(store: Store, stage: str) -> list[StageRecord]:
    keys = [info.key for info in store.list(f"units/{stage}/") if MARKER.fullmatch(info.key)]
    records = [Marker.model_validate_json(store.get(key)).record for key in keys]
    return [record for record in records if isinstance(record, StageRecord)]


@pytest.mark.slow
def test_added_stages_run_on_each_checkpoint_and_on_each_graded_evaluation(tmp_path: Path) -> None:
    files = {**of_page(), "weigh.py": WEIGH}
    site = install(tmp_path / "site", files, {"weigh": "weigh:WEIGH", "tally": "tally.stage:TALLY"})
    assert run_small(site, tmp_path) == "Succeeded"
    store = store_of(tmp_path)
    weighed, tallied = results(store, "weigh"), results(store, "tally")
    sizes = [record.values["bytes"] for record in weighed]
    assert sorted(size for size in sizes if isinstance(size, int)) == checkpoint_bytes(store)
    assert len(tallied) == 4
    assert {record.stage_version for record in tallied} == {"tally-1"}

    before = sorted(path.name for path in (tmp_path / "work" / "logs").iterdir())
    assert run_small(site, tmp_path) == "Succeeded"
    assert sorted(path.name for path in (tmp_path / "work" / "logs").iterdir()) == before

    frozen = small().model_copy(update={"stages": ("weigh", "tally")})
    seen = SnapshotReader(store).read(frozen, None)
    assert isinstance(seen, Unknown)
    assert (seen.reason, "Install the distribution" in seen.message) == ("StageMissing", True)
    with pytest.raises(Corrupt, match="there is no stage tally here"):
        look(store)


def checkpoint_bytes(store: Store) -> list[int]:
    keys = [info.key for info in store.list("units/train/") if "/markers/checkpoint-" in info.key]
    return sorted(sum(file.size for file in Marker.model_validate_json(store.get(key)).files) for key in keys)


@pytest.mark.slow
def test_an_experiment_whose_added_stage_fails_is_partially_failed_and_keeps_its_grades(tmp_path: Path) -> None:
    site = install(tmp_path / "site", {"broken.py": BROKEN}, {"broken": "broken:BROKEN"})
    assert run_small(site, tmp_path) == "PartiallyFailed"
    store = store_of(tmp_path)
    key = store_keys.manifest_key(small().name, accepted(store).uid8)
    manifest = Manifest.model_validate_json(store.get(key))
    assert [evaluation.state for evaluation in manifest.evaluations] == ["done"] * 4
    assert results(store, "broken") == []


def test_the_job_of_an_added_stage_runs_its_program_in_a_pod_of_its_part_of_the_profile(tmp_path: Path) -> None:
    site = install(tmp_path, of_page(), {"tally": "tally.stage:TALLY"})
    built = json.loads(output_of(site, "tests.stages.stage_job"))
    job, [container] = built["job"], built["job"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["python", "-P", "-m", "tally.program", built["task"]]
    assert container["image"] == profile().report.image
    assert re.fullmatch(r"pexp-0016feb2-tally-[0-9a-f]{12}-1", job["metadata"]["name"])
    assert job["metadata"]["labels"]["potstill.dev/role"] == "tally"


def accepted(store: Store) -> FrozenExperiment:
    key = next(info.key for info in store.list(store_keys.EXPERIMENTS) if info.key.endswith("/experiment.json"))
    return FrozenExperiment.model_validate_json(store.get(key))


def test_an_experiment_without_added_stages_is_stored_as_before() -> None:
    assert b'"stages"' not in small().to_json()
    assert b'"stages":["tally"]' in small().model_copy(update={"stages": ("tally",)}).to_json()


ADDED = replace(TRAIN, name="tally", unit_kind="tally", inputs=("train",), follows="checkpoint", version="tally-1")


def test_a_stage_that_keeps_the_rules_has_no_problems() -> None:
    assert stage_problems(ADDED) == []
    assert stage_problems(replace(ADDED, follows="evaluation", inputs=("grade",))) == []


@pytest.mark.parametrize(
    ("stage", "problem"),
    [
        (replace(ADDED, name="tally-2", unit_kind="tally-2"), "its name must be 1 to 12 letters a to z"),
        (replace(ADDED, name="member", unit_kind="member"), "the name member is reserved"),
        (replace(ADDED, unit_kind="train"), "unit_kind must be its name"),
        (replace(ADDED, inputs=("grade",)), "inputs must be ('train',)"),
        (replace(ADDED, version=""), "version must be stated"),
    ],
)
def test_a_rule_that_an_added_stage_breaks_is_named(stage: Stage, problem: str) -> None:
    assert stage_problems(stage) == [problem]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("tally", "no_such_module:STAGE", "cannot be loaded (ModuleNotFoundError: No module named 'no_such_module')"),
        ("tally", "json:dumps", "is a function, and must be a workloads.stages.base.Stage"),
        ("train", "workloads.stages.train:TRAIN", "the name train is taken by Potstill itself"),
        ("learn", "workloads.stages.train:TRAIN", "its name is train; both names must be equal"),
        ("tally", "tests.stages.package:RULE_BREAKER", "follows must be checkpoint or evaluation"),
    ],
)
def test_an_entry_point_that_cannot_be_used_is_named(name: str, value: str, message: str) -> None:
    point = EntryPoint(name, value, STAGES.group)
    found = Registry[Stage]("stage", STAGES.group, Stage, STAGES.builtin, check=stage_problems, find=lambda _: [point])
    start = f"stage of an unknown distribution (entry point {name} = {value} in potstill.stages): "
    with pytest.raises(RegistryError, match=re.escape(start) + ".*" + re.escape(message)):
        list(found.values())
    [check] = check_added_parts([found])
    assert (check.state, check.name, message in check.finding) == ("blocks", "stage", True)


def test_a_stage_that_is_not_installed_is_named_with_those_that_are() -> None:
    with pytest.raises(RegistryError, match="no stage tally here; there are: train, import, generate, grade, report"):
        stage_named("tally")
