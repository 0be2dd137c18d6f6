"""Compiled code on a volume that pods share: it is used when it is complete, and never prevents an engine's start.

One start of an engine fills a folder. If no error ends the start, the folder is sealed: the file SEAL is written there, and
only then do later starts use the folder.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from workloads.compiled import KERNEL_VARIABLES, SEAL, UNUSED_SECONDS, keep_kernels, sealed_folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def start(key: str = "engine", *, fails: bool = False) -> tuple[Path, bool]:
    """Starts an engine. Returns its folder of compiled code, and whether there was code in it before."""
    with sealed_folder("vllm", key) as folder:
        warm = (folder / "graph").exists()
        (folder / "graph").write_text("compiled")
        if fails:
            raise RuntimeError("the engine did not start")
    return folder, warm


def test_the_next_start_finds_the_compiled_code_of_the_one_before(cache: Path) -> None:
    assert start() == (cache / "compiled/vllm/engine", False)
    assert start() == (cache / "compiled/vllm/engine", True)
    assert start("other") == (cache / "compiled/vllm/other", False)


def test_a_start_that_failed_or_was_killed_leaves_nothing_for_the_next() -> None:
    with pytest.raises(RuntimeError):
        start(fails=True)
    assert not start()[1]
    killed = "from workloads.compiled import *; import os\n"
    killed += "with sealed_folder('vllm', 'killed') as folder: (folder / 'graph').write_text('half'); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", killed], env=os.environ).returncode == 9
    assert not start("killed")[1]
    assert start("killed")[1]


def test_code_with_which_a_start_failed_is_not_used_again() -> None:
    start()
    with pytest.raises(RuntimeError):
        start(fails=True)
    assert not start()[1]


def test_a_start_while_another_one_compiles_gets_a_folder_of_its_own(cache: Path) -> None:
    with sealed_folder("vllm", "engine") as first:
        (first / "graph").write_text("compiled")
        second, warm = start()
        assert second != first
        assert not warm
        assert not (first / SEAL).exists()
    assert start() == (first, True)


def test_without_a_writable_cache_every_start_compiles_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "file"))
    for variable in KERNEL_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    keep_kernels()
    assert not any(variable in os.environ for variable in KERNEL_VARIABLES)
    assert [start()[1], start()[1]] == [False, False]


def test_a_start_that_compiled_deletes_folders_that_were_unused_for_long(cache: Path) -> None:
    for key in ("old", "recent"):
        start(key)
    seal = cache / "compiled/vllm/old" / SEAL
    os.utime(seal, (seal.stat().st_mtime - UNUSED_SECONDS - 9,) * 2)
    start("recent")
    assert seal.exists(), "a start that compiles nothing deletes nothing"
    start("new")
    assert {folder.name for folder in (cache / "compiled/vllm").iterdir() if folder.is_dir()} == {"recent", "new"}


def test_an_old_folder_that_was_used_again_is_not_deleted(cache: Path) -> None:
    start()
    seal = cache / "compiled/vllm/engine" / SEAL
    os.utime(seal, (1, 1))
    start()
    start("new")
    assert seal.exists()


def test_kernels_are_kept_in_the_cache_unless_the_user_set_another_folder(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in KERNEL_VARIABLES:
        monkeypatch.setenv(variable, "")  # so that monkeypatch restores it after the test
        monkeypatch.delenv(variable)
    monkeypatch.setenv("TRITON_CACHE_DIR", "/elsewhere")
    keep_kernels()
    assert {variable: os.environ[variable] for variable in KERNEL_VARIABLES} == {
        "CUDA_CACHE_PATH": f"{cache}/compiled/cuda",
        "TORCHINDUCTOR_CACHE_DIR": f"{cache}/compiled/inductor",
        "TRITON_CACHE_DIR": "/elsewhere",
    }
