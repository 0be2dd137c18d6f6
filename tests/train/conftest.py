from pathlib import Path

import pytest
import torch

from tests.train.world import sums, write_base, write_rows


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("dense"))


@pytest.fixture(scope="session")
def moe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("moe"), "moe")


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 rows of 49 to 82 tokens."""
    return write_rows(tmp_path_factory.mktemp("data") / "sums.jsonl", sums(40))
