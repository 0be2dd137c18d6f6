"""An experiment that does not run says why, in the cluster's own words, and what to change."""

import re
import threading
from typing import Any

import pytest

from tests.cluster.harness import ApiProxy
from tests.cluster.unhappy import CASES, MORE, SECONDS, Case, Place, deny_jobs, make
from tests.cluster.world import experiment
from tests.tools.processes import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize("case", [*CASES, *MORE], ids=lambda case: case.name)
def test_the_status_says_why_an_experiment_does_not_run(case: Case, where: Place) -> None:
    make(case, where)
    run = where.status()["runs"][0]
    if case.condition == "Progressing":
        assert (where.status()["phase"], run["state"]) == ("Pending", "pending")
        assert case.says[0] in run["message"]
    if case.condition == "TrainingComplete":
        assert run["state"] == "failed"
    assert where.world.condition("Accepted")["status"] == "True"


def tasks(where: Place) -> list[str]:
    return [info.key for info in where.world.store.list("units/") if re.search(r"tasks/\d+(\.end)?\.json$", info.key)]


def refusals(where: Place) -> list[dict[str, Any]]:
    events = where.world.plane.api.items(f"{where.path}/events")
    return [one for one in events if one["involvedObject"]["name"] == "tiny" and one["reason"] == "JobRefused"]


def test_a_refused_job_costs_nothing_and_is_made_soon_after_its_cause_is_gone(where: Place) -> None:
    quota = next(case for case in CASES if case.name == "job-quota")
    make(quota, where)
    wait_until(lambda: len(refusals(where)) > 0, "an Event", SECONDS)
    (warning,) = refusals(where)
    assert (warning["type"], "exceeded quota: team" in warning["message"]) == ("Warning", True)
    where.stop()
    where.start()
    where.world.plane.api.delete(f"{where.path}/resourcequotas/team")
    where.job()
    wait_until(lambda: where.world.condition("Progressing")["reason"] != "JobRefused", "it goes on", SECONDS)
    (task,) = tasks(where)
    assert task.endswith("/1.json"), "one attempt, which is not closed"


def test_a_refused_job_holds_up_no_other(where: Place) -> None:
    unless = "has(object.metadata.labels) && object.metadata.labels[?'potstill.dev/role'].orValue('') == 'train'"
    deny_jobs(where, unless, "no evaluations on Mondays")
    where.start()
    where.world.plane.api.post(where.world.path, experiment())
    wait_until(lambda: where.world.condition("Progressing").get("reason") == "JobRefused", "it says so", SECONDS)
    assert [job["metadata"]["labels"]["potstill.dev/role"] for job in where.jobs()] == ["train"]
    assert "pending: attempt 1: " in where.world.condition("EvaluationsComplete")["message"]
    assert where.world.condition("Accepted")["status"] == "True"


def test_events_that_are_refused_cost_no_round(where: Place, proxy: ApiProxy) -> None:
    proxy.answer(422, "POST .*/events", times=1000)
    where.world.kubeconfig = where.world.plane.kubeconfig(url=proxy.url)
    where.start()
    where.apply()
    where.job()
    wait_until(lambda: where.status().get("phase") == "Pending", "its status", SECONDS)
    registry = where.controllers[0].metrics.registry
    failed = {"controller": "experiment", "result": "error"}
    assert registry.get_sample_value("controller_runtime_reconcile_total", failed) is None


def test_a_store_that_goes_and_comes_does_not_change_what_was_accepted(where: Place) -> None:
    where.start()
    where.apply()
    where.job()
    wait_until(lambda: where.world.condition("Ready").get("status") == "True", "a status", SECONDS)
    accepted = where.world.condition("Accepted")
    where.world.plane.api.patch(f"{where.world.path}/tiny/status", {"status": {"counts": {"checkpoints": 9}}})
    where.stop()
    where.start()
    wait_until(lambda: where.world.condition("Ready")["reason"] == "StoreRegressed", "nothing is concluded", SECONDS)
    assert where.world.condition("Accepted") == accepted


def test_a_round_that_hangs_holds_up_the_end_for_no_longer_than_is_left(where: Place) -> None:
    where.start()
    hanging = threading.Event()
    thread = threading.Thread(target=hanging.wait, daemon=True)
    thread.start()
    where.controllers[0]._threads += [thread] * 4
    stopping = threading.Thread(target=where.controllers[0].stop, args=(1.0,))
    stopping.start()
    stopping.join(3.5)
    assert not stopping.is_alive()
    hanging.set()
