"""A writer killed with SIGKILL at each step of a commit: readers see the state before or the state after, never half."""

import os
from pathlib import Path

import pytest

from tests.storage import writers
from tests.storage.http_proxy import Do, HttpProxy, Seen
from tests.storage.writers import NAME, UNIT, content_of_attempt
from tests.tools.s3 import S3Server
from workloads.api import store_keys
from workloads.storage.base import Store, open_store
from workloads.storage.directory import WRITING, DirectoryStore
from workloads.storage.markers import list_markers, read_marker, verify

pytestmark = [pytest.mark.slow, pytest.mark.long]


def is_committed(store: Store) -> bool:
    """Returns whether the checkpoint is committed; then it must be complete.

    Files without a marker may exist, but not partly written.
    """
    for info in store.list(store_keys.attempt_prefix(UNIT, 1)):
        assert store.get(info.key) == content_of_attempt(1)
    markers = list_markers(store, UNIT)
    for marker in markers:
        assert verify(store, marker, deep=True) == []
    return bool(markers)


def test_a_commit_to_a_directory_killed_at_each_file_operation(tmp_path: Path) -> None:
    committed = []
    for step in range(1, 200):
        url = (tmp_path / str(step)).as_uri()
        process = writers.start("commit", url, 1, environment={"KILL_AT_FILE_OPERATION": str(step)})
        writers.begin(process)
        told = writers.result(process)
        store = open_store(url)
        committed.append(is_committed(store))
        assert writers.commit(store, 2) == ("superseded" if committed[-1] else "attempt 2"), "the next attempt goes on"
        if told is not None:
            break
        left = tmp_path / str(step) / WRITING
        if left.exists():
            for path in left.iterdir():
                os.utime(path, (0, 0))
            DirectoryStore(tmp_path / str(step)).clean()
            assert not list(left.iterdir())
    assert committed[-1], "the last one was not killed"
    assert len(committed) > 20, "the commit has many steps, and each was tried"
    assert sorted(committed) == committed, "once it stands it stands"
    assert committed.count(True) > 1, "a kill after the marker was linked was tried too"


@pytest.mark.s3
def test_a_commit_to_s3_killed_at_each_request(server: S3Server, requests: HttpProxy, tmp_path: Path) -> None:
    committed = []
    for answer_lost in (False, True):
        for step in range(1, 50):
            url = f"s3://{server.bucket}/{tmp_path.name}/{answer_lost}-{step}"
            process = writers.start("commit", url, 1, environment={"POTSTILL_S3_ENDPOINT": requests.url})

            def kill_at_step(seen: Seen, step: int = step, pid: int = process.pid, lost: bool = answer_lost) -> Do:
                if seen.number != step:
                    return Do.FORWARD
                os.kill(pid, 9)
                return Do.LOSE_ANSWER if lost else Do.LOSE

            requests.seen.clear()
            requests.rule = kill_at_step
            writers.begin(process)
            told = writers.result(process)
            store = open_store(url)
            committed.append(is_committed(store))
            assert writers.commit(store, 2) == ("superseded" if committed[-1] else "attempt 2")
            if told is not None:
                break
            writes = [seen for seen in requests.seen if seen.writes]
            if committed[-1]:
                assert len(writes) == 3, "two files, then the marker"
    assert True in committed[:-1]
    assert False in committed


def test_a_marker_is_written_after_its_files(store: Store, tmp_path: Path) -> None:
    class Ordered:
        def __init__(self) -> None:
            self.order: list[str] = []

        def __getattr__(self, name: str) -> object:
            if name in ("upload", "put_new", "put"):
                self.order.append(name)
            return getattr(store, name)

    watched = Ordered()
    writers.commit(watched, 1)  # type: ignore[arg-type]
    assert watched.order == ["upload", "upload", "put_new"]
    assert read_marker(store, UNIT, NAME)
