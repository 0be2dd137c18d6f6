"""Commit: when files count, which writer wins, and what a reader reports about a changed checkpoint."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.api import store_keys
from workloads.api.records import CheckpointRecord, FileRef, Marker, StateRecord, content_of
from workloads.api.units import UnitRef
from workloads.storage.base import NotFound, Store
from workloads.storage.markers import (
    Corrupt,
    Superseded,
    commit_marker,
    fetch,
    list_markers,
    newest_state,
    parse_marker,
    prune_states,
    read_marker,
    verify,
)

UNIT = UnitRef(kind="train", digest="a" * 64)
NOW = datetime(2026, 2, 16, tzinfo=UTC)
NAME = store_keys.checkpoint_marker(5000)


def commit(store: Store, folder: Path, attempt: int, files: dict[str, bytes], name: str = NAME) -> Marker:
    paths = {}
    for file, data in files.items():
        paths[file] = folder / f"{attempt}-{file}"
        paths[file].write_bytes(data)
    record = CheckpointRecord(samples=5000, step=100)
    return commit_marker(store, UNIT, attempt, name, paths, record, now=NOW, parent="state-000000100")


def commit_state(store: Store, step: int, folder: Path) -> Marker:
    path = folder / "state.bin"
    path.write_bytes(b"%d" % step)
    record = StateRecord(step=step, samples=step * 50)
    return commit_marker(store, UNIT, 1, store_keys.state_marker(step), {"state.bin": path}, record, now=NOW)


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
    assert list(store.list(store_keys.attempt_prefix(UNIT, 2))) == []


def test_the_same_content_again_is_the_first_ones_success(store: Store, tmp_path: Path) -> None:
    first = commit(store, tmp_path, 1, {"weights": b"w"})
    assert commit(store, tmp_path, 2, {"weights": b"w"}) == first
    assert list(store.list(store_keys.attempt_prefix(UNIT, 2))) == []


def test_markers_are_listed_in_training_order(store: Store, tmp_path: Path) -> None:
    for samples in (10_000, 5_000, 100_000):
        commit(store, tmp_path, 1, {"weights": b"%d" % samples}, store_keys.checkpoint_marker(samples))
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


def test_a_changed_byte_is_found_by_every_reader(store: Store, tmp_path: Path) -> None:
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


def test_a_fetched_file_is_kept_if_it_is_right_and_fetched_again_if_not(store: Store, tmp_path: Path) -> None:
    marker = commit(store, tmp_path, 1, {"weights": b"w"})
    path = fetch(store, marker, ["weights"], tmp_path / "into")["weights"]
    inode = path.stat().st_ino
    assert fetch(store, marker, ["weights"], tmp_path / "into")["weights"].stat().st_ino == inode
    path.write_bytes(b"x")
    assert fetch(store, marker, ["weights"], tmp_path / "into")["weights"].read_bytes() == b"w"


def test_a_marker_that_cannot_be_read_is_corrupt_and_not_absent(store: Store) -> None:
    key = store_keys.marker_key(UNIT, NAME)
    store.put(key, b'{"schemaVersion": 2}')
    with pytest.raises(Corrupt, match=rf"{key} is not a marker that this version can read"):
        read_marker(store, UNIT, NAME)


def test_a_marker_under_another_name_is_corrupt(store: Store, tmp_path: Path) -> None:
    marker = commit(store, tmp_path, 1, {"weights": b"w"})
    store.put(store_keys.marker_key(UNIT, store_keys.checkpoint_marker(9999)), marker.to_json())
    with pytest.raises(Corrupt, match="it was copied there"):
        list_markers(store, UNIT)


def test_whole_weights_are_known_by_the_content_stated(store: Store) -> None:
    record = CheckpointRecord(samples=0, step=0, weights="model", location="s3://lab/model", model_content="sha256:x")
    marker = commit_marker(store, UNIT, 1, NAME, {}, record, now=NOW, content="b" * 64)
    assert marker.content == "b" * 64
    with pytest.raises(Superseded):
        commit_marker(store, UNIT, 2, NAME, {}, record, now=NOW, content="c" * 64)


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


class Overtaken:
    """A store whose first answer that a marker is absent is late: `meanwhile` is called before the answer."""

    def __init__(self, store: Store, meanwhile: Callable[[], object]) -> None:
        self._store = store
        self._meanwhile: list[Callable[[], object]] = [meanwhile]

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def get(self, key: str) -> bytes:
        return self.get_with_etag(key)[0]

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        try:
            return self._store.get_with_etag(key)
        except NotFound:
            if self._meanwhile:
                self._meanwhile.pop()()
            raise


@pytest.mark.parametrize("second", [b"of the second process", b"of the first process"])
def test_a_second_process_of_the_same_attempt_never_touches_committed_files(
    store: Store, tmp_path: Path, second: bytes
) -> None:
    """The second finds no marker, the first commits, and then the second uploads."""
    first: list[Marker] = []
    late = Overtaken(store, lambda: first.append(commit(store, tmp_path, 1, {"weights": b"of the first process"})))
    (tmp_path / "other").mkdir()
    try:
        told = commit(cast("Store", late), tmp_path / "other", 1, {"weights": second})
    except Superseded:
        told = None
    assert (told == first[0]) == (second == b"of the first process")
    assert read_marker(store, UNIT, NAME) == first[0]
    assert verify(store, first[0], deep=True) == []


def test_only_a_resume_state_that_is_damaged_is_replaced_by_the_next_of_its_step(store: Store, tmp_path: Path) -> None:
    first = commit_state(store, 9, tmp_path)
    path = tmp_path / "other"
    path.write_bytes(b"other bits, as a GPU gives them")
    record, name = StateRecord(step=9, samples=450), store_keys.state_marker(9)
    with pytest.raises(Superseded):
        commit_marker(store, UNIT, 2, name, {"state.bin": path}, record, now=NOW)
    store.put(first.files[0].key, b"8")
    second = commit_marker(store, UNIT, 2, name, {"state.bin": path}, record, now=NOW)
    assert read_marker(store, UNIT, name) == second
    assert verify(store, second, deep=True) == []
    key = store_keys.marker_key(UNIT, name)
    store.put(key, b"junk")
    third = commit_marker(store, UNIT, 3, name, {"state.bin": path}, record, now=NOW)
    assert read_marker(store, UNIT, name) == third
    store.put(key, b'{"schemaVersion": 2}')
    with pytest.raises(Corrupt):
        commit_marker(store, UNIT, 4, name, {"state.bin": path}, record, now=NOW)
    checkpoint = commit(store, tmp_path, 1, {"weights": b"w"})
    store.put(checkpoint.files[0].key, b"x")
    with pytest.raises(Superseded):
        commit(store, tmp_path, 2, {"weights": b"v"})


def test_states_above_the_newest_stay_and_do_not_count_among_those_kept(store: Store, tmp_path: Path) -> None:
    for step in (8, 9, 100, 101):
        commit_state(store, step, tmp_path)
    assert prune_states(store, UNIT, newest=store_keys.state_marker(9)) == []
    commit_state(store, 10, tmp_path)
    assert prune_states(store, UNIT, newest=store_keys.state_marker(10)) == ["state-000000008"]


def test_a_commit_that_was_paused_uploads_again_what_was_swept_meanwhile(store: Store, tmp_path: Path) -> None:
    """`gc` takes old files without a marker for abandoned ones."""
    path, times = tmp_path / "weights", iter([0.0, 1000.0, 1001.0, 1002.0, 5000.0, 5001.0, 5002.0])
    path.write_bytes(b"w")

    def clock() -> float:
        now = next(times)
        if now in (1000.0, 5000.0):  # it slept until now
            for info in list(store.list(store_keys.attempt_prefix(UNIT, 1))):
                store.delete(info.key)
        return now

    record = CheckpointRecord(samples=5000, step=100)
    marker = commit_marker(store, UNIT, 1, NAME, {"weights": path}, record, now=NOW, clock=clock)
    assert verify(store, marker, deep=True) == []


@settings(deadline=None)
@given(data=st.data())
def test_any_other_digit_in_a_marker_is_noticed(data: st.DataObject) -> None:
    files = (FileRef(name="w", key="units/w", size=17, sha256="0" * 64),)
    record = CheckpointRecord(samples=5000, step=100, loss=1.25)
    told = {"unit": UNIT, "name": NAME, "attempt": 1, "content": content_of(files), "files": files}
    marker = Marker(created=NOW, record=record, **told).with_checksum()
    key, written = store_keys.marker_key(UNIT, NAME), marker.to_json()
    assert parse_marker(UNIT, key, written) == marker
    places = [place for place, byte in enumerate(written) if chr(byte).isdigit()]
    place = data.draw(st.sampled_from(places))
    digit = data.draw(st.sampled_from([d for d in b"0123456789" if d != written[place]]))
    with pytest.raises(Corrupt):
        parse_marker(UNIT, key, written[:place] + bytes([digit]) + written[place + 1 :])


def test_a_marker_of_the_version_before_has_no_checksum_and_is_read(store: Store, tmp_path: Path) -> None:
    marker = commit(store, tmp_path, 1, {"weights": b"w"})
    before = marker.model_copy(update={"checksum": None})
    data = json.loads(before.to_json())
    del data["checksum"]
    store.put(store_keys.marker_key(UNIT, NAME), json.dumps(data).encode())
    assert read_marker(store, UNIT, NAME) == before


def test_a_marker_that_names_a_path_outside_of_the_store_is_corrupt(store: Store, tmp_path: Path) -> None:
    marker = commit(store, tmp_path, 1, {"weights": b"w"})
    files = (marker.files[0].model_copy(update={"key": "../../etc/passwd"}),)
    store.put(store_keys.marker_key(UNIT, NAME), marker.model_copy(update={"files": files}).with_checksum().to_json())
    with pytest.raises(Corrupt, match="is not a key of a store"):
        read_marker(store, UNIT, NAME)
