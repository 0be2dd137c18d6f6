"""The controller on a real control plane and a real S3 server; pods' programs really run."""

from collections.abc import Callable

import pytest

from controller.executors.kubernetes.namespace_controller import Controller
from tests.cluster.world import World, experiment
from tests.train.world import write_rows

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.long
def test_an_experiment_is_run_from_apply_to_report(world: World, controller: Callable[[], Controller]) -> None:
    controller()
    world.plane.api.post(world.path, experiment())
    assert world.finished()["reason"] == "Succeeded"
    status = world.get()["status"]
    assert (status["training"], status["checkpoints"], status["evaluations"]) == ("1/1", "2/2", "3/3")
    assert [e.state for e in world.manifest().evaluations] == ["done"] * 3
    assert world.condition("Accepted")["status"] == "True"
    report = status["report"].removeprefix(world.store.url.rstrip("/") + "/")
    assert b"<html" in world.store.get(report)


def test_a_wrong_spec_is_refused_with_what_to_change(world: World, controller: Callable[[], Controller]) -> None:
    controller()
    wrong = experiment()
    wrong["spec"]["runs"][0]["data"] = "sum"
    world.plane.api.post(world.path, wrong)
    assert world.finished(seconds=60)["reason"] == "Failed"
    assert "did you mean sums?" in world.condition("Accepted")["message"]
    assert not world.runner.started


@pytest.mark.warm_pods
def test_a_run_with_bad_data_stops_no_other(world: World, controller: Callable[[], Controller]) -> None:
    controller()
    item = experiment()
    write_rows(world.folder / "files" / "bad.jsonl", [{"prompt": "1 + 1", "answer": "2"}] * 40)
    item["spec"]["data"]["bad"] = {"uri": "bad.jsonl"}
    item["spec"]["runs"].append({**item["spec"]["runs"][0], "name": "two", "data": "bad"})
    world.plane.api.post(world.path, item)
    assert world.finished()["reason"] == "PartiallyFailed"
    lines = {line["name"]: line for line in world.get()["status"]["runs"]}
    assert (lines["one"]["state"], lines["two"]["state"]) == ("done", "failed")
    assert "response" in lines["two"]["message"]
    assert "two" in world.condition("TrainingComplete")["message"]
