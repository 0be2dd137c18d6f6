"""No secret is in what Potstill writes: objects of the store, logs, events, statuses, Jobs, pods, the report.

The control plane, the S3 server and the pods' programs are real. The secrets are planted where a platform gives them:
the Secret of the store, and a variable from a Secret (a hub's token, a proxy's password).
"""

import base64
import json
import logging
from collections.abc import Callable, Iterator

import pytest

from controller.executors.kubernetes.namespace_controller import Controller
from tests.cluster.world import World, experiment
from tests.tools.processes import wait_until
from tests.train.world import write_rows

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.warm_pods, pytest.mark.long]
PLANTED = {
    "HF_TOKEN": "planted-hub-token-5f1c",
    "HTTPS_PROXY": "http://lab:planted-proxy-password-77ab@127.0.0.1:1",
}
"""Secret variables of every role, whose values must appear nowhere."""
WRONG_KEY = "planted-wrong-secret-key-90d2"
KINDS = ("events", "pods", "configmaps", "services", "jobs.batch", "experiments.potstill.dev", "events.events.k8s.io")


@pytest.fixture
def planted(world: World) -> World:
    """Every role has the planted variables; all but the training of `wrong` have the right keys of the store."""
    secrets = f"/api/v1/namespaces/{world.namespace}/secrets"
    world.plane.api.post(secrets, {"metadata": {"name": "platform"}, "stringData": PLANTED})
    wrong = {"AWS_ACCESS_KEY_ID": world.server.access_key, "AWS_SECRET_ACCESS_KEY": WRONG_KEY}
    world.plane.api.post(secrets, {"metadata": {"name": "wrong"}, "stringData": wrong})
    extra = [{"name": name, "valueFrom": {"secretKeyRef": {"name": "platform", "key": name}}} for name in PLANTED]
    roles = ("train", "evaluate", "grade", "report")
    stated = {role: getattr(world.profile, role).model_copy(update={"extra_env": extra}) for role in roles}
    world.profile = world.profile.model_copy(update=stated)
    return world


def written(world: World, logs: str) -> Iterator[tuple[str, bytes]]:
    """(where, content) of everything that the controller, the pods and the control plane wrote; Secrets left out."""
    for info in world.store.list(""):
        yield info.key, world.store.get(info.key)
    for kind in KINDS:
        found = world.plane.kubectl("get", kind, "-o", "json", "--show-managed-fields", namespace=world.namespace)
        assert json.loads(found)["items"] or kind in ("configmaps", "services"), f"there are {kind}"
        yield kind, found.encode()
    for path in (world.folder / "pods").glob("*/*.log"):
        yield str(path), path.read_bytes()
    yield "the controller's log", logs.encode()


SECRETS = (PLANTED["HF_TOKEN"], "planted-proxy-password-77ab")


def holding(secret: str, found: dict[str, bytes]) -> list[str]:
    """Where the secret is, as it is or in base64."""
    forms = (secret.encode(), base64.b64encode(secret.encode()))
    return [where for where, content in found.items() if any(form in content for form in forms)]


def test_no_secret_is_written_anywhere(
    planted: World, controller: Callable[[], Controller], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="potstill")
    controller()
    item = experiment()
    write_rows(planted.folder / "files" / "bad.jsonl", [{"prompt": "1 + 1", "answer": "2"}] * 40)
    item["spec"]["data"]["bad"] = {"uri": "bad.jsonl"}
    item["spec"]["runs"].append({**item["spec"]["runs"][0], "name": "two", "data": "bad"})
    planted.plane.api.post(planted.path, item)
    assert planted.finished()["reason"] == "PartiallyFailed", "a failure with its traceback is among what is searched"
    found = dict(written(planted, caplog.text))
    assert any("failure" in key for key in found)
    assert any(key.endswith(".html") for key in found)
    assert {secret: holding(secret, found) for secret in (planted.server.secret_key, *SECRETS)} == {
        secret: [] for secret in (planted.server.secret_key, *SECRETS)
    }


def test_messages_about_keys_that_the_store_refuses_contain_no_secret(
    planted: World, controller: Callable[[], Controller], caplog: pytest.LogCaptureFixture
) -> None:
    assert planted.profile.store is not None
    wrong = planted.profile.store.model_copy(update={"secret": "wrong"})
    planted.profile = planted.profile.model_copy(update={"store": wrong})
    controller()
    planted.plane.api.post(planted.path, experiment(limits={"attempts": 1}))
    wait_until(lambda: planted.runner.failures, "a pod is refused by the store", 120)
    wait_until(lambda: planted.get().get("status", {}).get("runs"), "the controller says so", 60)
    found = dict(written(planted, caplog.text))
    assert any(b"SignatureDoesNotMatch" in content for content in found.values())
    assert holding(WRONG_KEY, found) == []
