"""Commit: what makes files count, who wins, and what a reader is told of a checkpoint that is not what it was."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from workloads.commit import (
    Corrupt,
    Superseded,
    fetch,
    list_markers,
    newest_state,
    prune_states,
    publish,
    read_marker,
    verify,
)
from workloads.contract import layout
from workloads.contract.records import CheckpointRecord, Marker, StateRecord, content_of
from workloads.contract.units import UnitRef
from workloads.store import Store

UNIT = UnitRef(kind="train", digest="a" * 64)
NOW = datetime(2026, 2, 16, tzinfo=UTC)
NAME = layout.checkpoint_marker(5000)


def commit(store: Store, folder: Path, attempt: int, files: dict[str, bytes], name: str = NAME) -> Marker:
    paths = {}
    for file, data in files.items():
        paths[file] = folder / f"{attempt}-{file}"
        paths[file].write_bytes(data)
    record = CheckpointRecord(samples=5000, step=100)
    return publish(store, UNIT, attempt, name, paths, record, now=NOW, parent="state-000000100")


def commit_state(store: Store, step: int, folder: Path) -> Marker:
    path = folder / "state.bin"
    path.write_bytes(b"%d" % step)
    record = StateRecord(step=step, samples=step * 50)
    return publish(store, UNIT, 1, layout.state_marker(step), {"state.bin": path}, record, now=NOW)


def test_a_committed_checkpoint_is_read_as_it_was_written(store: Store, tmp_path: Path) -> None:
    marker = commit(store, tmp_path, 1, {"weights": b"w", "config": b"c"})
    assert read_marker(store, UNIT, NAME) == marker
    assert marker.content == content_of(marker.files)
    assert verify(store, marker, deep=True) == []
    paths = fetch(store, marker, ["weights"], tmp_path / "into")
    assert {name: path.read_bytes() for name, path in paths.items()} == {"weights": b"w"}


def test_a_unit_without_markers_has_none(store: Store) -> None:
    assert read_marker(store, UNIT, NAME) is None
    assert list_markers(store, UNIT) == []


def test_another_attempts_content_supersedes_and_uploads_nothing(store: Store, tmp_path: Path) -> None:
    first = commit(store, tmp_path, 1, {"weights": b"w"})
    with pytest.raises(
        Superseded, match=r"checkpoint-000005000 is attempt 1's, with other content; attempt 2 must end"
    ):
        commit(store, tmp_path, 2, {"weights": b"other"})
    assert read_marker(store, UNIT, NAME) == first
    assert list(store.list(layout.attempt_prefix(UNIT, 2))) == []


def test_the_same_content_again_is_the_first_ones_success(store: Store, tmp_path: Path) -> None:
    first = commit(store, tmp_path, 1, {"weights": b"w"})
    assert commit(store, tmp_path, 2, {"weights": b"w"}) == first
    assert list(store.list(layout.attempt_prefix(UNIT, 2))) == []


def test_markers_are_listed_in_training_order(store: Store, tmp_path: Path) -> None:
    for samples in (10_000, 5_000, 100_000):
        commit(store, tmp_path, 1, {"weights": b"%d" % samples}, layout.checkpoint_marker(samples))
    names = [marker.name for marker in list_markers(store, UNIT)]
    assert names == ["checkpoint-000005000", "checkpoint-000010000", "checkpoint-000100000"]


def test_a_missing_file_is_named(store: Store, tmp_path: Path) -> None:
    marker = commit(store, tmp_path, 1, {"weights": b"w", "config": b"c"})
    store.delete(marker.files[1].key)
    assert verify(store, marker) == [f"weights is missing (key {marker.files[1].key})"]
    with pytest.raises(
        Corrupt, match=r"train/aaaaaaaaaaaa: marker checkpoint-000005000 of attempt 1: weights is missing"
    ):
        fetch(store, marker, ["config", "weights"], tmp_path / "into")


def test_a_file_of_another_size_is_named(store: Store, tmp_path: Path) -> None:
    marker = commit(store, tmp_path, 1, {"weights": b"w"})
    store.put(marker.files[0].key, b"longer")
    [problem] = verify(store, marker)
    assert problem.startswith("weights has 6 bytes in place of 1")


def test_a_changed_byte_is_found_by_whoever_reads_it(store: Store, tmp_path: Path) -> None:
    marker = commit(store, tmp_path, 1, {"weights": b"weights"})
    store.put(marker.files[0].key, b"weighTs")
    assert verify(store, marker) == []
    [problem] = verify(store, marker, deep=True)
    assert problem.startswith("weights hashes to ")
    with pytest.raises(Corrupt, match="weights hashes to"):
        fetch(store, marker, ["weights"], tmp_path / "into")
    assert not (tmp_path / "into" / "weights").exists()


def test_a_file_that_the_marker_does_not_hold_is_named(store: Store, tmp_path: Path) -> None:
    marker = commit(store, tmp_path, 1, {"weights": b"w"})
    with pytest.raises(Corrupt, match="it holds no file optimizer, only weights"):
        fetch(store, marker, ["optimizer"], tmp_path / "into")


def test_what_was_fetched_before_is_kept_if_it_is_right_and_mended_if_not(store: Store, tmp_path: Path) -> None:
    marker = commit(store, tmp_path, 1, {"weights": b"w"})
    path = fetch(store, marker, ["weights"], tmp_path / "into")["weights"]
    inode = path.stat().st_ino
    assert fetch(store, marker, ["weights"], tmp_path / "into")["weights"].stat().st_ino == inode
    path.write_bytes(b"x")
    assert fetch(store, marker, ["weights"], tmp_path / "into")["weights"].read_bytes() == b"w"


def test_a_marker_that_cannot_be_read_is_corrupt_and_not_absent(store: Store) -> None:
    key = layout.marker_key(UNIT, NAME)
    store.put(key, b'{"schemaVersion": 2}')
    with pytest.raises(Corrupt, match=rf"{key} is no marker that this version can read"):
        read_marker(store, UNIT, NAME)


def test_a_marker_under_another_name_is_corrupt(store: Store, tmp_path: Path) -> None:
    marker = commit(store, tmp_path, 1, {"weights": b"w"})
    store.put(layout.marker_key(UNIT, layout.checkpoint_marker(9999)), marker.to_json())
    with pytest.raises(Corrupt, match="it was copied there"):
        list_markers(store, UNIT)


def test_whole_weights_are_known_by_the_content_stated(store: Store) -> None:
    record = CheckpointRecord(samples=0, step=0, weights="model", location="s3://lab/model", model_content="sha256:x")
    marker = publish(store, UNIT, 1, NAME, {}, record, now=NOW, content="b" * 64)
    assert marker.content == "b" * 64
    with pytest.raises(Superseded):
        publish(store, UNIT, 2, NAME, {}, record, now=NOW, content="c" * 64)


def test_the_last_two_states_are_kept_and_checkpoints_are_never_pruned(store: Store, tmp_path: Path) -> None:
    commit(store, tmp_path, 1, {"weights": b"w"})
    states = [commit_state(store, step, tmp_path) for step in (9, 10, 100, 101)]
    assert prune_states(store, UNIT) == ["state-000000009", "state-000000010"]
    assert [marker.name for marker in list_markers(store, UNIT)] == [NAME, "state-000000100", "state-000000101"]
    assert [store.head(state.files[0].key) is not None for state in states] == [False, False, True, True]
    assert newest_state(list_markers(store, UNIT)) == states[-1]
    assert prune_states(store, UNIT) == []


def test_a_unit_without_a_state_has_no_newest(store: Store, tmp_path: Path) -> None:
    assert newest_state([commit(store, tmp_path, 1, {"weights": b"w"})]) is None
