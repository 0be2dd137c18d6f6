"""The same question asked again from a file that has moved, or that allows more: the file as it is now counts."""

from datetime import timedelta
from pathlib import Path

from controller.loop import accept
from tests.controller.experiments import experiment, run
from workloads.contract import layout
from workloads.contract.experiment import FrozenExperiment, Limits
from workloads.contract.tasks import FileSource
from workloads.store import Store, open_store


def stored(store: Store, frozen: FrozenExperiment) -> FrozenExperiment:
    return FrozenExperiment.model_validate_json(store.get(layout.experiment_key(frozen.name, frozen.uid8)))


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
