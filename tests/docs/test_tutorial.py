"""The commands of the tutorial and of the how-to pages run, or a comment says why they do not."""

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.results.made_manifest import evaluation, manifest
from tests.tools.warm import WarmStart
from workloads.results.tables import tables

pytestmark = pytest.mark.long

REPOSITORY = Path(__file__).parents[2]
TUTORIAL = REPOSITORY / "docs" / "tutorial.md"
PAGES = [TUTORIAL, *sorted((REPOSITORY / "docs" / "how-to").glob("*.md"))]
BLOCK = re.compile(r"(?:<!-- (?P<mark>[^\n]*) -->\n)?```console\n(?P<text>.*?)```", re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    """(mark, text) of each block of commands."""
    return [(found["mark"] or "", found["text"]) for found in BLOCK.finditer(page.read_text())]


def runnable(page: Path) -> list[list[str]]:
    lines = [line.removeprefix("$ ") for mark, text in blocks(page) if mark == "run" for line in text.splitlines()]
    return [shlex.split(line) for line in lines]


def run(warm: WarmStart, words: list[str], folder: Path, *expected: int) -> str:
    assert words[0] == "potstill"
    done = warm.potstill(*words[1:], folder=folder)
    assert done.returncode in (expected or (0,)), f"{' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_commands_is_run_or_says_why_not(page: Path) -> None:
    marks = [mark for mark, _ in blocks(page)]
    assert marks
    assert not [mark for mark in marks if mark != "run" and not re.match(r"not run: \w+ \w+", mark)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(REPOSITORY / "examples", tmp_path / "examples")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page != TUTORIAL], ids=lambda page: page.name)
def test_commands_of_a_how_to_page_run(page: Path, folder: Path, warm: WarmStart) -> None:
    for words in runnable(page):
        run(warm, words, folder)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_tutorial_runs_to_its_decision(folder: Path, warm: WarmStart) -> None:
    """The tutorial as written, with a tenth of the samples."""
    commands = runnable(TUTORIAL)
    run(warm, commands[0], folder)
    file = folder / "experiment.yaml"
    whole = yaml.safe_load(file.read_text())
    whole["spec"]["training"] |= {"samples": 100, "checkpointEverySamples": 100}
    file.write_text(yaml.safe_dump(whole))
    said = {words[1]: run(warm, words, folder) for words in commands[1:]}
    assert "Last checkpoints" in said["run"]
    assert "One run, first (first@100), against the base in accuracy: own" in said["run"]
    whole["spec"]["runs"].append({"name": "faster", "data": "mine", "learningRate": 1e-3})
    gate = {"candidate": "first@last", "require": [{"benchmark": "own", "metric": "accuracy", "maxDrop": 0.05}]}
    whole["spec"]["gate"] = gate
    file.write_text(yaml.safe_dump(whole))
    assert "faster@100" in run(warm, ["potstill", "run", "experiment.yaml"], folder)
    run(warm, ["potstill", "report", "experiment.yaml", "--out", "report"], folder)
    run(warm, ["potstill", "gate", "experiment.yaml", "--json", "gate.json"], folder, 0, 1, 3)
    assert (folder / "gate.json").is_file()


def test_the_pandas_lines_give_the_columns_of_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = manifest(
        evaluation("base", "R" * 80 + "W" * 18 + "ee"), evaluation("mine@100", "R" * 60 + "r" * 5 + "n" * 35)
    )
    (tmp_path / "manifest.json").write_bytes(made.to_json())
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    text = (REPOSITORY / "docs" / "reference" / "manifest.md").read_text()
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
    table = names["table"]
    for row in tables(made)[0].rows:
        found = table.loc[(row.benchmark, row.model.id, row.budget_tokens)]
        shares = (row.accuracy.value, row.completed.value, row.strict.value)
        assert (found.accuracy, found.completed, found.strict) == pytest.approx(shares)
