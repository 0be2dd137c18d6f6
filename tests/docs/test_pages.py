"""Commands in the README and in docs/ exist, and those that can run here do run."""

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from controller.cli import app
from controller.experiment.models import Experiment

REPOSITORY = Path(__file__).parents[2]
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "examples/quickstart/README.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]
PAGE_NAMES = [str(page.relative_to(REPOSITORY)) for page in PAGES]


def commands(text: str, program: str) -> list[list[str]]:
    """The words after `program` in each command of a page: in a block of code, or in backticks."""
    blocks = "\n".join(re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)).replace("\\\n", " ")
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    shown = re.compile(rf"(?:\$ )?(?:[A-Z_]+=\S+ )*{re.escape(program)} (.+?)(?:\s+#.*|[;|&].*)?$")
    found = (shown.match(line.strip()) for line in (*blocks.splitlines(), *inline))
    return [shlex.split(match[1].replace("'", "")) for match in found if match]


def unknown_words(words: list[str]) -> list[str]:
    """Words that name neither a command of `potstill` nor an option of the command."""
    command: Any = typer.main.get_command(app)
    while subcommands := getattr(command, "commands", None):
        if not words or words[0].startswith("-"):
            return []
        name, *words = words
        if name not in subcommands:
            return [name]
        command = subcommands[name]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return [
        word
        for word in (part.strip("[]").split("=")[0] for part in words)
        if word.startswith("-") and word not in known
    ]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=PAGE_NAMES)
def test_every_command_that_a_page_shows_exists(page: Path) -> None:
    text = page.read_text()
    wrong = [words for words in commands(text, "potstill") if unknown_words(words)]
    assert not wrong
    modules = [words[0] for words in commands(text, "python -m")]
    assert not [
        name
        for name in modules
        if name.split(".")[0] in {"workloads", "controller", "perf", "tests"} and importlib.util.find_spec(name) is None
    ]
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    assert not [words for words in commands(text, "make") if words[0] not in targets]


@pytest.mark.parametrize("page", PAGES, ids=PAGE_NAMES)
def test_every_file_that_a_page_links_to_or_names_exists(page: Path) -> None:
    text = page.read_text()
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    gone = [link for link in links if "://" not in link and link and not (page.parent / link).exists()]
    named = re.findall(
        r"`((?:workloads|controller|tests|perf|images|charts|examples|docs|scripts|k8s)/[\w./-]*\w/?)`", text
    )
    assert not [*gone, *(name for name in named if not (REPOSITORY / name).exists())]


@pytest.mark.parametrize("page", PAGES, ids=PAGE_NAMES)
def test_every_experiment_that_a_page_shows_is_one(page: Path) -> None:
    for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        if "kind: Experiment" in block:
            Experiment.model_validate(yaml.safe_load(block), by_alias=True, by_name=False)


LOCAL = {"validate", "plan", "data", "bench", "crd"}
RUNNABLE = sorted(
    {
        " ".join(words)
        for page in PAGES
        if page.name != "tutorial.md"  # run in order by test_tutorial.py
        for words in commands(page.read_text(), "potstill")
        if words[0] in LOCAL and len(words) > 1 and not any(word.isupper() for word in words)
    }
)


@pytest.mark.slow
@pytest.mark.parametrize("command", RUNNABLE)
def test_a_command_that_needs_no_cluster_does_what_the_page_says(command: str) -> None:
    potstill = Path(sys.executable).with_name("potstill")
    done = subprocess.run([potstill, *command.split()], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_source_experiment_plans_to_its_size() -> None:
    potstill = Path(sys.executable).with_name("potstill")
    done = subprocess.run(
        [potstill, "plan", "examples/distill-16-02.yaml"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    size = "4 runs, 18 checkpoints, 38 evaluations (36 of checkpoints, 2 of the base)"
    assert size in done.stdout.splitlines()
    assert size in (REPOSITORY / "README.md").read_text().splitlines()
