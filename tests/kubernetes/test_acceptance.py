"""An experiment is frozen once, accepts additions, and is refused with the change that is needed."""

from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from controller.executors.kubernetes.acceptance import Accepted, Refused, accept, uid8_of
from controller.experiment.profile import Profile
from tests.kubernetes.tasks import profile
from tests.train.world import sums, write_base, write_rows
from workloads.api import store_keys
from workloads.storage.base import Store, open_store

NOW = datetime(2026, 2, 16, 9, 0, tzinfo=UTC)
Accept = Callable[..., Accepted]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_base(tmp_path / "base")
    write_rows(tmp_path / "sums.jsonl", sums(8))
    write_rows(tmp_path / "own.jsonl", [{"id": "p", "prompt": "1 + 1", "answer": "2"}])
    return tmp_path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store((tmp_path / "store").as_uri())


@pytest.fixture
def accepted(files: Path, store: Store) -> Accept:
    def call(item: dict[str, Any], now: datetime = NOW, **profiles: Profile) -> Accepted:
        return accept(item, profiles or {"default": profile(directory=str(files))}, store, now)

    return call


RUN = {
    "name": "one", "data": "sums", "samples": 8, "sequenceTokens": 64,
    "overlong": "drop", "checkpointEverySamples": 4, "batchSize": 4,
}  # fmt: skip


def item(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "potstill.dev/v1alpha1", "kind": "Experiment",
        "metadata": {"name": "tiny", "namespace": "team", "uid": "0016feb2-8f00-4000-8000-000000000000"},
        "spec": {
            "base": {"model": "base"},
            "data": {"sums": {"uri": "sums.jsonl"}},
            "runs": [RUN],
            "evaluation": {"benchmarks": [{"name": "own", "uri": "own.jsonl", "grader": "math"}], "budgets": [8]},
            **spec,
        },
    }  # fmt: skip


def refusal(accepted: Accept, wrong: dict[str, Any], **profiles: Profile) -> tuple[str, str]:
    with pytest.raises(Refused) as caught:
        accepted(wrong, **profiles)
    return caught.value.reason, str(caught.value)


def test_it_is_frozen_in_the_store_under_its_uid(accepted: Accept, store: Store) -> None:
    frozen = accepted(item()).frozen
    assert frozen.uid8 == uid8_of(item()) == "0016feb2"
    assert store.get(store_keys.experiment_key("tiny", "0016feb2")) == frozen.to_json()


def test_accepted_again_it_is_what_it_was_then(accepted: Accept, files: Path) -> None:
    first = accepted(item()).frozen
    edited = profile(directory=str(files), trainingSlots=1, gpu="NVIDIA-B200")
    again = accepted(item(), NOW + timedelta(days=1), default=edited)
    assert again.frozen == first
    assert again.profile.gpu == "NVIDIA-H200"


def test_an_added_run_is_a_new_revision_of_the_same_experiment(accepted: Accept) -> None:
    first = accepted(item()).frozen
    grown = accepted(item(runs=[RUN, {**RUN, "name": "two", "seed": 1}]), NOW + timedelta(days=1)).frozen
    assert [run.name for run in grown.runs] == ["one", "two"]
    assert (grown.revision, grown.accepted, grown.runs[0]) == (2, first.accepted, first.runs[0])


def test_raised_limits_are_a_new_revision(accepted: Accept) -> None:
    accepted(item())
    assert accepted(item(limits={"attempts": 7})).frozen.limits.attempts == 7


def test_suspending_is_not_a_new_revision(accepted: Accept) -> None:
    accepted(item())
    assert accepted(item(suspend=True)).frozen.revision == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runs": [{**RUN, "learningRate": 1.0}]}, "run one has changed; add another under a new name"),
        ({"runs": [{**RUN, "name": "two"}]}, "run one was removed from the spec"),
        ({"epoch": 1}, "epoch cannot change in a live experiment"),
    ],
)
def test_a_change_of_an_accepted_field_is_refused(accepted: Accept, change: dict[str, Any], message: str) -> None:
    accepted(item())
    reason, told = refusal(accepted, item(**change))
    assert reason == "ImmutableField"
    assert message in told


def test_an_unknown_profile_is_refused_with_those_there_are(accepted: Accept) -> None:
    assert refusal(accepted, item(profile="h100"), default=profile(), h200=profile()) == (
        "UnknownProfile", "spec.profile: there is no profile h100; profiles: default, h200",
    )  # fmt: skip


def test_all_mistakes_are_reported_together(accepted: Accept) -> None:
    wrong = item(runs=[{**RUN, "data": "sum", "checkpointEverySamples": 9}])
    _, message = refusal(accepted, wrong)
    assert "did you mean sums?" in message
    assert "9 is not a whole number of batches of 4" in message


def test_data_that_is_not_what_was_stated_is_refused(accepted: Accept) -> None:
    reason, message = refusal(accepted, item(data={"sums": {"uri": "sums.jsonl", "sha256": "0" * 64}}))
    assert reason == "InvalidSpec"
    assert "sums" in message


def test_an_experiment_of_another_schema_is_left_alone(accepted: Accept, store: Store) -> None:
    frozen = accepted(item()).frozen
    key = store_keys.experiment_key("tiny", frozen.uid8)
    newer = frozen.to_json().replace(b'"schemaVersion":1', b'"schemaVersion":2')
    assert newer != frozen.to_json()
    store.put(key, newer)
    assert refusal(accepted, item())[0] == "UnknownSchema"
    assert store.get(key) == newer


def test_the_objects_own_fields_of_kubernetes_pass(accepted: Accept) -> None:
    from_server = deepcopy(item())
    from_server["metadata"] |= {"generation": 2, "managedFields": [], "annotations": {"a": "b"}}
    from_server["status"] = {"phase": "Running"}
    assert accepted(from_server).frozen.name == "tiny"


def test_an_experiment_whose_engine_is_no_longer_installed_is_refused(accepted: Accept, store: Store) -> None:
    frozen = accepted(item()).frozen
    stated = frozen.profile["engine"]
    assert isinstance(stated, dict)
    engine = {**stated, "name": "removed-engine"}
    standing = frozen.model_copy(update={"profile": {**frozen.profile, "engine": engine}})
    store.put(store_keys.experiment_key("tiny", "0016feb2"), standing.to_json())
    reason, message = refusal(accepted, item())
    assert reason == "InvalidSpec"
    assert "engine.name: removed-engine is not one of transformers, vllm" in message


def test_an_unknown_grader_is_refused_with_those_there_are(accepted: Accept) -> None:
    benchmarks = [{"name": "own", "uri": "own.jsonl", "grader": "maths"}]
    _, message = refusal(accepted, item(evaluation={"benchmarks": benchmarks, "budgets": [8]}))
    assert "maths is not one of math, code, exact, choice; did you mean math?" in message
