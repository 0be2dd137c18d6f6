"""The S3 store when the network or the server fails: its retries, its treatment of lost answers, its messages."""

import hashlib
import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.storage import writers
from tests.storage.http_proxy import Answer, Do, HttpProxy, Seen
from tests.storage.writers import NAME, UNIT
from tests.tools.s3 import FaultProxy, S3Server
from workloads.storage.base import AlreadyExists, NotFound, Store, StoreError, open_store
from workloads.storage.markers import Corrupt, fetch, list_markers, read_file, read_marker, verify
from workloads.storage.s3.store import S3Store, connect

pytestmark = pytest.mark.s3

MIB = 1024 * 1024


def through(
    url: str, server: S3Server, prefix: str, deadline_seconds: float = 60.0, tries: int = 1, page_keys: int = 1000
) -> S3Store:
    """A store behind a proxy. It does not wait between its tries, so that the tests are fast."""
    client = connect(url, tries)
    return S3Store(client, server.bucket, prefix, deadline_seconds, pause=lambda _: None, page_keys=page_keys)


@pytest.fixture
def direct(server: S3Server, tmp_path: Path) -> Store:
    """The same keys as `through(..., tmp_path.name)`, without a proxy."""
    return open_store(f"s3://{server.bucket}/{tmp_path.name}")


@pytest.fixture
def flaky(server: S3Server, requests: HttpProxy, tmp_path: Path) -> Store:
    return through(requests.url, server, tmp_path.name)


def first_of(*rules: Do | Answer, where: Callable[[Seen], bool] = lambda _: True) -> Callable[[Seen], Do | Answer]:
    """The n-th matching request gets the n-th rule; the rest are forwarded."""
    left = list(rules)
    return lambda seen: left.pop(0) if left and where(seen) else Do.FORWARD


