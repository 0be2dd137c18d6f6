"""A status describes the current state; its conditions change only if the state changed."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.executors.kubernetes.status import (
    SHOWN_RUNS,
    cut_bytes,
    merged_conditions,
    recorded_counts,
    refused_status,
    running_status,
    store_unavailable_status,
    transitions,
    without_foreign_status,
)
from controller.planner.actions import Condition, Counts, EvaluationLine, RunLine, Status

NOW = datetime(2026, 2, 16, 9, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
LINKS = {"store": "s3://lab/team", "manifest": "s3://lab/team/manifest.json"}


def item(status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"generation": 3}, "spec": spec, **({"status": status} if status is not None else {})}


def run(name: str = "math", state: Any = "running") -> RunLine:
    return RunLine(name, name, state, "running", done=3, total=10, checkpoints=1, checkpoints_expected=2)


def evaluation(state: Any = "running") -> EvaluationLine:
    return EvaluationLine("math@50", "math-500", "fast", state, "generate", "Open", "running")


def status(*runs: RunLine, finished: Any = None, idle: bool = False, **told: Any) -> Status:
    conditions = (Condition("TrainingComplete", "False", "InProgress", "0 of 1"),)
    return Status(conditions, runs or (run(),), (evaluation(),), Counts(1, 1, 0), finished=finished, idle=idle, **told)


def conditions(built: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in built["conditions"]}


def test_a_running_experiment_shows_counts_and_one_line_per_run() -> None:
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


def test_fields_that_this_round_could_not_read_stay_as_they_were() -> None:
    before = running_status(item(), status(), LINKS, 1, NOW)
    blind = Status((Condition("Ready", "Unknown", "StoreUnavailable", "no answer"),))
    built = running_status(item(before), blind, LINKS, 1, LATER)
    assert {k: v for k, v in built.items() if k != "conditions"} == {
        k: v for k, v in before.items() if k != "conditions"
    }
    assert conditions(built)["Ready"] == ("Unknown", "StoreUnavailable")


def test_a_store_that_does_not_answer_is_reported_and_nothing_else_changes() -> None:
    before = running_status(item(), status(), LINKS, 1, NOW)
    built = store_unavailable_status(item(before), "s3://lab: no answer", LATER)
    assert conditions(built) == conditions(before) | {"Ready": ("Unknown", "StoreUnavailable")}
    assert built | {"conditions": before["conditions"]} == before
    assert conditions(store_unavailable_status(item(), "s3://lab: no answer", NOW)) == {
        "Ready": ("Unknown", "StoreUnavailable")
    }


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


def test_a_new_experiment_has_only_the_event_of_its_acceptance() -> None:
    found = transitions(item(), running_status(item(), status(), LINKS, 1, NOW)["conditions"])
    assert [condition["type"] for condition in found] == ["Accepted"]


def test_a_refused_spec_is_finished_so_that_no_command_waits() -> None:
    built = refused_status(item(), "InvalidSpec", "spec.runs[0].data: sum is not under data", NOW)
    assert conditions(built) == {"Accepted": ("False", "InvalidSpec"), "Finished": ("True", "Failed")}
    assert built["phase"] == "Refused"


def test_counts_are_read_back_so_that_a_store_that_lost_something_is_seen() -> None:
    assert recorded_counts(item(running_status(item(), status(), LINKS, 1, NOW))) == Counts(1, 1, 0)
    assert recorded_counts(item()) == Counts()


@given(st.text(), st.integers(3, 40))
def test_a_text_that_is_cut_is_a_beginning_in_as_many_bytes(text: str, most: int) -> None:
    cut = cut_bytes(text, most)
    assert len(cut.encode()) <= most
    assert cut == text or (cut.endswith("...") and text.startswith(cut.removesuffix("...")))


def test_a_status_is_bounded_whatever_programs_say() -> None:
    message = "内存不足 " * 10**5
    runs = [replace(run(f"run-{n}"), message=message) for n in range(500)]
    told = replace(status(*runs), conditions=(Condition("TrainingComplete", "False", "Failed", message),) * 8)
    assert len(json.dumps(running_status(item(), told, LINKS, 1, NOW), ensure_ascii=False).encode()) < 200_000


@pytest.mark.parametrize(
    ("states", "phase"),
    [
        (("running", "waiting"), "Running"),
        (("pending", "waiting"), "Pending"),
        (("waiting", "waiting"), "Pending"),
        (("done", "pending"), "Pending"),
        (("done", "failed"), "Running"),
    ],
)
def test_an_experiment_of_which_nothing_runs_is_pending(states: tuple[Any, Any], phase: str) -> None:
    told = replace(status(run(state=states[0])), evaluations=(evaluation(states[1]),))
    assert running_status(item(), told, LINKS, 1, NOW)["phase"] == phase


def test_a_status_about_another_object_of_the_name_is_not_believed() -> None:
    metadata = {"name": "tiny", "uid": "0123abcd-0000-4000-8000-000000000000", "generation": 1}
    own = {"manifest": "s3://lab/team/experiments/tiny/0123abcd/manifest.json", "counts": {"checkpoints": 2}}
    other = {**own, "manifest": "s3://lab/team/experiments/tiny/ffffffff/manifest.json"}
    assert recorded_counts(without_foreign_status({"metadata": metadata, "status": own})) == Counts(2, 0, 0)
    assert recorded_counts(without_foreign_status({"metadata": metadata, "status": other})) == Counts()
    assert without_foreign_status({"metadata": metadata}) == {"metadata": metadata}


def test_accepted_keeps_its_reason_while_the_store_comes_and_goes() -> None:
    seen = replace(status(), conditions=(Condition("Accepted", "True", "Frozen", "the experiment was accepted"),))
    before = running_status(item(), seen, LINKS, 1, NOW)
    blind = Status((Condition("Ready", "Unknown", "WatchStale", "no answer"),))
    assert conditions(running_status(item(before), blind, LINKS, 1, LATER))["Accepted"] == ("True", "Frozen")
