"""Programs are built once, from pinned sources, for all simultaneous callers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools import programs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def start(cache: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.tools.programs", *words]
    environment = os.environ | {"POTSTILL_CACHE": str(cache)}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, env=environment, cwd=Path(__file__).parents[2]
    )


def test_callers_at_the_same_time_get_one_program(tmp_path: Path) -> None:
    callers = [start(tmp_path, "path", "pause") for _ in range(3)]
    answers = {caller.communicate()[0].strip() for caller in callers}
    assert len(answers) == 1
    path = Path(answers.pop())
    assert {file.name for file in path.parent.iterdir()} == {"pause", "pause.lock"}, "nothing unfinished stays"
    assert path.is_relative_to(tmp_path)
    assert os.access(path, os.X_OK)


def test_a_changed_source_is_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(programs, "MODULES", tmp_path)
    folder = tmp_path / "pause"
    folder.mkdir()
    (folder / "go.mod").write_text("module example\n\ngo 1.21\n")
    (folder / "main.go").write_text('package main\n\nfunc main() { println("one") }\n')
    first = programs.program("pause")
    assert programs.program("pause") == first
    (folder / "main.go").write_text('package main\n\nfunc main() { println("two") }\n')
    second = programs.program("pause")
    told = [subprocess.run([path], capture_output=True, text=True).stderr for path in (first, second)]
    assert told == ["one\n", "two\n"]


def test_the_error_holds_the_output_of_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(programs, "MODULES", tmp_path)
    (tmp_path / "pause").mkdir()
    (tmp_path / "pause" / "go.mod").write_text("module example\n\ngo 1.21\n")
    (tmp_path / "pause" / "main.go").write_text("package main\n\nfunc main() { undefined() }\n")
    with pytest.raises(programs.BuildFailedError, match="undefined: undefined"):
        programs.program("pause")


def test_an_unknown_program_is_a_usage_error_that_names_those_there_are(tmp_path: Path) -> None:
    caller = start(tmp_path, "path", "minikube")
    _, told = caller.communicate()
    assert caller.returncode == 2
    assert "versitygw" in told
