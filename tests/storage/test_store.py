"""The promises of every store."""

import hashlib
import os
from pathlib import Path

import pytest

from tests.storage.http_proxy import HttpProxy
from tests.tools.s3 import S3Server
from workloads.storage.base import AlreadyExists, NotFound, Store, StoreError, check_key, open_store
from workloads.storage.s3.store import S3Store


def test_get_returns_the_object_that_was_put_last(store: Store) -> None:
    store.put("a/b.json", b"one")
    store.put("a/b.json", b"two")
    assert store.get("a/b.json") == b"two"


def test_a_key_that_is_not_there_is_not_found_and_has_no_head(store: Store) -> None:
    with pytest.raises(NotFound, match=r"a/b\.json"):
        store.get("a/b.json")
    assert store.head("a/b.json") is None


def test_a_new_key_is_written_once(store: Store) -> None:
    store.put_new("task.json", b"mine")
    with pytest.raises(AlreadyExists, match=r"task\.json"):
        store.put_new("task.json", b"yours")
    assert store.get("task.json") == b"mine"


def test_a_new_key_with_the_same_content_is_success(store: Store) -> None:
    assert store.put_new("task.json", b"mine") == store.put_new("task.json", b"mine")


def test_put_if_replaces_only_what_was_read(store: Store) -> None:
    first = store.put_if("manifest.json", b"1", None)
    second = store.put_if("manifest.json", b"2", first)
    with pytest.raises(AlreadyExists):
        store.put_if("manifest.json", b"3", first)
    with pytest.raises(AlreadyExists):
        store.put_if("manifest.json", b"3", None)
    assert store.get_with_etag("manifest.json") == (b"2", second)


def test_put_if_of_a_deleted_key_loses(store: Store) -> None:
    etag = store.put_new("manifest.json", b"1")
    store.delete("manifest.json")
    with pytest.raises(AlreadyExists):
        store.put_if("manifest.json", b"2", etag)
    assert store.head("manifest.json") is None


def test_put_if_that_finds_its_own_content_has_won(store: Store) -> None:
    first = store.put_new("manifest.json", b"1")
    second = store.put_if("manifest.json", b"2", first)
    assert store.put_if("manifest.json", b"2", first) == second


def test_all_ways_to_ask_give_one_etag(store: Store) -> None:
    etag = store.put_new("a", b"x")
    head = store.head("a")
    assert head is not None
    assert {etag, head.etag, store.get_with_etag("a")[1], next(store.list("a")).etag} == {etag}
    assert head.size == 1


def test_a_list_is_whole_and_in_the_order_of_keys(store: Store) -> None:
    keys = ["a-b", "a.b", "a/b-c/d", "a/b/c", "a/b0", "a/c", "aa", "b/c/d/e"]
    for key in reversed(keys):
        store.put(key, b"x")
    assert [info.key for info in store.list("")] == sorted(keys)
    assert [info.key for info in store.list("a/b")] == ["a/b-c/d", "a/b/c", "a/b0"]
    assert [info.key for info in store.list("a/b/")] == ["a/b/c"]
    assert list(store.list("c/")) == []


@pytest.mark.slow
def test_a_list_of_more_than_a_page_is_whole(store: Store) -> None:
    keys = [f"units/{number:04d}/marker.json" for number in range(1005)]
    for key in keys:
        store.put(key, b"x")
    assert [info.key for info in store.list("units/")] == keys


@pytest.mark.s3
def test_a_list_asks_for_no_page_after_the_last(requests: HttpProxy, server: S3Server, tmp_path: Path) -> None:
    store = open_store(f"s3://{server.bucket}/{tmp_path.name}", os.environ | {"POTSTILL_S3_ENDPOINT": requests.url})
    for key in ("a/1", "a/2", "b/1"):
        store.put(key, b"x")
    for prefix, keys in (("a/", ["a/1", "a/2"]), ("c/", [])):
        requests.seen.clear()
        assert [info.key for info in store.list(prefix)] == keys
        assert len(requests.seen) == 1, f"one LIST of {prefix}"


