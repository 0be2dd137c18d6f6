"""The gate: three outcomes, and a refusal with a name if two evaluations are not comparable."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from controller.cli import app
from tests.results.made_manifest import ENGINE, evaluation, gate, manifest, sampled
from workloads.api.experiment import FrozenGate
from workloads.api.manifest import Manifest
from workloads.api.units import Sampling
from workloads.results.gate import GateResult, UnknownModel, judge, side_of
from workloads.results.gate_simulation import rates
from workloads.results.gate_text import gate_json, gate_markdown, junit

ACCURACY = gate(("math-500", "accuracy", 0.05))


def decide(found: Manifest, baseline: Manifest | None = None, asked: FrozenGate = ACCURACY) -> GateResult:
    return judge(asked, side_of(found, "mine@last"), side_of(baseline or found, "base"))


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
def test_unlike_protocols_are_refused_by_name(changes: dict[str, Any], named: str) -> None:
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


def test_two_requirements_share_the_error_of_failing() -> None:
    """With two requirements, a drop that one requirement alone would fail at 5% is not enough (Holm)."""
    base, mine = "R" * 100, "R" * 90 + "W" * 10
    alone = decide(both(base, mine))
    pair = [
        evaluation(m, c, benchmark=b) for b in ("math-500", "other") for m, c in (("base", base), ("mine@100", mine))
    ]
    two = decide(manifest(*pair), asked=gate(("math-500", "accuracy", 0.05), ("other", "accuracy", 0.2)))
    half = alone.requirements[0].p_fail
    assert half is not None
    assert two.requirements[0].p_fail == pytest.approx(2 * half)


def test_a_requirement_passes_alone_as_it_passes_among_others() -> None:
    """All must pass, so passing needs no correction for their number."""
    codes = "R" * 400 + "W" * 100
    mine = "W" * 9 + "R" * 391 + "R" * 3 + "W" * 97
    pair = [
        evaluation(m, c, benchmark=b)
        for b in ("math-500", "other", "third", "fourth")
        for m, c in (("base", codes), ("mine@100", mine))
    ]
    names = ("math-500", "other", "third", "fourth")
    four = decide(manifest(*pair), asked=gate(*((name, "accuracy", 0.03) for name in names)))
    one = decide(both(codes, mine), asked=gate(("math-500", "accuracy", 0.03)))
    assert 0.0125 < (one.requirements[0].p_pass or 0) < 0.05, "with Holm over four it would not pass"
    assert (one.outcome, four.outcome) == ("pass", "pass")


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 25), st.integers(0, 25), st.floats(0, 0.3), st.sampled_from(["all", "fast"])),
        min_size=1,
        max_size=4,
    )
)
def test_the_bounds_that_are_printed_decide_the_outcome(asked: list[tuple[int, int, float, str]]) -> None:
    evaluations, requirements = [], []
    for index, (lost, won, allowed, part) in enumerate(asked):
        name = f"b{index}"
        evaluations += [
            evaluation("base", "R" * lost + "W" * won + "R" * (60 - lost - won), part, name),
            evaluation("mine@100", "W" * lost + "R" * won + "R" * (60 - lost - won), part, name),
        ]
        requirements.append((name, "accuracy", allowed))
    found = decide(manifest(*evaluations, parts={"all": 0}), asked=gate(*requirements))
    for result in found.requirements:
        assert result.low is not None
        assert result.high is not None
        allowed = result.requirement.max_drop
        if min(abs(result.low - allowed), abs(result.high - allowed)) < 1e-7:
            continue
        assert (result.outcome == "fail") == (result.low > allowed)
        assert (result.outcome == "pass") == (result.high < allowed and not result.part_only)


@pytest.mark.parametrize("problems", [1, 2, 3, 5, 10, 19])
def test_several_outputs_of_a_few_problems_that_do_not_differ_are_not_enough_evidence(problems: int) -> None:
    found = manifest(sampled("base", ["RR"] * problems), sampled("mine@100", ["RR"] * problems), sampling=Sampling(n=2, temperature=0.7))  # fmt: skip
    asked = gate(("math-500", "accuracy", 0.9))
    assert decide(found).outcome == "not_enough_evidence"
    assert decide(found, asked=asked).outcome == "not_enough_evidence"


def test_several_outputs_of_enough_problems_pass_and_fail() -> None:
    sampling = Sampling(n=4, temperature=0.7)
    base = ["RRRW"] * 100
    alike = decide(manifest(sampled("base", base), sampled("mine@100", ["RRWR"] * 100), sampling=sampling))
    worse = decide(manifest(sampled("base", base), sampled("mine@100", ["RWWW"] * 100), sampling=sampling))
    assert (alike.outcome, worse.outcome) == ("pass", "fail")


def test_a_candidate_that_lacks_problems_is_not_compared() -> None:
    short = evaluation("mine@100", "R" * 400)
    found = manifest(evaluation("base", "R" * 500), short, parts={"all": 500})
    result = decide(found)
    assert (result.outcome, result.exit_code) == ("not_evaluable", 4)
    assert result.requirements[0].message == "made/mine@100 on math-500/all has results for 400 of its 500 problems"


def test_two_manifests_that_were_asked_other_problems_are_not_compared() -> None:
    """A remote benchmark is one part of unknown size, so the gate compares the sets themselves."""
    parts = {"all": 0}
    mine = manifest(evaluation("base", "R" * 400), evaluation("mine@100", "R" * 400), parts=parts)
    theirs = manifest(evaluation("base", "R" * 500), parts=parts)
    assert decide(mine, theirs).requirements[0].message == (
        "the candidate lacks 100 of the baseline's 500 problems (all-p400, all-p401, all-p402, ...)"
    )


@pytest.mark.parametrize("part", ["fast", "subset"])
def test_a_fast_part_and_a_limit_are_treated_alike(part: str) -> None:
    """With 100 of the baseline's problems the gate does not pass, and counts the remaining ones as left out."""
    parts = {"fast": 100, "rest": 400}
    whole = manifest(evaluation("base", "R" * 100, "fast"), evaluation("base", "R" * 400, "rest"), parts=parts)
    some = evaluation("mine@100", "R" * 100, part, problems=tuple(f"fast-p{i}" for i in range(100)))
    mine = manifest(evaluation("base", "R" * 100, part), some, parts=parts if part == "fast" else {"subset": 100})
    result = decide(mine, whole, asked=gate(("math-500", "accuracy", 0.2)))
    (requirement,) = result.requirements
    assert (result.outcome, requirement.n, requirement.left_out) == ("not_enough_evidence", 100, 400)
    assert "evaluate all problems" in requirement.message
    assert "400 problems that only one of the two was asked are left out" in gate_markdown(result)


