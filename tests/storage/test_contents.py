"""Inputs by content: what counts, what does not, and the message about an input that changed."""

import hashlib
import os
from pathlib import Path

import pytest

from tests.tools.s3 import S3Server
from workloads.api.tasks import FileSource, ModelSource
from workloads.storage.base import StoreError, open_store
from workloads.storage.content_digest import ContentError, directory_content, file_sha256, localise_file, localise_model


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def model(folder: Path, weights: bytes = b"weights") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(b"{}")
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def test_a_models_content_does_not_depend_on_its_place(tmp_path: Path) -> None:
    assert directory_content(model(tmp_path / "a")) == directory_content(model(tmp_path / "b" / "c"))


def test_a_models_content_is_its_weights_configuration_and_tokenizer(tmp_path: Path) -> None:
    folder = model(tmp_path / "a")
    content = directory_content(folder)
    (folder / "README.md").write_text("words")
    (folder / ".cache").mkdir()
    (folder / "optimizer.pt").write_bytes(b"state")
    assert directory_content(folder) == content
    (folder / "tokenizer.json").write_text("{}")
    assert directory_content(folder) != content


def test_names_count_as_well_as_bytes(tmp_path: Path) -> None:
    one, other = model(tmp_path / "a"), model(tmp_path / "b")
    (other / "model.safetensors").rename(other / "model-00001-of-00001.safetensors")
    assert directory_content(one) != directory_content(other)


def test_weights_that_are_pickles_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ContentError, match=r"holds no \.safetensors file"):
        directory_content(tmp_path)


def test_a_large_files_hash_is_remembered_until_it_is_written_to(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"1" * 2_000_000)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    first = file_sha256(path)
    [memory] = (cache / "hashes").iterdir()
    memory.write_text("as remembered")
    assert file_sha256(path) == "as remembered"
    path.write_bytes(b"2" * 2_000_000)
    os.utime(path, (1_000_000_001, 1_000_000_001))
    assert file_sha256(path) == hashlib.sha256(b"2" * 2_000_000).hexdigest() != first


def test_the_hash_of_a_file_written_just_now_is_not_remembered(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "large").write_bytes(b"1" * 2_000_000)
    file_sha256(tmp_path / "large")
    assert not (cache / "hashes").exists()


def test_a_cache_that_cannot_be_written_only_makes_it_slower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"1" * 2_000_000)
    os.utime(tmp_path / "file", (1_000_000_000, 1_000_000_000))
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "file"))
    assert file_sha256(tmp_path / "file") == hashlib.sha256(b"1" * 2_000_000).hexdigest()


def test_a_model_that_changed_since_acceptance_is_refused(tmp_path: Path) -> None:
    folder = model(tmp_path / "a")
    source = ModelSource(location=str(folder), content=directory_content(folder))
    assert localise_model(source) == folder
    (folder / "model.safetensors").write_bytes(b"other")
    with pytest.raises(ContentError, match=r"has changed since the experiment was accepted: .* not sha256:"):
        localise_model(source)


@pytest.mark.parametrize("location", ["plain", "uri"])
def test_a_file_is_used_where_it_lies(tmp_path: Path, location: str) -> None:
    path = tmp_path / "with space.jsonl"
    path.write_bytes(b"{}")
    place = str(path) if location == "plain" else path.as_uri()
    source = FileSource(location=place, sha256=hashlib.sha256(b"{}").hexdigest())
    assert localise_file(source, tmp_path / "into") == path
    path.write_bytes(b"{ }")
    with pytest.raises(ContentError, match="has changed"):
        localise_file(source, tmp_path / "into")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match=r"absent\.jsonl does not exist"):
        localise_file(FileSource(location=str(tmp_path / "absent.jsonl"), sha256="0" * 64), tmp_path)


def test_a_place_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match="https:// is not known here"):
        localise_file(FileSource(location="https://host/data.jsonl", sha256="0" * 64), tmp_path)


def test_a_hub_model_needs_its_revision(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match="name the model and its revision"):
        localise_model(ModelSource(location="hub://Qwen/Qwen3@main", content="hub:Qwen/Qwen3@0123"))


def test_a_builtin_benchmark_is_package_data(tmp_path: Path) -> None:
    from workloads.benchmarks.registry import benchmark_path

    source = FileSource(
        location="builtin:math-500", sha256=hashlib.sha256(benchmark_path("math-500").read_bytes()).hexdigest()
    )
    assert localise_file(source, tmp_path) == benchmark_path("math-500")


@pytest.mark.s3
def test_a_file_in_a_bucket_is_downloaded_and_checked(server: S3Server, tmp_path: Path) -> None:
    open_store("s3://lab/data").put("math.jsonl", b"{}")
    source = FileSource(location="s3://lab/data/math.jsonl", sha256=hashlib.sha256(b"{}").hexdigest())
    assert localise_file(source, tmp_path / "into").read_bytes() == b"{}"
    open_store("s3://lab/data").put("math.jsonl", b"changed")
    with pytest.raises(ContentError, match=r"s3://lab/data/math\.jsonl has changed"):
        localise_file(source, tmp_path / "into")
    with pytest.raises(ContentError, match=r"s3://lab/data/absent\.jsonl does not exist"):
        localise_file(FileSource(location="s3://lab/data/absent.jsonl", sha256="0" * 64), tmp_path / "into")


@pytest.mark.s3
def test_a_model_in_a_bucket_has_the_content_of_the_directory_it_came_from(server: S3Server, tmp_path: Path) -> None:
    folder = model(tmp_path / "a")
    bucket = open_store("s3://lab/models/tiny")
    for path in folder.iterdir():
        bucket.put(path.name, path.read_bytes())
    source = ModelSource(location="s3://lab/models/tiny/", content=directory_content(folder))
    here = localise_model(source)
    assert {path.name: path.read_bytes() for path in here.iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
    bucket.put("model.safetensors", b"changed there")
    assert localise_model(source) == here, "what was accepted is still here"
    (here / "model.safetensors").write_bytes(b"damaged here")
    with pytest.raises(ContentError, match="has changed"):
        localise_model(source)


@pytest.mark.s3
def test_a_bucket_that_cannot_be_read_is_unknown_and_not_changed(server: S3Server, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such bucket"):
        localise_model(ModelSource(location="s3://nowhere/model", content="sha256:" + "0" * 64))
