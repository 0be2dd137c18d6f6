"""The cost of an experiment according to `potstill plan`."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from controller.cli import app
from controller.plan_cost import adapter_parameters, makespan
from workloads.api.units import Lora
from workloads.models.shapes import read_shapes

EXAMPLES = Path(__file__).parents[2] / "examples"
QUICKSTART = EXAMPLES / "quickstart.yaml"
TRAINED_TOKENS = 96_355 + 79_738
"""The tokens that the two trainings of the quickstart report."""


def plan(*options: str) -> Result:
    result = CliRunner().invoke(
        app, ["plan", str(QUICKSTART), "--profile", str(EXAMPLES / "profiles/h200.yaml"), *options]
    )
    assert result.exit_code == 0, result.exception
    return result


@given(st.lists(st.floats(0, 1000), max_size=12), st.integers(1, 4))
def test_trainings_over_slots_take_no_less_than_their_share_and_no_more_than_one_after_another(
    seconds: list[float], slots: int
) -> None:
    found = makespan(seconds, slots)
    assert found >= max([0.0, *seconds]) - 1e-6
    assert sum(seconds) / slots - 1e-6 <= found <= sum(seconds) + 1e-6


def test_an_adapter_has_the_parameters_that_the_trainer_writes() -> None:
    shapes = read_shapes(EXAMPLES / "quickstart" / "base")
    assert adapter_parameters(shapes, Lora(rank=8, alpha=8, target=("attention", "mlp"))) == 77_824
    one = adapter_parameters(shapes, Lora(rank=8, alpha=8, target=("q_proj",)))
    both = adapter_parameters(shapes, Lora(rank=8, alpha=8, target=("attention",)))
    assert one is not None
    assert both is not None
    assert 0 < one < both
    assert adapter_parameters(shapes, Lora(rank=8, alpha=8, target=("nothing",))) is None


@pytest.mark.slow
def test_json_has_tokens_hours_price_and_disk(tmp_path: Path) -> None:
    found = json.loads(plan("--store", str(tmp_path / "none"), "--price", "2.5", "--json").stdout)
    cost = found["cost"]
    assert (found["schema_version"], found["command"]) == (1, "plan")
    assert cost["trained_tokens"] == TRAINED_TOKENS
    hours = cost["training_gpu_hours"] + cost["generation_gpu_hours"]
    assert cost["price"] == pytest.approx(2.5 * hours)
    assert cost["wall_clock_hours"] == pytest.approx(hours)
    assert cost["disk"]["checkpoints"] == 8 * 77_824 * 2
    assert [run["state"] for run in found["runs"]] == ["new", "new"]


def test_text_ends_with_the_number_of_warnings(tmp_path: Path) -> None:
    lines = plan("--store", str(tmp_path / "none"), "--price", "2.5").stdout.splitlines()
    assert f"{TRAINED_TOKENS:,} tokens to train on; at most 138,240 tokens to generate" in lines
    assert any(line.startswith("price at most 0.03 at 2.50 per GPU-hour") for line in lines)
    assert any("with 1 training and 1 engine at a time" in line for line in lines)
    assert lines[-1] == "warnings: 2"


def test_a_profile_without_rates_has_no_hours_and_no_price(tmp_path: Path) -> None:
    arguments = ["plan", str(QUICKSTART), "--store", str(tmp_path / "none"), "--price", "2.5", "--json"]
    cost = json.loads(CliRunner().invoke(app, arguments).stdout)["cost"]
    assert (cost["training_gpu_hours"], cost["wall_clock_hours"], cost["price"]) == (None, None, None)
    assert cost["trained_tokens"] == TRAINED_TOKENS
