"""Rules that hold for every command of `potstill`: names of options, help and JSON."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from controller.cli import app
from controller.cli.json_output import SCHEMA_VERSION, _with_target

CHANGES = {
    "init": "writes a file",
    "run": "runs the experiment",
    "report": "writes files",
    "export": "writes for another program",
    "candidate": "writes a file",
    "submit": "changes the cluster",
    "publish": "writes to the store",
    "retry": "writes to the store, or asks the controller",
    "regrade": "runs graders",
    "crd": "prints a file for kubectl",
    "fetch": "writes files",
    "ui": "serves a page",
}
"""Commands without --json, with their effect."""
ONE_NAME = {
    "--store": {"--url", "--bucket"},
    "--out": {"--to", "--output", "--target", "--dir"},
    "--cluster": {"--in-cluster", "--k8s"},
    "--json": {"--as-json", "--format"},
}
"""Names of options, and other names that must not be used for the same thing."""
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "json.md"


def commands(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    subcommands = getattr(command, "commands", None)
    if not subcommands:
        yield name, command
        return
    for part, found in subcommands.items():
        yield from commands(found, f"{name} {part}".strip())


ALL = dict(commands(typer.main.get_command(app)))


def options(command: Any, *, hidden: bool = False) -> set[str]:
    return {name for parameter in command.params if hidden or not getattr(parameter, "hidden", False)
            for name in (*parameter.opts, *parameter.secondary_opts) if name.startswith("--")}  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_a_command_prints_json_unless_it_changes_something(name: str) -> None:
    assert ("--json" in options(ALL[name])) == (name not in CHANGES)


@pytest.mark.parametrize("name", ALL)
def test_help_says_what_the_command_does_and_shows_it(name: str) -> None:
    text = " ".join((ALL[name].help or "").split())
    assert re.match(r"[A-Z][a-z]+[ ,]", text)
    assert not text.startswith(("Exit ", "Loss,"))
    assert f"Example: potstill {name}" in text


@pytest.mark.parametrize("name", ALL)
def test_every_option_and_argument_says_what_it_is(name: str) -> None:
    said = [parameter for parameter in ALL[name].params if not getattr(parameter, "hidden", False)]
    assert not [parameter.name for parameter in said if not getattr(parameter, "help", None)]


@pytest.mark.parametrize("name", ALL)
def test_one_thing_has_one_name(name: str) -> None:
    shown = options(ALL[name])
    for other in ONE_NAME.values():
        assert not shown & other


def test_old_names_are_still_taken() -> None:
    assert "--to" in options(ALL["export"], hidden=True)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (["--json"], ["--json=-"]),
        (["--json", "-"], ["--json=-"]),
        (["--json", "out.json", "e.yaml"], ["--json=out.json", "e.yaml"]),
        (["e.yaml", "--json", "--offline"], ["e.yaml", "--json=-", "--offline"]),
        (["--json", "e.yaml"], ["--json=-", "e.yaml"]),
        (["--json=x"], ["--json=x"]),
        (["--", "--json", "x.json"], ["--", "--json", "x.json"]),
    ],
)
def test_json_takes_a_file_only_where_one_follows(given: list[str], taken: list[str]) -> None:
    assert _with_target(given) == taken


@pytest.fixture
def found(tmp_path: Path) -> dict[str, list[str]]:
    """Commands that work on a machine without a cluster, each with the example's files that it needs."""
    quickstart = Path(__file__).parents[2] / "examples" / "quickstart.yaml"
    bench = tmp_path / "bench.jsonl"
    bench.write_text('{"id": "a", "prompt": "p", "answer": "1"}\n')
    outputs = tmp_path / "outputs.jsonl"
    outputs.write_text('{"gold": "1", "answer": "1"}\n')
    store = tmp_path / "store"
    store.mkdir()
    return {
        "validate": ["validate", str(quickstart)],
        "plan": ["plan", str(quickstart), "--store", str(store)],
        "list": ["list", "--store", str(store)],
        "gc": ["gc", "--store", str(store)],
        "doctor": ["doctor", "--store", str(store)],
        "diff": ["diff", str(quickstart), str(quickstart)],
        "data show": ["data", "show", str(quickstart), "--rendered", "1"],
        "bench show": ["bench", "show", "sums", "--experiment", str(quickstart)],
        "bench test": ["bench", "test", str(bench), "--grader", "exact"],
        "grade": ["grade", str(outputs), "--grader", "exact"],
    }


@pytest.mark.slow
def test_json_alone_is_on_standard_output_with_schema_and_command(
    found: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name, words in found.items():
        result = CliRunner().invoke(app, [*words, "--json"])
        body = json.loads(result.stdout)
        assert (body["schema_version"], body["command"]) == (SCHEMA_VERSION, name)
        assert set(body) - {"schema_version", "command"} == documented(name), name


def documented(command: str) -> set[str]:
    """The fields of a command's document in the reference."""
    text = REFERENCE.read_text()
    section = text.split(f"\n## {command}\n", 1)[1].split("\n## ", 1)[0]
    return set(re.findall(r"^\| `([A-Za-z0-9_]+)` \|", section, re.MULTILINE))


@pytest.mark.parametrize("name", [name for name in ALL if name not in CHANGES])
def test_every_document_is_in_the_reference(name: str) -> None:
    assert documented(name)


def test_json_is_written_to_a_file_beside_the_text(tmp_path: Path, found: dict[str, list[str]]) -> None:
    target = tmp_path / "list.json"
    result = CliRunner().invoke(app, [*found["list"], "--json", str(target)])
    assert "has no experiment" in result.stdout
    assert json.loads(target.read_text())["experiments"] == []
