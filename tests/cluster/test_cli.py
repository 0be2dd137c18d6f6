"""The commands that talk to a cluster, through a kubeconfig as a user has one."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from controller.cli import app
from controller.executors.kubernetes.namespace_controller import Controller
from tests.cluster.world import World, experiment
from tests.train.world import write_rows

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.warm_pods, pytest.mark.long]


@pytest.fixture
def potstill(world: World) -> Callable[..., Result]:
    def call(*words: str) -> Result:
        where = ["--kubeconfig", str(world.plane.kubeconfig()), "--namespace", world.namespace]
        return CliRunner().invoke(app, [*words, *where])

    return call


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(experiment()))
    return path


def test_a_submitted_experiment_is_waited_for_and_read(
    world: World, controller: Callable[[], Controller], potstill: Callable[..., Result], file: Path, tmp_path: Path
) -> None:
    controller()
    done = potstill("submit", str(file), "--wait")
    assert done.exit_code == 0, done.output
    assert "Succeeded:" in done.output
    told = potstill("status", "tiny")
    assert told.exit_code == 0
    assert "training 1/1, checkpoints 2/2, evaluations 3/3" in told.output
    assert "==> train/" in potstill("logs", "tiny", "one").output
    assert "no attempt failed" in potstill("show", "tiny").output
    reported = potstill("report", "tiny", "--cluster", "--out", str(tmp_path / "report"))
    assert reported.exit_code == 0, reported.output
    written = {path.name: path.read_bytes() for path in (tmp_path / "report").iterdir()}
    key = world.get()["status"]["report"].removeprefix(world.store.url.rstrip("/") + "/")
    assert written["index.html"] == world.store.get(key), "it is the one that is in the store"
    assert "submitted (generation 1)" in potstill("submit", str(file)).output, "the same file changes nothing"


def test_show_says_why_a_run_failed_and_retry_asks_for_another_try(
    world: World, controller: Callable[[], Controller], potstill: Callable[..., Result], file: Path
) -> None:
    write_rows(world.folder / "files" / "sums.jsonl", [{"prompt": "1 + 1", "answer": "2"}] * 40)
    controller()
    done = potstill("submit", str(file), "--wait")
    assert done.exit_code == 1, done.output
    shown = potstill("show", "tiny")
    assert shown.exit_code == 1
    assert "exit code 11" in shown.output
    assert "--- log" in shown.output
    asked = potstill("retry", "tiny", "--cluster")
    assert asked.exit_code == 0, asked.output
    assert "potstill.dev/retry" in world.get()["metadata"]["annotations"]


def test_the_error_for_an_unknown_name_lists_the_known_ones(
    world: World, potstill: Callable[..., Result], file: Path
) -> None:
    assert potstill("submit", str(file)).exit_code == 0
    for command in (["status", "tinny"], ["show", "tinny"], ["logs", "tinny"], ["report", "tinny", "--cluster"]):
        wrong = potstill(*command)
        assert wrong.exit_code == 2
        assert "there are: tiny" in " ".join(wrong.output.replace("│", " ").split())


def test_a_change_that_the_server_refuses_is_wrong_input(
    world: World, potstill: Callable[..., Result], file: Path
) -> None:
    assert potstill("submit", str(file)).exit_code == 0
    changed = experiment()
    changed["spec"]["base"]["model"] = "other"
    file.write_text(yaml.safe_dump(changed))
    refused = potstill("submit", str(file))
    assert refused.exit_code == 2
    assert "base cannot change in a live experiment" in " ".join(refused.output.replace("│", " ").split())
