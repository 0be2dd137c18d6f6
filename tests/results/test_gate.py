"""The gate: three answers, and a refusal by name where two evaluations are not alike."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from typer.testing import CliRunner

from controller.cli import app
from tests.results.made_manifest import ENGINE, evaluation, gate, manifest
from workloads.contract.manifest import Manifest
from workloads.contract.units import Sampling
from workloads.results.gate import GateResult, UnknownModel, judge, side_of
from workloads.results.gate_text import gate_json, gate_markdown, junit
from workloads.results.operating import rates

ACCURACY = gate(("math-500", "accuracy", 0.05))


def decide(found: Manifest, baseline: Manifest | None = None, asked: object = ACCURACY) -> GateResult:
    return judge(asked, side_of(found, "mine@last"), side_of(baseline or found, "base"))  # type: ignore[arg-type]


def both(base: str, mine: str) -> Manifest:
    return manifest(evaluation("base", base), evaluation("mine@100", mine))


@pytest.mark.parametrize(
    ("base", "mine", "outcome", "code"),
    [
        ("R" * 400 + "W" * 100, "R" * 400 + "W" * 100, "pass", 0),
        ("R" * 400 + "W" * 100, "R" * 300 + "W" * 200, "fail", 1),
        ("R" * 80 + "W" * 20, "W" * 5 + "R" * 80 + "W" * 15, "not_enough_evidence", 3),
        ("R" * 80 + "e" + "W" * 19, "R" * 80 + "W" * 20, "not_evaluable", 4),
    ],
)
def test_the_outcome_is_where_the_drops_bounds_lie(base: str, mine: str, outcome: str, code: int) -> None:
    result = decide(both(base, mine))
    assert (result.outcome, result.exit_code) == (outcome, code)


def test_a_part_of_a_benchmark_may_fail_early_but_never_pass() -> None:
    parts = {"fast": 100, "rest": 400}
    base = [evaluation("base", "R" * 100, "fast"), evaluation("base", "R" * 400, "rest")]
    alike = decide(manifest(*base, evaluation("mine@100", "R" * 100, "fast"), parts=parts))
    worse = decide(manifest(*base, evaluation("mine@100", "R" * 60 + "W" * 40, "fast"), parts=parts))
    assert alike.outcome == "not_enough_evidence"
    assert "all problems" in alike.requirements[0].message
    assert worse.outcome == "fail"


def test_an_early_failure_shares_the_error_with_what_is_not_measured_yet() -> None:
    found = both("R" * 100, "W" * 9 + "R" * 91)
    alone = decide(found)
    early = decide(found, asked=gate(("math-500", "accuracy", 0.05), ("mbpp-plus", "accuracy", 0.05)))
    assert alone.outcome == "fail"
    assert 0.025 < (alone.requirements[0].p_fail or 0) < 0.05
    assert [result.outcome for result in early.requirements] == ["not_enough_evidence", "not_evaluable"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"engine": ENGINE.model_copy(update={"version": "0.33.0"})}, "engine.version"),
        ({"engine": ENGINE.model_copy(update={"gpu": "l4"})}, "engine.gpu"),
        ({"engine": ENGINE.model_copy(update={"flags": {"kv": "fp8"}})}, "engine.flags.kv"),
        ({"grader_version": "grade-2"}, "the grader's version"),
        ({"grader_python": "3.12.1"}, "the grader's Python differs: 3.12 for the candidate, 3.11 for the baseline"),
        ({"grader_python": None}, "the grader's Python differs: unknown for the candidate"),
    ],
)
def test_unlike_protocols_are_refused_by_name(changes: dict[str, object], named: str) -> None:
    codes = "R" * 100
    result = decide(manifest(evaluation("base", codes), evaluation("mine@100", codes, **changes)))
    assert result.outcome == "not_evaluable"
    assert named in result.requirements[0].message


def test_verdicts_of_one_python_version_are_compared_and_those_of_unknown_ones_too() -> None:
    codes = "R" * 100
    for mine, base in (("3.11.14", "3.11.7"), (None, None)):
        found = manifest(
            evaluation("base", codes, grader_python=base), evaluation("mine@100", codes, grader_python=mine)
        )
        assert decide(found).outcome == "pass"


def test_a_manifest_of_records_without_a_python_version_is_what_it_was_before_there_was_one() -> None:
    older, newer = (manifest(evaluation("base", "R", grader_python=python)) for python in (None, "3.11.7"))
    assert b"graderPython" not in older.to_json()
    assert b'"graderPython":"3.11.7"' in newer.to_json()
    for found in (older, newer):
        assert Manifest.model_validate_json(found.to_json()) == found


def test_another_experiments_sampling_and_prompts_must_be_alike_too() -> None:
    mine = both("R" * 100, "R" * 100)
    warm = mine.model_copy(update={"sampling": Sampling(temperature=0.7)})
    assert "sampling.temperature" in decide(mine, warm).requirements[0].message
    prompted = manifest(evaluation("base", "R" * 100), evaluation("mine@100", "R" * 100, prompts_sha256="0" * 64))
    result = judge(ACCURACY, side_of(mine, "mine@100"), side_of(prompted, "mine@100"))
    assert "prompts of math-500/all" in result.requirements[0].message


def test_two_requirements_share_the_error() -> None:
    """A drop that one requirement alone would fail at 5% is not enough when there are two of them (Holm)."""
    base, mine = "R" * 100, "R" * 90 + "W" * 10
    alone = decide(both(base, mine))
    pair = [
        evaluation(m, c, benchmark=b) for b in ("math-500", "other") for m, c in (("base", base), ("mine@100", mine))
    ]
    two = decide(manifest(*pair), asked=gate(("math-500", "accuracy", 0.05), ("other", "accuracy", 0.2)))
    assert alone.requirements[0].p_fail == pytest.approx(two.requirements[0].p_fail / 2)  # type: ignore[operator]


def test_a_baseline_generated_twice_shows_how_often_it_differs_from_itself() -> None:
    first, again = both("R" * 100, "R" * 100), both("R" * 96 + "W" * 4, "R" * 100)
    assert decide(first, again).requirements[0].noise == pytest.approx(0.04)
    assert decide(first).requirements[0].noise is None
    said = "the baseline differs from itself on 4.0% when generated again"
    assert said in gate_markdown(decide(first, again))
    assert said.encode() in junit(decide(first, again))
    assert "differs from itself" not in gate_markdown(decide(first))


def test_a_model_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(UnknownModel, match="has no model other@last: it has base, mine@100"):
        side_of(both("R", "R"), "other@last")


def test_the_result_reads_as_junit_json_and_markdown() -> None:
    result = decide(both("R" * 400 + "W" * 100, "R" * 300 + "W" * 200))
    suite = ET.fromstring(junit(result)).find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("1", "1")
    assert json.loads(gate_json(result))["requirements"][0]["outcome"] == "fail"
    assert gate_markdown(result).startswith("## Potstill gate: fail\n")


def test_the_command_exits_with_the_outcome_and_writes_what_ci_reads(tmp_path: Path) -> None:
    found = both("R" * 80 + "W" * 20, "W" * 5 + "R" * 80 + "W" * 15).model_copy(update={"gate": ACCURACY})
    path = tmp_path / "manifest.json"
    path.write_bytes(found.to_json())
    result = CliRunner().invoke(app, ["gate", "--manifest", str(path), "--junit", str(tmp_path / "junit.xml")])
    assert (result.exit_code, "not enough evidence" in result.output) == (3, True)
    assert (tmp_path / "junit.xml").is_file()
    assert CliRunner().invoke(app, ["gate"]).exit_code == 2
    assert CliRunner().invoke(app, ["gate", "--manifest", str(tmp_path / "none.json")]).exit_code == 4


def test_at_a_true_drop_of_what_is_allowed_a_pass_and_a_failure_are_each_rare() -> None:
    """Nominal 5%; 1,000 simulated experiments leave a standard error of 0.7 points."""
    found = rates(378, 0.1, 0.05, max_drop=0.05, alpha=0.05, draws=1000, seed=1)
    assert max(found.passed, found.failed) < 0.07
    assert found.undecided > 0.8


def test_a_fast_set_mostly_cannot_pass_where_the_full_set_does() -> None:
    fast, full = (rates(n, 0.1, 0.0, max_drop=0.05, alpha=0.05, draws=500, seed=1).passed for n in (100, 500))
    assert fast < 0.5 < 0.9 < full
