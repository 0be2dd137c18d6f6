"""If an experiment is accepted again with data in another place or with other limits, the new values replace the old."""

from datetime import timedelta
from pathlib import Path

import pytest

from controller.accept import accept
from controller.apply_actions import act
from controller.planner.actions import Reason, WriteManifest
from controller.trouble import NewerRecord
from tests.controller.experiments import START, experiment, run
from tests.controller.test_observe import Recorder
from workloads.api import store_keys
from workloads.api.experiment import FrozenExperiment, Limits
from workloads.api.tasks import FileSource
from workloads.storage.base import Store, StoreError, open_store


def stored(store: Store, frozen: FrozenExperiment) -> FrozenExperiment:
    return FrozenExperiment.model_validate_json(store.get(store_keys.experiment_key(frozen.name, frozen.uid8)))


def test_the_same_file_later_is_the_experiment_as_accepted_before(tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri())
    first = experiment((run("short", (50,)),))
    later = first.model_copy(update={"accepted": first.accepted + timedelta(days=1)})
    assert accept(first, store) == first
    assert accept(later, store) == first == stored(store, first)


def test_moved_data_and_raised_limits_count_from_now_on(tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri())
    first = accept(experiment((run("short", (50,)),)), store)
    source = first.runs[0].data_source
    assert source is not None
    moved = FileSource(location="/elsewhere/short.jsonl", sha256=source.sha256)
    changed = first.model_copy(
        update={
            "runs": (first.runs[0].model_copy(update={"data_source": moved}),),
            "limits": Limits(attempts=9),
            "accepted": first.accepted + timedelta(days=1),
        }
    )
    taken = accept(changed, store)
    assert taken == stored(store, first)
    assert taken.runs[0].data_source == moved
    assert (taken.limits.attempts, taken.revision, taken.accepted) == (9, 2, first.accepted)
    assert accept(changed, store) == taken


@pytest.mark.parametrize("unreadable", [b"", b"{}", b"\xff", b'{"schemaVersion": 2}'])
def test_a_record_that_cannot_be_read_is_an_error_that_names_the_file_and_what_to_do(
    tmp_path: Path, unreadable: bytes
) -> None:
    store, frozen = open_store(tmp_path.as_uri()), experiment((run("short", (50,)),))
    key = store_keys.experiment_key(frozen.name, frozen.uid8)
    store.put(key, unreadable)
    with pytest.raises(StoreError, match=rf"{key} is not an experiment that .* delete it and run again: results stay"):
        accept(frozen, store)
    assert store.get(key) == unreadable


def test_an_experiment_with_a_manifest_of_a_later_version_is_refused(tmp_path: Path) -> None:
    store, frozen = open_store(tmp_path.as_uri()), experiment((run("short", (50,)),))
    later = b'{"schemaVersion": 9, "experiment": "short"}'
    store.put(store_keys.manifest_key(frozen.name, frozen.uid8), later)
    with pytest.raises(
        NewerRecord, match=r"manifest\.json has schemaVersion 9, this potstill writes 1: use the newest"
    ):
        accept(frozen, store)
    action = WriteManifest("records", "running", (), (), 0, Reason("Asked", ""))
    with pytest.raises(NewerRecord):
        act(action, frozen, store, Recorder(), START)
    assert store.get(store_keys.manifest_key(frozen.name, frozen.uid8)) == later
