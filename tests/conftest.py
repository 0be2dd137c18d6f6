"""For all tests: hypothesis does not time its examples, because machines that run tests are busy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.tools.warm import WarmStart

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmStart]:
    """Runs commands of `potstill` whose programs need not import anything."""
    from tests.faults.lab import fork_server
    from tests.tools.warm import WarmStart

    folder = tmp_path_factory.mktemp("warm")
    with fork_server(folder) as forks:
        yield WarmStart(forks, folder)
