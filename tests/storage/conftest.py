"""The same tests on both stores: a directory, and a real S3 server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage.http_proxy import HttpProxy, http_proxy
from tests.tools.s3 import FaultProxy, S3Server, fault_proxy, s3_server
from workloads.storage.base import Store, open_store


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment().items():
            patch.setenv(name, value)
        yield server


@pytest.fixture(params=["directory", pytest.param("s3", marks=pytest.mark.s3)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """The test's own empty store."""
    if request.param == "directory":
        return open_store((tmp_path / "store").as_uri())
    server: S3Server = request.getfixturevalue("server")
    return open_store(f"s3://{server.bucket}/{tmp_path.name}")


@pytest.fixture
def faults(server: S3Server, tmp_path: Path) -> Iterator[FaultProxy]:
    """Breaks connections to the S3 server."""
    with fault_proxy(server.endpoint, tmp_path) as proxy:
        yield proxy


@pytest.fixture
def requests(server: S3Server) -> Iterator[HttpProxy]:
    """Sees each request to the S3 server, and may answer in its place."""
    with http_proxy(server.endpoint) as proxy:
        yield proxy
