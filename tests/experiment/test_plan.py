"""`potstill plan` prints what would run before anything runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def plan(*arguments: str) -> str:
    command = [sys.executable, "-c", "from controller.cli import main; main()", "plan", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_the_experiment_of_16_02_is_planned_whole(tmp_path: Path) -> None:
    printed = plan(str(EXAMPLES / "distill-16-02.yaml"), "--store", str(tmp_path))
    assert "4 runs, 18 checkpoints, 38 evaluations (36 of checkpoints, 2 of the base)" in printed
    assert len(re.findall(r"would run", printed)) == 4


@pytest.mark.slow
def test_a_plan_changes_nothing(tmp_path: Path) -> None:
    plan(str(EXAMPLES / "distill-16-02.yaml"), "--store", str(tmp_path / "store"))
    plan(str(EXAMPLES / "distill-16-02.yaml"), "--store", (tmp_path / "store").as_uri())
    assert not list(tmp_path.iterdir())
