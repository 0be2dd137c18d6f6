"""`validate` and `plan` describe a gate before anything runs: problems, probability to pass, and why it never can."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from controller.cli import app
from controller.cli.common import frozen_from
from controller.planned_gate import gate_warnings, planned_gate
from workloads.results.gate_simulation import chance_to_pass, fewest_problems, rates

EXAMPLE = Path(__file__).parents[2] / "examples" / "distill-16-02.yaml"
SPEC = """\
apiVersion: potstill.dev/v1alpha1
kind: Experiment
metadata: {{name: x}}
spec:
  base: {{model: Qwen/Qwen3-30B-A3B-Base, revision: 6079fcab15959a7282bf8d9f3ff89050736e8ed9}}
  candidates: [{{name: c, adapter: "s3://lab/a", content: "sha256:{zeros}"}}]
  evaluation:
    benchmarks: [{{name: math-500{benchmark}}}]
    sampling: {sampling}
    budgets: [4096]
  gate: {{candidate: c, baseline: {baseline}, require: [{{benchmark: math-500, maxDrop: {allowed}}}{more}]}}
"""
Write = Callable[..., Path]


@pytest.fixture
def spec(tmp_path: Path) -> Write:
    def write(
        benchmark: str = "",
        sampling: str = "{temperature: 0}",
        baseline: str = "base",
        allowed: float = 0.05,
        more: str = "",
    ) -> Path:
        path = tmp_path / "x.yaml"
        filled = {"benchmark": benchmark, "sampling": sampling, "baseline": baseline, "allowed": allowed, "more": more}
        path.write_text(SPEC.format(zeros="0" * 64, **filled))
        return path

    return write


@pytest.mark.slow
@pytest.mark.parametrize(
    ("benchmark", "reason"),
    [
        (", checkpoints: fast", "c is asked fast only, 100 of 500 problems; add confirm: [c] to the benchmark"),
        (", base: fast", "base is asked fast only, 100 of 500 problems; add base: full to the benchmark"),
        (", checkpoints: none", "c is not asked math-500; add confirm: [c] to the benchmark"),
        (", limit: 100", "limit and problems ask 100 problems, a part of the benchmark; remove them"),
    ],
)
def test_a_gate_that_can_never_pass_says_why_and_what_to_change(spec: Write, benchmark: str, reason: str) -> None:
    path = spec(benchmark)
    assert gate_warnings(frozen_from(path, None)) == [f"gate: math-500 accuracy can never pass: {reason}"]
    validated = CliRunner().invoke(app, ["validate", str(path)])
    assert (validated.exit_code, reason in validated.output) == (0, True)


def test_a_gate_of_few_problems_passes_only_a_better_candidate_and_says_so(spec: Write) -> None:
    (warning,) = gate_warnings(frozen_from(spec(allowed=0.0), None))
    assert warning.startswith("gate: math-500 accuracy can pass only if the candidate is better than the baseline: no ")


def test_the_benchmark_that_the_warning_says_to_add_is_enough(spec: Write) -> None:
    assert gate_warnings(frozen_from(spec(", checkpoints: fast, confirm: [c]"), None)) == []


def test_a_drop_that_500_problems_cannot_exclude_is_named_with_the_number_that_could(spec: Write) -> None:
    (item,) = planned_gate(frozen_from(spec(allowed=0.002), None))
    assert item.never is not None
    assert "at least 1351 are needed" in item.never


@pytest.mark.slow
def test_the_gate_of_the_example_can_pass_and_plan_says_how_likely() -> None:
    frozen = frozen_from(EXAMPLE, None)
    assert [(item.problems, item.never) for item in planned_gate(frozen)] == [(500, None), (378, None)]
    printed = CliRunner().invoke(app, ["plan", str(EXAMPLE)]).output
    assert "Gate: math_default@last against base at 4,096 tokens" in printed
    assert "can never pass" not in printed


def test_a_baseline_of_another_manifest_is_not_read(spec: Write) -> None:
    (item,) = planned_gate(frozen_from(spec(baseline="s3://lab/experiments/x/manifest.json"), None))
    assert (item.problems, item.never) == (500, None)


def test_several_outputs_make_a_pass_more_likely(spec: Write) -> None:
    (one,) = planned_gate(frozen_from(spec(), None))
    (four,) = planned_gate(frozen_from(spec(sampling="{temperature: 0.7, n: 4}"), None))
    assert all(a[1] <= b[1] for a, b in zip(one.chances, four.chances, strict=True))
    assert one.chances[-1][1] < four.chances[-1][1]


@pytest.mark.parametrize(("problems", "discordance"), [(100, 0.05), (100, 0.2), (378, 0.2)])
def test_the_chance_to_pass_is_what_simulated_gates_do(problems: int, discordance: float) -> None:
    simulated = rates(problems, discordance, 0.0, max_drop=0.05, alpha=0.05, draws=1000, seed=3).passed
    assert chance_to_pass(problems, discordance, 0.05, 0.05) == pytest.approx(simulated, abs=0.05)


def test_the_fewest_problems_are_those_at_which_equal_verdicts_pass() -> None:
    assert fewest_problems(0.05, 0.05, single=True) == 52
    assert fewest_problems(0.5, 0.05, single=True) == 20
    assert fewest_problems(0.0, 0.05, single=True) is None
    fewest = fewest_problems(0.05, 0.05, single=False)
    assert fewest is not None
    assert fewest > 52


def test_a_requirement_that_is_stated_twice_is_refused(spec: Write) -> None:
    refused = CliRunner().invoke(app, ["validate", str(spec(more=", {benchmark: math-500, maxDrop: 0.02}"))])
    assert refused.exit_code != 0
    assert "math-500 accuracy is required twice" in str(refused.exception)


def test_a_problem_that_is_listed_twice_is_refused(spec: Write) -> None:
    twice = ', problems: ["test/algebra/1072.json", "test/algebra/1072.json"]'
    refused = CliRunner().invoke(app, ["validate", str(spec(twice))])
    assert "spec.evaluation.benchmarks[0].problems[1]: test/algebra/1072.json is listed twice" in str(refused.exception)
