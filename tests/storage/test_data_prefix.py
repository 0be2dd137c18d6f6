"""A data set that is a directory in a bucket: the same rows and the same hash as on a disk."""

import gzip
import json
from pathlib import Path

import pytest

from tests.tools.s3 import S3Server
from workloads.api.tasks import FileSource
from workloads.api.units import Columns
from workloads.data.rows import read_rows
from workloads.data.sources import data_sha256, fetch_data, is_here, localise_data
from workloads.storage.base import Store, open_store
from workloads.storage.content_digest import ContentError

pytestmark = pytest.mark.s3


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two shards, one of them in a folder and packed, and a file that is not data."""
    folder = tmp_path / "shards"
    (folder / "more").mkdir(parents=True)
    (folder / "a.jsonl").write_text(line(1) + line(2))
    (folder / "more" / "b.jsonl.gz").write_bytes(gzip.compress(line(3).encode(), mtime=0))
    (folder / "README.md").write_text("words")
    return folder


def line(number: int) -> str:
    return json.dumps({"prompt": f"What is {number}?", "response": str(number)}) + "\n"


@pytest.fixture
def bucket(server: S3Server) -> Store:
    return open_store(f"s3://{server.bucket}")


@pytest.fixture
def source(server: S3Server, bucket: Store, shards: Path, tmp_path: Path) -> FileSource:
    for path in shards.rglob("*"):
        if path.is_file():
            bucket.put(f"{tmp_path.name}/{path.relative_to(shards)}", path.read_bytes())
    return FileSource(location=f"s3://{server.bucket}/{tmp_path.name}/", sha256=data_sha256(shards))


def prompts(path: Path) -> list[str]:
    return [str(row.prompt) for row in read_rows(path, Columns())]


def test_a_prefix_has_the_rows_and_the_hash_of_the_directory(source: FileSource, shards: Path, tmp_path: Path) -> None:
    found = localise_data(source, tmp_path / "into")
    assert data_sha256(found) == source.sha256
    assert prompts(found) == prompts(shards) == ["What is 1?", "What is 2?", "What is 3?"]
    assert not list(found.rglob("README.md"))


def test_it_is_fetched_once(source: FileSource, bucket: Store, tmp_path: Path) -> None:
    assert not is_here(source)
    first = fetch_data(source)
    bucket.delete(f"{tmp_path.name}/a.jsonl")
    assert is_here(source)
    assert fetch_data(source) == first
    assert len(prompts(first)) == 3


@pytest.mark.parametrize("change", ["another row", "another file", "a file less"])
def test_a_prefix_that_holds_something_else_is_refused(
    change: str, source: FileSource, bucket: Store, tmp_path: Path
) -> None:
    if change == "another row":
        bucket.put(f"{tmp_path.name}/a.jsonl", line(4).encode())
    elif change == "another file":
        bucket.put(f"{tmp_path.name}/c.jsonl", line(4).encode())
    else:
        bucket.delete(f"{tmp_path.name}/more/b.jsonl.gz")
    with pytest.raises(ContentError, match="holds other data than was stated: its SHA-256 is"):
        localise_data(source, tmp_path / "into")


def test_a_prefix_without_data_is_refused(source: FileSource, tmp_path: Path) -> None:
    nowhere = source.model_copy(update={"location": f"{source.location}nowhere/"})
    with pytest.raises(ContentError, match="holds no data file"):
        localise_data(nowhere, tmp_path / "into")
