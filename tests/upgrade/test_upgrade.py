"""A store that an earlier version wrote is read and continued: committed work is not repeated, and everything finishes.

`54e357a.tar.xz` was made by `make_store.py` with the code of commit 54e357a.
"""

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from workloads.api.records import Marker
from workloads.storage.base import open_store
from workloads.storage.markers import verify

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
RUN = "from controller import cli, lease; lease.LEASE_SECONDS = 3.0; cli.main()"
"""The killed runner was on another machine: its lease is watched before it is taken, but here for less than a
minute.
"""
ARCHIVE = Path(__file__).with_name("54e357a.tar.xz")


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def run(folder: Path, store: str) -> None:
    command = [sys.executable, "-c", RUN, "run"]
    done = subprocess.run(
        [*command, str(folder / "files" / "upgraded.yaml"), "--store", str(folder / store)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "XDG_STATE_HOME": str(folder / "state")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def manifest(store: Path) -> dict[str, Any]:
    """The experiment must keep its name and its identity (`82968c6a`), because results belong to these."""
    found: dict[str, Any] = json.loads((store / "experiments/upgraded/82968c6a/manifest.json").read_text())
    return found


def markers(store: Path, kind: str = "*") -> dict[str, bytes]:
    paths = store.glob(f"units/{kind}/*/markers/*.json")
    return {str(path.relative_to(store)): path.read_bytes() for path in paths if not path.name.startswith("state-")}


def trained_tasks(store: Path) -> set[str]:
    return {str(path.relative_to(store)) for path in store.glob("units/train/*/tasks/?.json")}


def committed(store: Path) -> Iterator[Marker]:
    for data in markers(store).values():
        yield Marker.model_validate_json(data)


def results(found: dict[str, Any]) -> dict[str, Any]:
    """Returns by evaluation the digest of its generation, and the grades at each budget, if it is done."""
    return {
        f"{e['model']} {e['benchmark']}": (e["generate"], e["state"], [b["verdicts"] for b in e["budgets"]])
        for e in found["evaluations"]
    }


def test_a_finished_store_stays_as_it_is(unpacked: Path) -> None:
    store = unpacked / "finished"
    before, standing, tasks = manifest(store), markers(store), trained_tasks(store)
    run(unpacked, "finished")
    after = manifest(store)
    assert markers(store).items() >= standing.items()
    assert trained_tasks(store) == tasks
    assert after["state"] == "succeeded"
    assert results(after).keys() == results(before).keys()
    same_engine = {e["generate"] for e in before["evaluations"]} == {e["generate"] for e in after["evaluations"]}
    if same_engine:
        assert results(after) == results(before)
        assert markers(store, "generate") == {key: data for key, data in standing.items() if "/generate/" in key}


@pytest.mark.long
def test_a_store_left_in_the_middle_is_continued_to_its_end(unpacked: Path) -> None:
    """Its programs and its runner were killed on another machine during the second training; a task of each is open."""
    store = unpacked / "middle"
    before, standing, tasks = manifest(unpacked / "finished"), markers(store), trained_tasks(store)
    run(unpacked, "middle")
    after = manifest(store)
    assert markers(store).items() >= standing.items(), "what was committed stays as it was"
    assert after["state"] == "succeeded"
    assert {m["id"]: m["state"] for m in after["models"]} == {m["id"]: m["state"] for m in before["models"]}
    assert {r["digest"] for r in after["runs"]} == {r["digest"] for r in before["runs"]}
    assert len(trained_tasks(store) - tasks) == 1, "only the training that was cut off goes on, as a new attempt"
    assert len(list(store.glob("units/train/*/tasks/?.end.json"))) == len(trained_tasks(store)), "each has its end"
    opened = open_store(store.as_uri())
    assert {problem for marker in committed(store) for problem in verify(opened, marker, deep=True)} == set()
    assert [e["state"] for e in after["evaluations"]] == ["done"] * 5
