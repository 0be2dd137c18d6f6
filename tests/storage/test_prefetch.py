"""A base on a volume: it has the accepted content under its digest's name, or it is absent."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.storage.http_proxy import Answer, Do, HttpProxy
from tests.tools.processes import wait_until
from tests.tools.s3 import S3Server
from workloads.api.tasks import ModelSource
from workloads.prefetch import main, prefetch
from workloads.storage.base import open_store
from workloads.storage.content_digest import (
    ContentError,
    directory_content,
    localise_model,
    localise_model_file,
    weights_name,
)

pytestmark = pytest.mark.s3
FILES = {
    "config.json": b"{}",
    "model-1.safetensors": b"first" * 1000,
    "model-2.safetensors": b"second" * 1000,
    "modeling.py": b"print('remote code')",
    "pytorch_model.bin": b"pickle",
}


@pytest.fixture(autouse=True)
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "volume"
    folder.mkdir()
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("POTSTILL_WEIGHTS", str(folder))
    return folder


@pytest.fixture
def source(server: S3Server, tmp_path: Path) -> ModelSource:
    """A base in a bucket, with files that are not part of it."""
    folder = tmp_path / "origin"
    folder.mkdir()
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
        open_store(f"s3://lab/{tmp_path.name}").put(name, data)
    return ModelSource(location=f"s3://lab/{tmp_path.name}", content=directory_content(folder))


def test_programs_read_the_downloaded_weights(source: ModelSource, volume: Path) -> None:
    sealed = prefetch(source, volume)
    assert {path.name for path in sealed.iterdir()} == {"config.json", "model-1.safetensors", "model-2.safetensors"}
    assert list(volume.iterdir()) == [sealed]
    elsewhere = source.model_copy(update={"location": "s3://nowhere/base"})
    assert localise_model(elsewhere) == sealed == volume / weights_name(source.content)
    assert localise_model_file(elsewhere, "config.json", volume / "into") == sealed / "config.json"


def test_an_existing_file_is_not_fetched_again(
    source: ModelSource, volume: Path, requests: HttpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = prefetch(source, volume)
    monkeypatch.setenv("POTSTILL_S3_ENDPOINT", requests.url)
    assert prefetch(source, volume) == sealed
    assert not requests.seen


def test_other_weights_than_the_experiment_states_are_not_sealed(source: ModelSource, volume: Path) -> None:
    open_store(source.location).put("model-2.safetensors", b"other")
    with pytest.raises(ContentError, match=rf"{source.location} holds sha256:.*, not {source.content}"):
        prefetch(source, volume)
    assert not (volume / weights_name(source.content)).exists()
    with pytest.raises(ContentError, match="has changed"):
        localise_model(source)
    open_store(source.location).put("model-2.safetensors", FILES["model-2.safetensors"])
    assert prefetch(source, volume).is_dir(), "put right, it is tried again"


def test_a_place_without_weights_is_named(volume: Path, server: S3Server) -> None:
    with pytest.raises(ContentError, match=r"s3://lab/nothing holds no \.safetensors file"):
        prefetch(ModelSource(location="s3://lab/nothing", content="sha256:" + "0" * 64), volume)


def test_a_right_file_of_an_interrupted_run_is_kept(source: ModelSource, volume: Path) -> None:
    arriving = volume / f".{weights_name(source.content)}.arriving"
    arriving.mkdir()
    kept = arriving / "model-1.safetensors"
    kept.write_bytes(FILES[kept.name])
    stamp = kept.stat().st_mtime_ns
    assert (prefetch(source, volume) / kept.name).stat().st_mtime_ns == stamp


@pytest.mark.parametrize("found", [b"damaged"[:5] * 1000, b"half"], ids=["of the same size", "of another size"])
def test_other_files_of_an_interrupted_run_are_replaced(source: ModelSource, volume: Path, found: bytes) -> None:
    arriving = volume / f".{weights_name(source.content)}.arriving"
    arriving.mkdir()
    (arriving / "model-1.safetensors").write_bytes(found)
    (arriving / "left-over.safetensors").write_bytes(b"of an upload before")
    assert directory_content(prefetch(source, volume)) == source.content


def test_the_program_says_what_is_wrong_in_its_exit_code_and_last_line(
    source: ModelSource, volume: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert main([source.location, source.content]) == 0
    assert main([source.location, "sha256:" + "0" * 64]) == 11
    assert "which the experiment states" in caplog.messages[-1]
    assert main(["s3://nowhere/base", "sha256:" + "0" * 64]) == 16
    assert main([]) == 10


def test_after_sigterm_it_ends_and_continues_from_its_state(
    source: ModelSource, volume: Path, requests: HttpProxy, server: S3Server
) -> None:
    requests.rule = lambda seen: Answer(503, "SlowDown") if "model-2" in seen.path else Do.FORWARD
    command = [sys.executable, "-m", "workloads.prefetch", source.location, source.content]
    environment = os.environ | server.environment(requests.url)
    with subprocess.Popen(command, env=environment) as process:
        wait_until(lambda: any("model-2" in seen.path for seen in requests.seen), "the second file is asked for")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 15
    [arriving] = volume.iterdir()
    assert (arriving / "model-1.safetensors").read_bytes() == FILES["model-1.safetensors"]
    assert directory_content(prefetch(source, volume)) == source.content
