"""If the store refuses the keys, the controller reports it everywhere, concludes nothing, and continues with right keys.

The control plane and the S3 server are real.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.unhappy import SECONDS, Place
from tests.tools.processes import wait_until
from tests.tools.s3 import EVERYTHING, S3Server, keys_of, mount
from workloads.storage.base import open_store

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]
UNKNOWN = {"AWS_ACCESS_KEY_ID": "revoked", "AWS_SECRET_ACCESS_KEY": "revoked"}
SAYS = "The server does not know these credentials: check AWS_ACCESS_KEY_ID"


@contextmanager
def started_with(where: Place, server: S3Server, folder: Path, keys: dict[str, str]) -> Iterator[None]:
    """A controller that reads its keys from files of a Secret, and gives a call up after a second."""
    mount(folder, keys)
    environment = {
        "POTSTILL_S3_ENDPOINT": server.endpoint,
        "POTSTILL_S3_KEYS": str(folder),
        "POTSTILL_STORE_DEADLINE_SECONDS": "1",
    }
    where.world.controller_store = open_store(where.world.store.url, environment)
    where.start()
    yield


def assert_it_says_so(where: Place) -> None:
    """In the status, in an Event, and in the probe; the process itself is sound."""
    world = where.world
    wait_until(lambda: world.condition("Ready").get("reason") == "StoreUnavailable", "the status says so", SECONDS)
    ready = world.condition("Ready")
    assert (ready["status"], SAYS in ready["message"]) == ("Unknown", True), ready
    notes = wait_until(
        lambda: [
            event["note"]
            for event in world.plane.api.items(f"/apis/events.k8s.io/v1/namespaces/{world.namespace}/events")
            if event["reason"] == "StoreUnavailable" and event["type"] == "Warning"
        ],
        "an Event says so",
        SECONDS,
    )
    assert SAYS in notes[0]
    assert SAYS in wait_until(where.controllers[0].unready, "the probe says so", SECONDS)
    assert where.controllers[0].problem() == "", "a restart would not help"


def assert_it_goes_on(where: Place) -> None:
    wait_until(lambda: where.world.condition("Ready").get("status") == "True", "the store is seen", SECONDS)
    wait_until(lambda: where.controllers[0].unready() == "", "the controller is ready", SECONDS)
    assert where.job()


def test_wrong_keys_at_the_start_are_reported_and_right_ones_are_used_at_once(
    where: Place, server: S3Server, tmp_path: Path
) -> None:
    with started_with(where, server, tmp_path / "keys", UNKNOWN):
        where.apply()
        assert_it_says_so(where)
        assert not where.world.condition("Accepted")
        assert not where.jobs()
        mount(tmp_path / "keys", keys_of(server))
        assert_it_goes_on(where)


def test_keys_that_become_wrong_are_reported_and_nothing_is_concluded(
    where: Place, server: S3Server, tmp_path: Path
) -> None:
    with started_with(where, server, tmp_path / "keys", keys_of(server.account(EVERYTHING))):
        where.apply()
        assert_it_goes_on(where)
        before = [job["metadata"]["uid"] for job in where.jobs()]
        mount(tmp_path / "keys", UNKNOWN)
        assert_it_says_so(where)
        assert where.world.condition("Finished")["status"] == "False"
        mount(tmp_path / "keys", keys_of(server))
        assert_it_goes_on(where)
        assert [job["metadata"]["uid"] for job in where.jobs()] == before
