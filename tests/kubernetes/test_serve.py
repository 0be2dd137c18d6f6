"""The controller's process: its probes, its failed starts, and threads that no error can end."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from kubernetes import client
from prometheus_client import CollectorRegistry

from controller.executors.kubernetes.api import Api
from controller.executors.kubernetes.former_experiments import FormerExperiments, Json
from controller.executors.kubernetes.health import Health, serve_health
from controller.executors.kubernetes.informer import Pace
from controller.executors.kubernetes.metrics import Metrics
from controller.executors.kubernetes.namespace_controller import UNANSWERED_SECONDS, Controller
from controller.executors.kubernetes.workqueue import Key, KeyedQueue, work
from tests.tools.processes import wait_until
from workloads.storage.base import open_store

PACE = Pace(first_seconds=0.05, longest_seconds=0.1)


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[Controller]:
    """A controller whose API server does not answer."""
    settings = client.Configuration(host="http://127.0.0.1:1")
    settings.retries = False
    made = Controller(Api(client.ApiClient(settings)), open_store(tmp_path.as_uri()), {}, "team", pace=PACE)
    made.start()
    yield made
    made.stop(1.0)


def test_it_is_alive_but_not_ready_while_the_api_server_is_away(controller: Controller) -> None:
    assert controller.problem() == ""
    assert "the Lease team/potstill-controller is not held yet" in controller.unready()
    controller._lease._held_until = float("inf")
    assert "namespaces/team/jobs has not listed yet" in controller.unready()


def test_it_is_not_alive_once_a_watch_has_had_no_answer_for_long(controller: Controller) -> None:
    watch = controller._watched.jobs
    watch._last_true -= UNANSWERED_SECONDS + 1
    assert "namespaces/team/jobs was not confirmed for 301 s" in controller.problem()


def test_it_is_not_alive_once_a_thread_has_ended(controller: Controller) -> None:
    controller._watched.pods.stop()
    wait_until(controller.problem, "it is noticed")
    assert controller.problem() == "ended: watch /api/v1/namespaces/team/pods"


def test_no_error_of_one_experiment_ends_a_worker(caplog: pytest.LogCaptureFixture) -> None:
    queue, handled = KeyedQueue(time.monotonic), list[Key]()

    def handle(key: Key) -> None:
        handled.append(key)
        if key == ("team", "a"):
            raise RuntimeError("a mistake")

    worker = threading.Thread(target=work, args=(queue, handle), daemon=True)
    worker.start()
    queue.add(("team", "a"))
    wait_until(lambda: "a mistake" in caplog.text, "the error is logged")
    queue.add(("team", "b"))
    wait_until(lambda: ("team", "b") in handled, "the next experiment is handled")
    wait_until(lambda: handled.count(("team", "a")) > 1, "the first is tried again")
    queue.close()
    worker.join(60.0)
    assert not worker.is_alive()


def test_an_experiment_that_is_deleted_or_replaced_is_cleaned_up_once_and_an_error_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cleaned = list[str]()

    def clean_up(item: Json) -> None:
        cleaned.append(item["metadata"]["uid"])
        raise RuntimeError("a mistake")

    former, key = FormerExperiments(clean_up), ("team", "a")
    for uid in ("1", "1", "2"):
        former.see(key, {"metadata": {"uid": uid}})
    former.see(key, None)
    former.see(key, None)
    assert cleaned == ["1", "2"]
    assert caplog.text.count("it was not cleaned up") == 2


def test_probes_answer_with_what_is_wrong() -> None:
    problems = {"alive": "", "ready": "the watch of jobs has not listed yet"}
    health = Health(lambda: problems["alive"], lambda: problems["ready"])
    server = serve_health(0, health, CollectorRegistry())
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        assert urlopen(f"{url}/healthz").read() == b"ok\n"
        with pytest.raises(HTTPError) as refused:
            urlopen(f"{url}/readyz")
        assert (refused.value.code, refused.value.read()) == (503, b"the watch of jobs has not listed yet\n")
    finally:
        server.shutdown()


def test_metrics_of_some_names_can_be_asked_for() -> None:
    metrics, healthy = Metrics(), Health(lambda: "", lambda: "")
    metrics.reconciled(("team", "a"), "success", 0.5)
    server = serve_health(0, healthy, metrics.registry)
    try:
        url = f"http://127.0.0.1:{server.server_port}/metrics"
        every = urlopen(url).read().decode()
        some = urlopen(f"{url}?name[]=controller_runtime_reconcile_total").read().decode()
    finally:
        server.shutdown()
    line = 'controller_runtime_reconcile_total{controller="experiment",result="success"} 1.0'
    assert line in every.splitlines()
    assert "controller_runtime_reconcile_time_seconds_bucket" in every
    assert [found for found in some.splitlines() if not found.startswith("#")] == [line]


def failed_start(**environment: str) -> dict[str, Any]:
    """The only log line of a controller that cannot start."""
    ran = subprocess.run(
        [sys.executable, "-m", "controller.executors.kubernetes.serve"],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 1
    (line,) = ran.stderr.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


@pytest.mark.slow
def test_a_controller_that_cannot_start_says_why_in_one_line(tmp_path: Path) -> None:
    unset = failed_start()
    assert (unset["level"], unset["message"]) == (
        "error",
        "cannot start: the environment variable POTSTILL_PROFILES is not set",
    )
    (tmp_path / "odd.yaml").write_text("engine: {}\n")
    wrong = failed_start(POTSTILL_PROFILES=str(tmp_path), POTSTILL_STORE=(tmp_path / "store").as_uri())
    assert "odd.yaml" in wrong["message"]
    assert "traceback" not in wrong