@pytest.mark.s3
@pytest.mark.parametrize(("keys", "lists"), [(4, 2), (5, 3), (6, 3)])
def test_a_list_takes_one_request_a_page(
    requests: HttpProxy, server: S3Server, tmp_path: Path, keys: int, lists: int
) -> None:
    client = server.client(requests.url)
    store = S3Store(client, server.bucket, tmp_path.name, deadline_seconds=5.0, page_keys=2)
    for number in range(keys):
        store.put(f"a/{number}", b"x")
    requests.seen.clear()
    assert [info.key for info in store.list("a/")] == [f"a/{number}" for number in range(keys)]
    assert len(requests.seen) == lists


def test_a_list_does_not_reach_into_another_prefix(store: Store, request: pytest.FixtureRequest) -> None:
    neighbour = open_store(store.url + "-neighbour")
    neighbour.put("a", b"theirs")
    store.put("a", b"ours")
    assert [info.key for info in store.list("")] == ["a"]
    assert store.get("a") == b"ours"


def test_delete_removes_an_object_and_ignores_a_missing_one(store: Store) -> None:
    store.put("a/b/c", b"x")
    store.delete("a/b/c")
    store.delete("a/b/c")
    store.delete("a/b")
    assert list(store.list("")) == []
    store.put("a/b", b"a key where a prefix was")
    assert store.get("a/b") == b"a key where a prefix was"


@pytest.mark.parametrize("size", [0, 1, 40 * 1024 * 1024 + 7])
def test_a_file_comes_back_as_it_went(store: Store, tmp_path: Path, size: int) -> None:
    sent, back = tmp_path / "sent", tmp_path / "back"
    sent.write_bytes(os.urandom(size))
    store.upload("files/data.bin", sent, hashlib.sha256(sent.read_bytes()).hexdigest())
    store.download("files/data.bin", back)
    assert back.read_bytes() == sent.read_bytes()
    head = store.head("files/data.bin")
    assert head is not None
    assert head.size == size


def test_a_file_that_is_not_what_was_hashed_is_not_uploaded(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"changed meanwhile")
    with pytest.raises(StoreError, match="it changed since"):
        store.upload("files/data.bin", file, hashlib.sha256(b"as it was").hexdigest())
    assert store.head("files/data.bin") is None


def test_a_download_that_fails_leaves_nothing(store: Store, tmp_path: Path) -> None:
    (tmp_path / "into").mkdir()
    with pytest.raises(NotFound):
        store.download("absent", tmp_path / "into" / "file")
    assert list((tmp_path / "into").iterdir()) == []


def test_a_download_replaces_what_stood_there(store: Store, tmp_path: Path) -> None:
    store.put("a", b"new")
    (tmp_path / "file").write_bytes(b"old and longer")
    store.download("a", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", "../a", "a/../../b", "a/./b", ".hidden", "a\0b", "a b", "ä", "a\\b", "x" * 201]
)
def test_a_key_that_layout_would_never_make_is_refused(store: Store, key: str) -> None:
    with pytest.raises(ValueError, match="is not a key"):
        store.put(key, b"x")
    with pytest.raises(ValueError, match="is not a key"):
        store.put_new(key, b"x")
    with pytest.raises(ValueError, match="is not a key"):
        store.delete(key)
    assert list(store.list("")) == []


def test_the_keys_of_adapters_are_keys() -> None:
    assert check_key("units/train/00ff/attempts/1/checkpoint-000005000/adapter_model.safetensors")


def test_a_store_with_conditional_writes_passes_the_probe_and_is_left_as_it_was(store: Store) -> None:
    store.probe()
    assert list(store.list("")) == []


@pytest.mark.parametrize(
    "url", ["", "store", "/a/b", "file://a/b", "file:a", "s3:///key", "s3:bucket", "http://a/b", "s3://a/b?x"]
)
def test_a_url_that_is_not_a_store_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is not a store"):
        open_store(url)


def test_a_stores_url_opens_the_same_store(store: Store) -> None:
    store.put("a", b"x")
    assert open_store(store.url).get("a") == b"x"
