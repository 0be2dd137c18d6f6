"""An experiment that does not run says why, in the cluster's own words, and what to change."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.harness import ControlPlane
from tests.cluster.unhappy import CASES, MORE, Case, Place, make, place
from tests.tools.s3 import S3Server

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def where(
    crd: None, plane: ControlPlane, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    with place(plane, server, tmp_path) as made:
        yield made


@pytest.mark.parametrize("case", [*CASES, *MORE], ids=lambda case: case.name)
def test_what_keeps_an_experiment_from_running_is_in_its_status(case: Case, where: Place) -> None:
    make(case, where)
    run = where.status()["runs"][0]
    if case.condition == "Progressing":
        assert (where.status()["phase"], run["state"]) == ("Pending", "pending")
        assert case.says[0] in run["message"]
    if case.condition == "TrainingComplete":
        assert run["state"] == "failed"
    assert where.world.condition("Accepted")["status"] == "True"
