"""An Experiment that was deleted and applied again is another one: nothing of the first reaches the second."""

from copy import deepcopy
from typing import Any

import pytest

from controller.executors.kubernetes.acceptance import uid8_of
from controller.executors.kubernetes.reconciler import Dropped
from tests.cluster.unhappy import SECONDS, Place
from tests.tools.processes import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(300)]


def manifest(where: Place) -> str:
    return str(where.status().get("manifest", ""))


def replaced(where: Place) -> dict[str, Any]:
    """Applies an Experiment, waits for its status, deletes it and applies it again: returns the last state of the first."""
    where.apply()
    wait_until(lambda: manifest(where), "the first has a status", SECONDS)
    first = where.world.get()
    where.world.plane.api.delete(f"{where.world.path}/tiny")
    where.apply()
    return first


def test_a_round_that_began_with_the_first_writes_nothing_onto_the_second(where: Place) -> None:
    where.start()
    first = replaced(where)
    second = where.world.get()
    wait_until(lambda: uid8_of(second) in manifest(where), "the second has its own status", SECONDS)
    late = deepcopy(first)
    late["status"]["conditions"] = []
    with pytest.raises(Dropped):
        where.controllers[0]._reconciler.reconcile(late)
    assert uid8_of(second) in manifest(where)
    assert len(where.world.condition("Accepted")) > 0


def test_a_status_that_is_not_its_own_is_not_believed(where: Place) -> None:
    """An earlier controller may write such a status too late, or a backup may restore it."""
    where.start()
    first = replaced(where)
    wrong = first["status"] | {"phase": "Succeeded", "counts": {"checkpoints": 7, "outputs": 7, "grades": 7}}
    end = {"type": "Finished", "status": "True", "reason": "Succeeded", "message": "", "observedGeneration": 1}
    wrong["conditions"] = [{**end, "lastTransitionTime": "2026-01-01T00:00:00Z"}]
    where.world.plane.api.patch(f"{where.world.path}/tiny/status", {"status": wrong})
    second = where.world.get()
    wait_until(
        lambda: (
            uid8_of(second) in manifest(where)
            and where.world.condition("Finished")["status"] == "False"
            and where.status()["counts"]["checkpoints"] == 0
        ),
        "its own status",
        SECONDS,
    )
    uid = second["metadata"]["uid"]
    wait_until(
        lambda: uid in [job["metadata"]["ownerReferences"][0]["uid"] for job in where.jobs()], "its own Job", SECONDS
    )


def test_a_job_that_is_not_the_one_that_was_seen_is_left_alone(where: Place) -> None:
    where.start()
    where.apply()
    job = where.job()
    ((_, rounds, _),) = where.controllers[0]._reconciler._rounds.values()
    executor = rounds._executor
    copies = list(where.controllers[0]._watched.jobs.objects().values())
    where.stop()
    key = job["metadata"]["annotations"]["potstill.dev/task"]
    for copy in copies:
        copy["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000"
    executor.stop(key)
    executor.discard(key)
    found = where.jobs()[0]["metadata"]
    assert "deletionTimestamp" not in found
    assert "potstill.dev/closed" not in found["annotations"]


def test_the_controller_has_a_name_in_what_it_writes(where: Place) -> None:
    where.start()
    where.apply()
    where.job()
    wait_until(lambda: manifest(where), "a status", SECONDS)
    managers = {entry["manager"] for entry in where.world.get()["metadata"]["managedFields"] if "subresource" in entry}
    assert managers == {"potstill-controller"}
