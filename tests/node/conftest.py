"""One node for all tests of this folder, with our images on it, and an S3 server in the cluster. Needs root."""

import os
from collections.abc import Callable, Iterator
from functools import cache

import pytest

from tests.node.images import REPOSITORY, build, build_base, with_folder
from tests.node.node import Node, one_node
from tests.node.s3 import ClusterS3, deploy_s3


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(__file__.rpartition("/")[0]):
            item.add_marker(pytest.mark.node)
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(3600))


@pytest.fixture(scope="session")
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    if os.geteuid() != 0:
        pytest.skip("a node needs root: make test-node")
    with one_node() as node:
        yield node
        node.plane.keep_folder = request.session.testsfailed > 0


@pytest.fixture(scope="session")
def s3(node: Node) -> ClusterS3:
    return deploy_s3(node)


@pytest.fixture(scope="session")
def image(node: Node) -> Callable[[str], str]:
    """Yields a function that builds the image of that name of images/, with /examples in it, and returns its reference
    by digest.

    The images train and evaluate lack the packages that only a GPU uses.
    """

    @cache
    def reference(name: str) -> str:
        small = {"EXTRA": "train"} if name in {"train", "evaluate"} else {}
        built = build(name, build_base(), **small)
        [published] = node.publish([with_folder(built, REPOSITORY / "examples", "/examples")])
        return published

    return reference
