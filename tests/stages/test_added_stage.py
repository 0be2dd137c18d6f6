"""A package that is installed beside Potstill adds stages: one for each checkpoint, one for each graded evaluation."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

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
from workloads.stages.registry import StageError, stage_named, with_added
from workloads.storage.base import Store, open_store
from workloads.storage.markers import Corrupt

MARKER = re.compile(r"units/[a-z]+/[0-9a-f]{64}/markers/[a-z]+\.json")


def output_of(site: Path, module: str, *arguments: str) -> str:
    """Of `python -m MODULE ARGUMENTS` with the packages of `site` installed."""
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
    """How `potstill run` ends, with the packages of `site` installed."""
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
    assert sorted(record.values["bytes"] for record in weighed) == checkpoint_bytes(store)
    assert len(tallied) == 4
    assert {record.stage_version for record in tallied} == {"tally-1"}

    before = sorted(path.name for path in (tmp_path / "work" / "logs").iterdir())
    assert run_small(site, tmp_path) == "Succeeded"
    assert sorted(path.name for path in (tmp_path / "work" / "logs").iterdir()) == before

    frozen = small().model_copy(update={"stages": ("weigh", "tally")})
    seen = SnapshotReader(store).read(frozen, None)
    assert isinstance(seen, Unknown)
    assert (seen.reason, "Install the package" in seen.message) == ("StageMissing", True)
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


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("tally", "no_such_module:STAGE", "No module named 'no_such_module'"),
        ("tally", "workloads.stages.registry:GROUP", "is no workloads.stages.base.Stage"),
        ("train", "workloads.stages.train:TRAIN", "the name train is taken"),
        ("learn", "workloads.stages.train:TRAIN", "it is named train: name both alike"),
    ],
)
def test_an_entry_point_that_cannot_be_used_is_named(name: str, value: str, message: str) -> None:
    with pytest.raises(StageError, match=f"potstill.stages: {name} = {value}.*{message}"):
        with_added([EntryPoint(name, value, "potstill.stages")])


def test_a_stage_that_is_not_installed_is_named_with_those_that_are() -> None:
    with pytest.raises(StageError, match="no stage tally here; there are: train, import, generate, grade, report"):
        stage_named("tally")
