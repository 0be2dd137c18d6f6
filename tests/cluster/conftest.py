"""One control plane for all tests of this folder; each test takes its own namespace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import ApiProxy, ControlPlane, api_proxy, control_plane
from tests.cluster.harness.pod_runner import pod_runner
from tests.controller import tiny_program
from tests.tools.s3 import S3Server, s3_server
from workloads.storage.base import open_store

if TYPE_CHECKING:
    from controller.executors.kubernetes.namespace_controller import Controller
    from tests.cluster.unhappy import Place
    from tests.cluster.world import World
    from tests.tools.warm import WarmStart


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(__file__.rpartition("/")[0]) and "plane" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def plane(request: pytest.FixtureRequest) -> Iterator[ControlPlane]:
    """etcd, API server, controller manager and scheduler. A test that stops a part of it starts it again."""
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
    from tests.cluster.world import serve_experiments

    serve_experiments(plane)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def where(
    crd: None, plane: ControlPlane, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """A namespace for an experiment that does not run."""
    from tests.cluster.unhappy import place

    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    with place(plane, server, tmp_path) as made:
        yield made


@pytest.fixture
def program(request: pytest.FixtureRequest) -> Callable[[list[str]], list[str]]:
    """What pods run: their own commands, with the mark `warm_pods` in forks. A module may say otherwise."""
    if request.node.get_closest_marker("warm_pods"):
        warm: WarmStart = request.getfixturevalue("warm")
        return warm.in_place_of
    return list


@pytest.fixture
def steer(tmp_path: Path) -> Path:
    folder = tmp_path / "steer"
    folder.mkdir()
    return folder


@pytest.fixture
def tiny(steer: Path) -> Callable[[list[str]], list[str]]:
    """Returns a function that replaces `python -m workloads.X KEY ...` by the tiny program.

    In a grading pod the last step does the work. Commands without a task are not replaced.
    """

    def replaced(command: list[str]) -> list[str]:
        if "workloads.prefetch" in command:
            return command
        if "fetch" in command or "execute" in command:
            return ["true"]
        key = next(word for word in command if word.startswith("units/"))
        return ["python", tiny_program.__file__, str(steer), key]

    return replaced


@pytest.fixture
def held(steer: Path) -> Path:
    """Trainings wait until this file is gone."""
    (steer / "train.hold").touch()
    return steer / "train.hold"


@pytest.fixture
def world(
    crd: None,
    plane: ControlPlane,
    server: S3Server,
    program: Callable[[list[str]], list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    """In its own namespace, which enforces `restricted`."""
    from tests.cluster.world import World, profile_of, write_files

    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    namespace = plane.namespace(labels={"pod-security.kubernetes.io/enforce": "restricted"})
    files = tmp_path / "files"
    write_files(files)
    access = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
    plane.api.post(f"/api/v1/namespaces/{namespace}/secrets", {"metadata": {"name": "store"}, "stringData": access})
    url = f"s3://{server.bucket}/{namespace}"
    with pod_runner(plane.api, namespace, tmp_path / "pods", program) as runner:
        profile = profile_of(files, url, server)
        yield World(plane, namespace, server, open_store(url), profile, tmp_path, runner)
        if runner.failures:
            print("\n".join(runner.failures))


@pytest.fixture
def controller(world: World) -> Iterator[Callable[[], Controller]]:
    """Starts one more controller; all are stopped at the end."""
    made: list[Controller] = []

    def start() -> Controller:
        made.append(world.controller())
        made[-1].start()
        return made[-1]

    yield start
    for each in made:
        each.stop()