def test_a_failure_on_a_part_and_one_on_the_whole_share_alpha() -> None:
    """Two tests at 5% each would fail up to 10%."""
    codes = ("R" * 100, "W" * 10 + "R" * 90)
    parts = {"fast": 100, "rest": 400}
    fast = manifest(evaluation("base", codes[0], "fast"), evaluation("mine@100", codes[1], "fast"), parts=parts)
    whole = manifest(
        *(evaluation(m, c, "fast") for m, c in zip(("base", "mine@100"), codes, strict=True)),
        *(evaluation(m, "R" * 400, "rest") for m in ("base", "mine@100")),
        parts=parts,
    )
    levels = [decide(found).requirements[0].fail_alpha for found in (fast, whole)]
    assert levels == pytest.approx([0.01, 0.04])
    assert decide(fast).outcome == "not_enough_evidence"
    assert decide(both(*codes)).outcome == "fail", "a benchmark of one part is looked at once"


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


def test_a_crash_is_not_a_failed_candidate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> GateResult:
        raise ZeroDivisionError("made up")

    monkeypatch.setattr("workloads.results.gate.judge", crash)
    path = tmp_path / "manifest.json"
    path.write_bytes(both("R" * 100, "R" * 100).model_copy(update={"gate": ACCURACY}).to_json())
    result = CliRunner().invoke(app, ["gate", "--manifest", str(path)])
    assert result.exit_code == 4
    assert "the gate could not be evaluated: ZeroDivisionError: made up" in result.output


def test_a_summary_that_cannot_be_written_is_not_a_failed_candidate(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(both("R" * 100, "R" * 100).model_copy(update={"gate": ACCURACY}).to_json())
    words = ["gate", "--manifest", str(path), "--summary", str(tmp_path / "none" / "summary.md")]
    assert CliRunner().invoke(app, words).exit_code == 4


@pytest.mark.parametrize("allowed", [0.0, 1.0])
def test_the_largest_and_the_smallest_drop_that_may_be_allowed_are_judged(allowed: float) -> None:
    codes = ["RRWW"] * 30
    found = manifest(sampled("base", codes), sampled("mine@100", codes), sampling=Sampling(n=4, temperature=0.7))
    assert decide(found, asked=gate(("math-500", "accuracy", allowed))).outcome == (
        "pass" if allowed else "not_enough_evidence"
    )


def test_at_a_true_drop_of_what_is_allowed_a_pass_and_a_failure_are_each_rare() -> None:
    """Nominal 5%; 1,000 simulated experiments leave a standard error of 0.7 points."""
    found = rates(378, 0.1, 0.05, max_drop=0.05, alpha=0.05, draws=1000, seed=1)
    assert max(found.passed, found.failed) < 0.07
    assert found.undecided > 0.8


def test_a_fast_set_mostly_cannot_pass_where_the_full_set_does() -> None:
    fast, full = (rates(n, 0.1, 0.0, max_drop=0.05, alpha=0.05, draws=500, seed=1).passed for n in (100, 500))
    assert fast < 0.5 < 0.9 < full
