"""The controller's process: its probes, how it fails to start, and that no error ends one of its threads."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from kubernetes import client
from prometheus_client import CollectorRegistry

from controller.executors.kubernetes.api import Api
from controller.executors.kubernetes.health import Health, serve_health
from controller.executors.kubernetes.informer import Pace
from controller.executors.kubernetes.serve import DEAF_SECONDS, Controller
from tests.tools.processes import wait_until
from workloads.storage.base import open_store

PACE = Pace(first_seconds=0.05, longest_seconds=0.1)


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[Controller]:
    """Whose API server does not answer."""
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
    watch._last_true -= DEAF_SECONDS + 1
    assert "namespaces/team/jobs was not confirmed for 301 s" in controller.problem()


def test_it_is_not_alive_once_a_thread_has_ended(controller: Controller) -> None:
    controller._watched.pods.stop()
    wait_until(controller.problem, "it is noticed")
    assert controller.problem() == "ended: watch /api/v1/namespaces/team/pods"


def test_no_error_of_one_experiment_ends_a_worker(
    controller: Controller, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a mistake")

    for name in ("_reconcile", "_forget_former"):
        monkeypatch.setattr(controller, name, fail)
        controller._queue.add(("team", "a"))
        wait_until(lambda: "a mistake" in caplog.text, "the error is logged")
        caplog.clear()
    assert controller.problem() == ""


def test_an_experiment_whose_cleaning_up_fails_holds_up_no_other(
    controller: Controller, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(controller._reconciler, "gone", fail)
    controller._last[("team", "a")] = {"metadata": {"uid": "1"}}
    controller._forget_former(("team", "a"), None)
    assert "it was not cleaned up" in caplog.text


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


def failed_start(**environment: str) -> dict[str, Any]:
    """The only line that a controller which cannot start writes."""
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
