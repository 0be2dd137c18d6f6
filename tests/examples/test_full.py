"""The example of full fine-tuning: its training, and the output of plan."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from controller.cli import app
from workloads.models.memory import parameters_of

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.slow
def test_plan_says_what_an_adapter_and_all_weights_take(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["plan", str(EXAMPLES / "full.yaml"), "--store", str(tmp_path / "store"), "--json"])
    assert done.exit_code == 0, done.exception
    found = json.loads(done.stdout)
    parameters = parameters_of(EXAMPLES / "quickstart" / "base")
    assert {run["name"]: run["memory"]["needed"] for run in found["runs"]} == {
        "adapter": 4 * parameters,
        "whole": 16 * parameters,
    }
    assert found["warnings"] == []
    states = 2 * 3 * 4 * parameters
    assert found["cost"]["disk"]["resume_states"] > states
    assert found["cost"]["disk"]["checkpoints"] > 4 * parameters
