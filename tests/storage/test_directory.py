"""The directory store: its promises about the file system."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from workloads.storage.base import AlreadyExists, NotFound, StoreError, open_store
from workloads.storage.directory import ABANDONED_SECONDS, WRITING, DirectoryStore

KEYS = st.sampled_from(["a", "b/c", "b/d", "b-c", "b/e/f", "b/e.f"])
DATA = st.binary(max_size=3)


class LikeADictionary(RuleBasedStateMachine):
    """Compares with a dict of key -> content; an etag is a hash of the content."""

    @initialize(root=st.uuids())
    def begin(self, root: object) -> None:
        self.root = Path(os.environ["PYTEST_STORE_FOLDER"]) / str(root)
        self.root.mkdir(exist_ok=True)
        self.store = DirectoryStore(self.root)
        for info in list(self.store.list("")):
            self.store.delete(info.key)
        self.model: dict[str, bytes] = {}
        self.etags: dict[bytes, str] = {}

    @rule(key=KEYS, data=DATA)
    def put(self, key: str, data: bytes) -> None:
        self.store.put(key, data)
        self.model[key] = data

    @rule(key=KEYS, data=DATA)
    def put_new(self, key: str, data: bytes) -> None:
        if self.model.setdefault(key, data) == data:
            self.etags[data] = self.store.put_new(key, data)
        else:
            with pytest.raises(AlreadyExists):
                self.store.put_new(key, data)

    @rule(key=KEYS, data=DATA, read=DATA)
    def put_if(self, key: str, data: bytes, read: bytes) -> None:
        etag = self.etags.get(read, "never seen")
        if key in self.model and (self.model[key] == data or (self.model[key] == read and read in self.etags)):
            self.etags[data] = self.store.put_if(key, data, etag)
            self.model[key] = data
        else:
            with pytest.raises(AlreadyExists):
                self.store.put_if(key, data, etag)

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        self.store.delete(key)
        self.model.pop(key, None)

    @rule(key=KEYS)
    def get(self, key: str) -> None:
        if key in self.model:
            assert self.store.get(key) == self.model[key]
        else:
            with pytest.raises(NotFound):
                self.store.get(key)

    @rule(prefix=st.sampled_from(["", "a", "b", "b/", "b/e", "b/e/", "c/"]))
    def list_prefix(self, prefix: str) -> None:
        listed = [(info.key, info.size) for info in self.store.list(prefix)]
        assert listed == sorted((key, len(data)) for key, data in self.model.items() if key.startswith(prefix))

    @invariant()
    def nothing_is_left_half_written(self) -> None:
        assert not list((self.root / WRITING).glob("*"))


@pytest.mark.slow
def test_it_behaves_like_a_dictionary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    monkeypatch.setenv("PYTEST_STORE_FOLDER", str(tmp_path))
    limits = settings(max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(LikeADictionary, settings=limits)


def test_a_root_that_went_away_is_unknown_and_not_empty(tmp_path: Path) -> None:
    store = open_store((tmp_path / "store").as_uri())
    (tmp_path / "store").rename(tmp_path / "unmounted")
    for ask in (
        lambda: store.get("a"),
        lambda: store.head("a"),
        lambda: list(store.list("")),
        lambda: store.put("a", b""),
    ):
        with pytest.raises(StoreError, match="does not exist") as raised:
            ask()
        assert type(raised.value) is StoreError


def test_no_key_reaches_out_of_the_root(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"outside")
    store = open_store((tmp_path / "store").as_uri())
    with pytest.raises(ValueError, match="is not a key"):
        store.get("../secret")
    with pytest.raises(ValueError, match="is not a key"):
        list(store.list("../"))


def test_a_key_below_a_key_is_an_error_that_says_so(tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri())
    store.put("a", b"x")
    with pytest.raises(StoreError, match="a part of this key is a key itself"):
        store.put("a/b", b"x")
    store.put("c/d", b"x")
    with pytest.raises(StoreError, match="other keys start with this key"):
        store.put("c", b"x")


def test_files_of_a_killed_writer_are_never_listed_and_are_removed_later(tmp_path: Path) -> None:
    now = 1_000_000_000.0
    store = DirectoryStore(tmp_path, now=lambda: now + ABANDONED_SECONDS + 1)
    left, fresh = tmp_path / WRITING / "left", tmp_path / WRITING / "fresh"
    left.parent.mkdir()
    left.write_bytes(b"half")
    os.utime(left, (now, now))
    fresh.write_bytes(b"being written by another")
    os.utime(fresh, (now + 10, now + 10))
    assert list(store.list("")) == []
    assert store.clean() == 1
    assert [path.name for path in left.parent.iterdir()] == ["fresh"]


def test_a_file_that_a_living_writer_holds_is_not_removed(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    held = tmp_path / WRITING / "held"
    held.parent.mkdir()
    held.write_bytes(b"slow")
    os.utime(held, (0, 0))
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import fcntl; f=open({str(held)!r}); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout
    holder.stdout.readline()
    assert store.clean() == 0
    holder.communicate(b"\n")
    assert store.clean() == 1