PASSING = [
    pytest.param(Answer(500, "InternalError"), id="500"),
    pytest.param(Answer(502, ""), id="502"),
    pytest.param(Answer(503, "SlowDown"), id="503"),
    pytest.param(Answer(429, "TooManyRequests"), id="429"),
    pytest.param(Answer(409, "ConditionalRequestConflict"), id="409"),
    pytest.param(Do.LOSE, id="reset"),
    pytest.param(Do.LOSE_ANSWER, id="answer lost"),
    pytest.param(Answer(200, "", page=""), id="200 and nothing"),
    pytest.param(Answer(200, "", page="<html><body>Welcome</body></html>"), id="200 and a web page"),
]


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.slow
def test_every_operation_outlasts_what_passes(
    requests: HttpProxy, flaky: Store, direct: Store, tmp_path: Path, fault: Do | Answer
) -> None:
    def under_fault(call: Callable[[], object]) -> object:
        requests.rule = first_of(fault, fault, fault, fault)
        return call()

    file = tmp_path / "file"
    file.write_bytes(b"content")
    under_fault(lambda: flaky.put("put", b"1"))
    under_fault(lambda: flaky.put_new("new", b"2"))
    etag = under_fault(lambda: flaky.put_if("if", b"3", None))
    under_fault(lambda: flaky.put_if("if", b"4", str(etag)))
    under_fault(lambda: flaky.upload("file", file, hashlib.sha256(b"content").hexdigest()))
    assert {info.key: direct.get(info.key) for info in direct.list("")} == {
        "file": b"content",
        "if": b"4",
        "new": b"2",
        "put": b"1",
    }
    assert under_fault(lambda: flaky.get("if")) == b"4"
    assert under_fault(lambda: flaky.head("if")) == direct.head("if")
    assert under_fault(lambda: flaky.head("absent")) is None
    assert under_fault(lambda: list(flaky.list(""))) == list(direct.list(""))
    under_fault(lambda: flaky.download("file", tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == b"content"
    under_fault(lambda: flaky.delete("put"))
    assert direct.head("put") is None


def test_a_new_key_whose_answer_was_lost_was_written_by_us(requests: HttpProxy, flaky: Store) -> None:
    requests.rule = first_of(Do.LOSE_ANSWER)
    flaky.put_new("marker", b"ours")
    puts = [seen for seen in requests.seen if seen.method == "PUT"]
    assert len(puts) == 2, "the first landed unheard, the second was refused, and what stood was read"
    assert requests.seen[-1].method == "GET"


def test_a_new_key_whose_answer_was_lost_after_another_won_is_lost(
    requests: HttpProxy, flaky: Store, direct: Store
) -> None:
    def another_wins(_: Seen) -> Do:
        requests.rule = lambda _: Do.FORWARD
        direct.put_new("marker", b"theirs")
        return Do.LOSE

    requests.rule = another_wins
    with pytest.raises(AlreadyExists, match="marker exists already, with other content"):
        flaky.put_new("marker", b"ours")
    assert direct.get("marker") == b"theirs"


def test_an_answer_cut_in_its_middle_is_read_again(requests: HttpProxy, flaky: Store, tmp_path: Path) -> None:
    data = os.urandom(300_000)
    flaky.put("data", data)
    requests.rule = first_of(Do.CUT_ANSWER, where=lambda seen: seen.method == "GET")
    assert flaky.get("data") == data
    requests.rule = first_of(Do.CUT_ANSWER, where=lambda seen: seen.method == "GET")
    flaky.download("data", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(403, "AccessDenied"), r"do not allow it: grant s3:GetObject"),
        (Answer(403, "InvalidAccessKeyId"), r"check AWS_ACCESS_KEY_ID"),
        (Answer(403, "SignatureDoesNotMatch"), r"check AWS_SECRET_ACCESS_KEY"),
        (Answer(404, "NoSuchBucket"), r"no such bucket: check the store's URL"),
        (Answer(404, ""), r"HTTP 404"),
        (Answer(501, "NotImplemented"), r"Potstill needs conditional writes"),
        (Answer(400, "ExpiredToken"), r"have expired: renew them"),
    ],
)
def test_a_refusal_is_unknown_never_absent_and_names_the_key(
    requests: HttpProxy, flaky: Store, server: S3Server, answer: Answer, words: str
) -> None:
    requests.rule = lambda _: answer
    for ask in (lambda: flaky.get("a/b"), lambda: list(flaky.list("a/b")), lambda: flaky.put_new("a/b", b"x")):
        with pytest.raises(StoreError, match=words) as raised:
            ask()
        assert type(raised.value) is StoreError
        assert f"s3://{server.bucket}/" in str(raised.value)
        assert "a/b" in str(raised.value)
    with pytest.raises(StoreError) as raised:
        flaky.head("a/b")
    assert type(raised.value) is StoreError


def test_a_wrong_bucket_is_unknown(server: S3Server) -> None:
    store = open_store("s3://no-such-bucket/prefix")
    for ask in (
        lambda: store.get("a"),
        lambda: store.head("a"),
        lambda: list(store.list("")),
        lambda: store.put("a", b""),
    ):
        with pytest.raises(StoreError, match="There is no such bucket") as raised:
            ask()
        assert type(raised.value) is StoreError


def test_a_server_that_stays_away_is_unknown_after_the_deadline(server: S3Server, faults: FaultProxy) -> None:
    faults.cut()
    store = through(faults.url, server, "away", deadline_seconds=0.3)
    with pytest.raises(
        StoreError, match=r"s3://lab/away/a: cannot read it, tried for 0\.3 s.*Is the server up"
    ) as raised:
        store.get("a")
    assert type(raised.value) is StoreError


def test_a_list_that_fails_on_its_second_page_is_not_a_short_list(
    requests: HttpProxy, server: S3Server, tmp_path: Path, direct: Store
) -> None:
    for number in range(3):
        direct.put(f"a/{number}", b"x")
    store = through(requests.url, server, tmp_path.name, deadline_seconds=0.3, page_keys=2)
    requests.rule = lambda seen: Answer(500, "InternalError") if "start-after=&" not in seen.path + "&" else Do.FORWARD
    with pytest.raises(StoreError, match="cannot list"):
        list(store.list("a/"))


