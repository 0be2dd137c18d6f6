"""A status says what is, in conditions that move only when something did."""

from datetime import UTC, datetime, timedelta
from typing import Any

from controller.decide.actions import Condition, Counts, EvaluationLine, RunLine, Status
from controller.kubernetes.status import (
    SHOWN_RUNS,
    merged_conditions,
    recorded_counts,
    refused_status,
    running_status,
    transitions,
    unseen_status,
)

NOW = datetime(2026, 2, 16, 9, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
LINKS = {"store": "s3://lab/team", "manifest": "s3://lab/team/manifest.json"}


def item(status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"generation": 3}, "spec": spec, **({"status": status} if status is not None else {})}


def run(name: str = "math", state: Any = "running") -> RunLine:
    return RunLine(name, name, state, "at work", done=3, total=10, checkpoints=1, checkpoints_expected=2)


def evaluation(state: Any = "running") -> EvaluationLine:
    return EvaluationLine("math@50", "math-500", "fast", state, "generate", "Open", "at work")


def status(*runs: RunLine, finished: Any = None, idle: bool = False, **told: Any) -> Status:
    conditions = (Condition("TrainingComplete", "False", "InProgress", "0 of 1"),)
    return Status(conditions, runs or (run(),), (evaluation(),), Counts(1, 1, 0), finished=finished, idle=idle, **told)


def conditions(built: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in built["conditions"]}


def test_a_running_experiment_tells_counts_and_one_line_a_run() -> None:
    built = running_status(item(), status(), LINKS, 1, NOW)
    assert (built["training"], built["checkpoints"], built["evaluations"]) == ("0/1", "1/2", "0/1")
    assert (built["phase"], built["manifest"], built["observedGeneration"]) == ("Running", LINKS["manifest"], 3)
    assert [line["name"] for line in built["runs"]] == ["math"]


def test_a_status_does_not_grow_with_the_work() -> None:
    many = running_status(item(), status(*(run(f"run-{n}") for n in range(500))), LINKS, 1, NOW)
    assert len(many["runs"]) == SHOWN_RUNS


def test_finished_is_false_until_it_is_true_and_then_carries_how() -> None:
    assert conditions(running_status(item(), status(), LINKS, 1, NOW))["Finished"] == ("False", "Running")
    ended = Status((Condition("Finished", "True", "Succeeded", "all"),), (run(state="done"),), (), finished="Succeeded")
    built = running_status(item(), ended, LINKS, 1, NOW)
    assert (conditions(built)["Finished"], built["phase"]) == (("True", "Succeeded"), "Succeeded")


def test_a_suspended_experiment_is_suspending_until_nothing_runs() -> None:
    assert running_status(item(suspend=True), status(), LINKS, 1, NOW)["phase"] == "Suspending"
    assert running_status(item(suspend=True), status(idle=True), LINKS, 1, NOW)["phase"] == "Suspended"


def test_what_was_not_seen_this_round_stays_as_it_was_told() -> None:
    before = running_status(item(), status(), LINKS, 1, NOW)
    blind = Status((Condition("Ready", "Unknown", "StoreUnavailable", "no answer"),))
    built = running_status(item(before), blind, LINKS, 1, LATER)
    assert {k: v for k, v in built.items() if k != "conditions"} == {
        k: v for k, v in before.items() if k != "conditions"
    }
    assert conditions(built)["Ready"] == ("Unknown", "StoreUnavailable")


def test_a_store_that_does_not_answer_is_told_and_nothing_else_changes() -> None:
    before = running_status(item(), status(), LINKS, 1, NOW)
    built = unseen_status(item(before), "s3://lab: no answer", LATER)
    assert conditions(built) == conditions(before) | {"Ready": ("Unknown", "StoreUnavailable")}
    assert built | {"conditions": before["conditions"]} == before
    assert conditions(unseen_status(item(), "s3://lab: no answer", NOW)) == {"Ready": ("Unknown", "StoreUnavailable")}


def test_a_transition_time_moves_with_the_status_and_not_with_the_message() -> None:
    before = merged_conditions(item(), (Condition("Ready", "True", "Observed", "1"),), NOW)
    same = merged_conditions(item({"conditions": before}), (Condition("Ready", "True", "Observed", "2"),), LATER)
    other = merged_conditions(item({"conditions": before}), (Condition("Ready", "False", "Lost", "3"),), LATER)
    assert same[0]["lastTransitionTime"] == before[0]["lastTransitionTime"] == "2026-02-16T09:00:00Z"
    assert other[0]["lastTransitionTime"] == "2026-02-16T09:01:00Z"
    assert same[0]["message"] == "2"


def test_conditions_carry_the_generation_that_they_are_about() -> None:
    assert {c["observedGeneration"] for c in running_status(item(), status(), LINKS, 1, NOW)["conditions"]} == {3}


def test_only_transitions_are_events() -> None:
    before = running_status(item(), status(), LINKS, 1, NOW)
    assert transitions(item(before), running_status(item(before), status(), LINKS, 1, LATER)["conditions"]) == []
    blind = Status((Condition("Ready", "Unknown", "StoreUnavailable", "no answer"),))
    changed = transitions(item(before), running_status(item(before), blind, LINKS, 1, LATER)["conditions"])
    assert [c["type"] for c in changed] == ["Ready"]


def test_of_a_new_experiment_only_its_acceptance_is_an_event() -> None:
    found = transitions(item(), running_status(item(), status(), LINKS, 1, NOW)["conditions"])
    assert [condition["type"] for condition in found] == ["Accepted"]


def test_a_refused_spec_is_finished_so_that_nobody_waits() -> None:
    built = refused_status(item(), "InvalidSpec", "spec.runs[0].data: sum is not under data", NOW)
    assert conditions(built) == {"Accepted": ("False", "InvalidSpec"), "Finished": ("True", "Failed")}
    assert built["phase"] == "Refused"


def test_counts_are_read_back_so_that_a_store_that_lost_something_is_seen() -> None:
    assert recorded_counts(item(running_status(item(), status(), LINKS, 1, NOW))) == Counts(1, 1, 0)
    assert recorded_counts(item()) == Counts()
