"""Another trainer's file puts escape sequences and markup into a failure: the output of real commands is safe."""

import json
import os
import pty
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from rich.table import Table
from typer.testing import CliRunner, Result

from controller.cli import app
from controller.cli.status import render
from controller.terminal import plain_console

BASE = Path(__file__).parents[2] / "examples" / "quickstart" / "base"
NAME = "\x1b]0;owned\x07\x1b[2J[/usr/lib/x] [bold]| <script>@everyone</script>\n# Heading"
SHOWN = "[/usr/lib/x] [bold]|"


def potstill(*words: str) -> Result:
    return CliRunner().invoke(app, list(words), env={"COLUMNS": "2000"})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A candidate with one tensor that has a hostile name, and a gate on it."""
    import torch
    from safetensors.torch import save_file

    folder = tmp_path / "adapter"
    folder.mkdir()
    save_file({NAME: torch.zeros(2, 2)}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}))
    (tmp_path / "own.jsonl").write_text(json.dumps({"id": "a", "prompt": "1 + 1", "answer": "2"}) + "\n")
    requirement = {"benchmark": "own", "metric": "accuracy", "maxDrop": 0.5}
    spec = {
        "base": {"model": str(BASE)},
        "candidates": [{"name": "mine", "adapter": "adapter"}],
        "evaluation": {"benchmarks": [{"name": "own", "uri": "own.jsonl", "grader": "exact"}], "budgets": [8]},
        "gate": {"candidate": "mine", "baseline": "base", "require": [requirement]},
    }
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump({
        "apiVersion": "potstill.dev/v1alpha1", "kind": "Experiment", "metadata": {"name": "hostile"}, "spec": spec,
    }))  # fmt: skip
    return path


def at_a_terminal(*words: str) -> str:
    """The output of a command on a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", "from controller.cli import main; main()", *words],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=Path(__file__).parents[2],
        env={**os.environ, "COLUMNS": "400", "LINES": "50", "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    read = b""
    while True:
        try:
            block = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not block:
            break
        read += block
    os.close(ours)
    process.wait(timeout=60)
    return read.decode(errors="replace")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hostile_failure_is_text_on_every_screen_and_in_every_file(file: Path, tmp_path: Path) -> None:
    store = ("--store", str(tmp_path / "store"))
    ran = potstill("run", str(file), *store)
    assert ran.exit_code == 1, ran.output
    live = at_a_terminal("run", str(file), *store)
    assert "owned" in live
    assert "\x1b]0" not in live
    assert "\x07" not in live
    assert "Traceback" not in live
    for command in ("show", "logs"):
        told = potstill(command, str(file), *store)
        assert SHOWN in told.output, told.output
        assert "\x1b" not in ran.output + told.output
    gate = (
        "--junit",
        str(tmp_path / "junit.xml"),
        "--summary",
        str(tmp_path / "gate.md"),
        "--json",
        str(tmp_path / "gate.json"),
    )
    judged = potstill("gate", str(file), *store, *gate)
    assert judged.exit_code == 4, judged.output
    ET.parse(tmp_path / "junit.xml")
    assert json.loads((tmp_path / "gate.json").read_text())["outcome"] == "not_evaluable"
    reported = potstill("report", str(file), *store, "--out", str(tmp_path / "report"))
    assert reported.exit_code == 0, reported.output
    pages = [tmp_path / "report" / "report.md", *(tmp_path / "store").rglob("report.md")]
    assert len(pages) >= 2
    for page in (tmp_path / "gate.md", *pages):
        text = page.read_text()
        assert "\x1b" not in text
        assert "<script>" not in text
        assert "@everyone" not in text
        assert "\n# Heading" not in text


def test_status_of_a_cluster_shows_hostile_text_as_text() -> None:
    line = {"name": "[/b]", "state": "Failed", "checkpoints": "0/1", "message": NAME}
    condition = {"type": "Ready", "status": "False", "reason": "Failed", "message": NAME}
    item = {
        "metadata": {"namespace": "lab", "name": "one"},
        "status": {"phase": "Failed", "runs": [line], "conditions": [condition], "report": NAME},
    }
    with Path(os.devnull).open("w") as nowhere:
        console: Console = plain_console(nowhere, width=400)
        with console.capture() as captured:
            console.print(render(item))
    assert "\x1b" not in captured.get()
    assert captured.get().count(SHOWN) == 3
    assert "[/b]" in captured.get()


def test_a_string_in_any_table_of_a_command_is_text() -> None:
    table = Table("name", box=None)
    table.add_row(NAME)
    with Path(os.devnull).open("w") as nowhere:
        console = plain_console(nowhere, width=400)
        with console.capture() as captured:
            console.print(table)
            console.print(f":smile: {NAME}")
    assert "\x1b" not in captured.get()
    assert captured.get().count(SHOWN) == 2
    assert ":smile:" in captured.get()