def test_a_write_whose_body_came_too_slowly_is_sent_again(requests: HttpProxy, flaky: Store, direct: Store) -> None:
    requests.rule = first_of(Answer(400, "RequestTimeout"), Answer(400, "IncompleteBody"))
    flaky.put_new("a", b"x")
    assert direct.get("a") == b"x"


@pytest.mark.parametrize("condition", ["If-None-Match", "If-Match"])
def test_a_server_that_ignores_conditions_is_refused(server: S3Server, tmp_path: Path, condition: str) -> None:
    client = connect(server.endpoint)
    # A header that is never sent is one that the server ignores.
    client.meta.events.register("before-sign.s3.PutObject", lambda request, **_: request.headers.__delitem__(condition))
    store = S3Store(client, server.bucket, tmp_path.name, 60.0)
    with pytest.raises(StoreError, match=f"took a write to .* whose {condition} did not hold"):
        store.probe()
    assert list(store.list("")) == []


def big_file(folder: Path, size: int = 40 * MIB) -> tuple[Path, str]:
    path = folder / "big"
    path.write_bytes(os.urandom(MIB) * (size // MIB))
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("fault", [Do.LOSE, Do.LOSE_ANSWER, Answer(500, "InternalError"), Answer(503, "SlowDown")])
@pytest.mark.parametrize("tries", [1, 3])
@pytest.mark.slow
def test_a_multipart_upload_outlasts_faults_in_its_parts(
    requests: HttpProxy, server: S3Server, direct: Store, tmp_path: Path, fault: Do | Answer, tries: int
) -> None:
    flaky = through(requests.url, server, tmp_path.name, tries=tries)
    path, sha256 = big_file(tmp_path)
    requests.rule = first_of(*[fault] * 4, where=lambda seen: "partNumber" in seen.path)
    flaky.upload("big", path, sha256)
    direct.download("big", tmp_path / "back")
    assert hashlib.sha256((tmp_path / "back").read_bytes()).hexdigest() == sha256


def test_a_multipart_upload_whose_completion_went_unheard_is_complete(
    requests: HttpProxy, flaky: Store, tmp_path: Path
) -> None:
    path, sha256 = big_file(tmp_path)
    requests.rule = lambda seen: Do.LOSE_ANSWER if seen.method == "POST" and "uploadId" in seen.path else Do.FORWARD
    flaky.upload("big", path, sha256)
    assert sum("partNumber" in seen.path for seen in requests.seen) == 3, "nothing was sent twice"


def test_an_upload_is_cut_in_its_middle_and_continues(
    server: S3Server, faults: FaultProxy, direct: Store, tmp_path: Path
) -> None:
    path, sha256 = big_file(tmp_path)
    faults.add("limit_data", "upstream", bytes=10 * MIB)
    healed = threading.Event()

    def heal(_: float) -> None:
        if not healed.is_set():
            assert direct.head("big") is None, "half an upload is not to be seen"
            faults.heal()
            healed.set()

    store = S3Store(connect(faults.url), server.bucket, tmp_path.name, 60.0, pause=heal)
    store.upload("big", path, sha256)
    assert healed.is_set()
    direct.download("big", tmp_path / "back")
    assert hashlib.sha256((tmp_path / "back").read_bytes()).hexdigest() == sha256


def test_connections_that_are_reset_again_and_again(server: S3Server, faults: FaultProxy, tmp_path: Path) -> None:
    faults.add("reset_peer", toxicity=0.4, timeout=0)
    store = through(faults.url, server, tmp_path.name)
    for number in range(20):
        store.put_new(f"key/{number:02d}", b"%d" % number)
    assert [store.get(info.key) for info in store.list("key/")] == [b"%d" % number for number in range(20)]


@pytest.mark.slow
def test_a_slow_server_is_waited_for(server: S3Server, faults: FaultProxy, tmp_path: Path) -> None:
    faults.add("latency", latency=300, jitter=100)
    faults.add("bandwidth", "upstream", rate=500)
    store = through(faults.url, server, tmp_path.name)
    file = tmp_path / "file"
    file.write_bytes(os.urandom(600_000))
    store.upload("file", file, hashlib.sha256(file.read_bytes()).hexdigest())
    assert store.get("file") == file.read_bytes()


@pytest.mark.parametrize("corrupted", ["smaller", "same size"])
def test_damaged_data_is_detected(
    requests: HttpProxy, flaky: Store, direct: Store, tmp_path: Path, corrupted: str
) -> None:
    """The data is damaged like by a server or a disk after the acknowledgement."""
    path = tmp_path / "file"
    path.write_bytes(b"as it was sent")

    def damage(seen: Seen) -> Do:
        if seen.method == "HEAD":
            direct.put("file", b"as it was s" if corrupted == "smaller" else b"as it was SENT")
        return Do.FORWARD

    requests.rule = damage
    with pytest.raises(StoreError, match="what arrived is not what was sent"):
        flaky.upload("file", path, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.mark.slow
def test_commits_through_a_bad_network_are_whole(server: S3Server, faults: FaultProxy, tmp_path: Path) -> None:
    faults.add("reset_peer", toxicity=0.3, timeout=0)
    faults.add("limit_data", "upstream", toxicity=0.2, bytes=20_000)
    store = through(faults.url, server, tmp_path.name)
    assert writers.commit(store, 1) == "attempt 1"
    assert writers.commit(store, 2) == "superseded"
    faults.heal()
    [marker] = list_markers(store, UNIT)
    assert (marker.name, marker.attempt, verify(store, marker, deep=True)) == (NAME, 1, [])


def test_missing_credentials_are_named(server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(StoreError, match="Give credentials by the AWS chain"):
        open_store("s3://lab/x").get("a")


def test_a_key_is_not_found_only_where_the_server_says_so(flaky: Store) -> None:
    with pytest.raises(NotFound, match="a/b does not exist"):
        flaky.get("a/b")


@pytest.mark.parametrize("page", ["", "<html><body>Welcome</body></html>"])
def test_an_answer_without_the_fields_of_s3_is_unknown_never_an_empty_bucket(
    requests: HttpProxy, server: S3Server, direct: Store, tmp_path: Path, page: str
) -> None:
    direct.put("a", b"x")
    store = through(requests.url, server, tmp_path.name, deadline_seconds=0.2)
    requests.rule = lambda _: Answer(200, "", page=page)
    (tmp_path / "file").write_bytes(b"x")
    sha256 = hashlib.sha256(b"x").hexdigest()
    asks: list[Callable[[], object]] = [
        lambda: list(store.list("")),
        lambda: store.get("a"),
        lambda: store.head("a"),
        lambda: store.put("a", b"y"),
        lambda: store.put_new("b", b"y"),
        lambda: store.put_if("a", b"y", "etag"),
        lambda: store.upload("c", tmp_path / "file", sha256),
        lambda: store.download("a", tmp_path / "back"),
    ]
    for ask in asks:
        with pytest.raises(StoreError) as raised:
            ask()
        assert type(raised.value) is StoreError
    assert {info.key: direct.get(info.key) for info in direct.list("")} == {"a": b"x"}
    assert not (tmp_path / "back").exists()


def is_get_of(name: str, seen: Seen) -> bool:
    return seen.method == "GET" and name in seen.path


@pytest.mark.parametrize("flips", [1, 2])
def test_one_damaged_answer_is_read_again_before_a_file_is_reported_as_damaged(
    requests: HttpProxy, flaky: Store, direct: Store, tmp_path: Path, flips: int
) -> None:
    assert writers.commit(direct, 1) == "attempt 1"
    marker = read_marker(direct, UNIT, NAME)
    assert marker is not None
    name = marker.files[0].name
    reads: list[Callable[[], object]] = [
        lambda: read_marker(flaky, UNIT, NAME),
        lambda: list_markers(flaky, UNIT),
        lambda: read_file(flaky, marker, name),
        lambda: fetch(flaky, marker, [name], tmp_path / "into"),
    ]
    for read in reads:
        where = "markers/" if read in reads[:2] else name
        requests.rule = first_of(*[Do.FLIP] * flips, where=partial(is_get_of, where))
        if flips == 1:
            read()
        else:
            with pytest.raises(Corrupt):
                read()
