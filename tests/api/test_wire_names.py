"""Renamed fields keep their old names in stored JSON, so that other versions can read it."""

import json
from datetime import UTC, datetime

from controller.experiment.profile import Profile
from workloads.api.experiment import Limits
from workloads.api.records import TaskEnd

ENGINE = {"name": "vllm", "version": "0.32.0"}


def test_the_end_of_a_task_says_charged() -> None:
    end = TaskEnd(
        number=1,
        outcome="failed",
        reason="Crashed",
        message="x",
        counts_as_failure=True,
        retry=True,
        ended=datetime(2026, 2, 16, tzinfo=UTC),
    )
    assert json.loads(end.to_json())["charged"] is True
    assert TaskEnd.model_validate_json(end.to_json()) == end


def test_limits_say_gather_seconds_and_linger_seconds() -> None:
    limits = Limits(batch_window_seconds=1, idle_timeout_seconds=2)
    stored = json.loads(limits.to_json())
    assert (stored["gatherSeconds"], stored["lingerSeconds"]) == (1, 2)
    assert Limits.model_validate_json(limits.to_json()) == limits


def test_the_profile_in_an_experiment_of_the_version_before_is_read() -> None:
    stored = {"engine": ENGINE, "gatherSeconds": 1, "lingerSeconds": 2}
    profile = Profile.model_validate(stored, by_alias=True, by_name=False)
    assert (profile.batch_window_seconds, profile.idle_timeout_seconds) == (1, 2)
