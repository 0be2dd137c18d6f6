"""One control plane for all tests of this folder; each test takes a namespace of its own."""

from collections.abc import Iterator
from contextlib import suppress

import pytest

from controller.crd import experiment_crd
from tests.cluster.harness import ApiProxy, ApiRefusedError, ControlPlane, api_proxy, control_plane
from tests.tools.processes import wait_until


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(__file__.rpartition("/")[0]) and "plane" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def plane(request: pytest.FixtureRequest) -> Iterator[ControlPlane]:
    """etcd, API server, controller manager and scheduler. Whoever stops a part of it starts it again."""
    with control_plane() as plane:
        yield plane
        plane.keep_folder = request.session.testsfailed > 0


@pytest.fixture
def namespace(plane: ControlPlane) -> str:
    return plane.namespace()


@pytest.fixture
def proxy(plane: ControlPlane) -> Iterator[ApiProxy]:
    """A fault proxy before the API server: `plane.kubeconfig(url=proxy.url)`."""
    with api_proxy(plane.url, plane.certificate_authority) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def crd(plane: ControlPlane) -> None:
    """The Experiment kind is served."""
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    plane.api.post(definitions, experiment_crd())
    wait_until(
        lambda: "Established" in {c["type"] for c in _conditions(plane, definitions) if c["status"] == "True"},
        "the CRD is established",
    )
    wait_until(lambda: _served(plane), "experiments are served")


def _served(plane: ControlPlane) -> bool:
    """An API server that has just been told of a kind answers 404, then 429 for a moment."""
    with suppress(ApiRefusedError):
        plane.api.get("/apis/potstill.dev/v1alpha1/experiments")
        return True
    return False


def _conditions(plane: ControlPlane, definitions: str) -> list[dict[str, str]]:
    status = plane.api.get(f"{definitions}/experiments.potstill.dev")["status"]
    return list(status.get("conditions") or [])
