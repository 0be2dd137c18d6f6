"""Data sets in common file formats, and messages about files in other formats."""

import gzip
import http.server
import json
import ssl
import threading
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import trustme
import zstandard
from pyarrow import feather, parquet

from tests.train.world import END_OF_TEXT, inputs, sums, write_rows, write_tokenizer
from workloads.api.model import sha256_of
from workloads.api.tasks import FileSource
from workloads.api.units import Columns, MixturePart
from workloads.data.end_token import EndToken
from workloads.data.files import BadData
from workloads.data.mixture import allocate, interleave
from workloads.data.rows import DataPart, DataRow, Places, iter_rows, read_rows
from workloads.data.samples import prepare, training_rows
from workloads.data.sources import HubDataset, data_sha256, fetch_data, is_here, localise_data, location_sha256
from workloads.storage.base import StoreError
from workloads.storage.content_digest import ContentError, file_sha256
from workloads.text.tokenizer import TextTokenizer, load_tokenizer

ROWS = [{"prompt": "1+1?", "response": "zwei, 2\n"}, {"prompt": "é", "response": 'a "quote"'}]
EXPECTED = [("1+1?", "zwei, 2\n"), ("é", 'a "quote"')]
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
CSV = 'prompt,response\n1+1?,"zwei, 2\n"\né,"a ""quote"""\n'.encode()
END = EndToken(END_OF_TEXT, "<|endoftext|>", "test")


def zipped(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


FILES: dict[str, bytes] = {
    "d.jsonl": JSONL,
    "d.jsonl.gz": gzip.compress(JSONL),
    "two.jsonl.gz": gzip.compress(JSONL[:54]) + gzip.compress(JSONL[54:]),
    "d.jsonl.zst": zipped(JSONL),
    "two.jsonl.zst": zipped(JSONL[:54]) + zipped(JSONL[54:]),
    "d.json": json.dumps(ROWS, indent=2).encode(),
    "marked.json": b"\xef\xbb\xbf" + json.dumps(ROWS).encode(),
    "d.json.gz": gzip.compress(json.dumps(ROWS).encode()),
    "named-wrongly.jsonl": json.dumps(ROWS).encode(),
    "d.csv": CSV,
    "d.tsv": b"prompt\tresponse\n1+1?\t\"zwei, 2\n\"\n\xc3\xa9\t\"a \"\"quote\"\"\"\n",
    "d.csv.zst": zipped(b"\xef\xbb\xbf" + CSV),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_any_usual_kind_has_the_same_rows(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    rows = read_rows(tmp_path / name, Columns())
    assert [(row.prompt, row.response) for row in rows] == EXPECTED


WRONG: dict[str, tuple[str, bytes, str]] = {
    "a cut gzip": ("d.jsonl.gz", gzip.compress(JSONL)[:-12], "its compression is broken, or the file is cut short"),
    "a cut zstd": ("d.jsonl.zst", zipped(JSONL)[:6] + b"xxxx", "its compression is broken"),
    "a zip": ("d.jsonl", b"PK\x03\x04rest", "this is a zip archive: unpack it"),
    "a pickle": ("d.jsonl", b"\x80\x04rest", "a pickle, which is never opened"),
    "CSV with a wrong name": ("d.jsonl", CSV, "its name must end with .csv or .tsv"),
    "an array that is cut": ("d.json", json.dumps(ROWS).encode()[:-1], "after row 2 of the JSON array"),
    "an array with a wrong row": ("d.json", b'[{"prompt": 1}]', "line 1: no column 'response'"),
    "an array with text after it": ("d.json", b"[] x", "something after the end"),
    "an empty array": ("d.json", b"[ ]", "holds no rows"),
    "an array with a deep row": ("d.json", b"[" * 100_000, "row 1 of the JSON array is nested too deep"),
    "a CSV with a cell too many": ("d.csv", b"prompt,response\na,b\na,b,c\n", "line 3: the row has 3 cells, and the header 2"),
    "a CSV with a cell too few": ("d.csv", b"prompt,response\na\n", "line 2: the row has 1 cell, and the header 2"),
    "a CSV with a column twice": ("d.csv", b"prompt,prompt\na,b\n", "column 'prompt' is repeated"),
    "a CSV that is not UTF-8": ("d.csv", b"prompt,response\n\xff,b\n", "not UTF-8"),
    "a CSV with an open quote": ("d.csv", b'prompt,response\n"a,b\n', "not CSV"),
    "nothing": ("d.jsonl", b"", "holds no rows"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_is_none_is_refused_by_what_it_is(tmp_path: Path, name: str) -> None:
    file, data, message = WRONG[name]
    (tmp_path / file).write_bytes(data)
    with pytest.raises(BadData) as caught:
        read_rows(tmp_path / file, Columns())
    assert message in str(caught.value)
    assert file in str(caught.value)


def test_arrow_and_parquet_with_a_column_twice_are_refused_by_name(tmp_path: Path) -> None:
    feather.write_feather(
        pyarrow.table({"prompt": ["a"], "response": ["b"]}), tmp_path / "d.arrow", compression="uncompressed"
    )
    with pytest.raises(BadData, match=r"d\.arrow: this is an Arrow file .*to_parquet"):
        read_rows(tmp_path / "d.arrow", Columns())
    parquet.write_table(
        pyarrow.Table.from_arrays([pyarrow.array(["a"])] * 2, ["prompt", "prompt"]), tmp_path / "d.parquet"
    )
    with pytest.raises(BadData, match=r"d\.parquet: column 'prompt' is repeated"):
        read_rows(tmp_path / "d.parquet", Columns())


def shards(directory: Path) -> Path:
    (directory / "more").mkdir(parents=True)
    (directory / "a.jsonl").write_bytes(JSONL)
    parquet.write_table(
        pyarrow.table({"prompt": ["p"], "response": ["r"], "id": [1]}), directory / "more" / "b.parquet"
    )
    (directory / "README.md").write_text("no data")
    (directory / "dataset_info.json").write_text("{}")
    return directory


def test_a_directory_is_one_data_set_whose_errors_name_the_file(tmp_path: Path) -> None:
    path = shards(tmp_path / "set")
    places = Places.none()
    rows = [row for _, row in iter_rows([DataPart(path)], places)]
    assert rows[2] == DataRow(3, "p", "r")
    assert (places(2), places(3)) == ("a.jsonl line 2", "more/b.parquet line 1")
    assert places.unread == ["id"]
    before = data_sha256(path)
    (path / "README.md").write_text("other")
    assert data_sha256(path) == before
    (path / "z.jsonl").write_text('{"prompt": "x"}')
    assert data_sha256(path) != before
    with pytest.raises(BadData, match=r"z\.jsonl: line 1: no column 'response'"):
        read_rows(path, Columns())
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadData, match="holds no data file"):
        read_rows(tmp_path / "empty", Columns())


def test_a_file_comes_over_https_once_and_must_have_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    served = tmp_path / "https"
    served.mkdir()
    (served / "d.jsonl").write_bytes(JSONL)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(served))

        def log_message(self, *_: object) -> None: ...

    own = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    own.socket = context.wrap_socket(own.socket, server_side=True)
    threading.Thread(target=own.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    bundle = tmp_path / "ca.pem"
    bundle.write_bytes(authority.cert_pem.bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("POTSTILL_CA_BUNDLE", raising=False)
    for proxy in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
    url = f"https://127.0.0.1:{own.server_address[1]}/d.jsonl"
    source = FileSource(location=url, sha256=sha256_of(JSONL))
    try:
        assert not is_here(source)
        assert read_rows(fetch_data(source), Columns())[1].prompt == "é"
        assert is_here(source)
        with pytest.raises(ContentError, match="its SHA-256 is"):
            fetch_data(FileSource(location=url, sha256="0" * 64))
        with pytest.raises(ContentError, match="answers 404"):
            localise_data(FileSource(location=url + "x", sha256="1" * 64), tmp_path)
    finally:
        own.shutdown()
        own.server_close()
    assert fetch_data(source).read_bytes() == JSONL, "it is kept"
    with pytest.raises(StoreError, match="refused"):
        localise_data(FileSource(location=url, sha256="2" * 64), tmp_path)


def test_a_data_set_of_the_hub_needs_a_commit() -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert HubDataset.parse(f"hf://datasets/lab/sums@{commit}/data/train.parquet") == HubDataset(
        "lab/sums", commit, "data/train.parquet"
    )
    for wrong, message in {
        "hf://datasets/lab/sums": "write hf://datasets/OWNER/NAME@REVISION/PATH",
        "hf://datasets/lab/sums@main/train.parquet": "main is not a commit of 40 hex digits",
        f"hf://datasets/lab/sums@{commit}/../x": "the path leaves the data set",
    }.items():
        with pytest.raises(ContentError, match=message):
            HubDataset.parse(wrong)


def test_a_data_set_of_the_hubs_cache_is_read_by_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "datasets--lab--sums" / "snapshots" / commit
    shards(snapshot / "data")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    location = f"hf://datasets/lab/sums@{commit}/data"
    found = localise_data(FileSource(location=location, sha256=location_sha256(location)), tmp_path)
    assert len(read_rows(found, Columns())) == 3
    with pytest.raises(ContentError, match="its SHA-256 is"):
        localise_data(FileSource(location=location, sha256="0" * 64), tmp_path)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    return load_tokenizer(write_tokenizer(tmp_path_factory.mktemp("tokenizer")))


def test_weights_are_shares_of_the_samples() -> None:
    assert allocate(10, [3, 1]) == [8, 2]
    assert allocate(7, [1, 1, 1]) == [3, 2, 2]
    assert sum(allocate(1000, [0.1, 0.7, 0.15])) == 1000
    assert interleave([[0, 1, 2, 3], [10, 11]]) == [0, 10, 1, 2, 11, 3]


def test_a_mixture_takes_its_share_of_each_part_evenly_spread(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    base = write_tokenizer(tmp_path / "base")
    (base / "model.safetensors").write_bytes(b"")
    one = write_rows(tmp_path / "one.jsonl", sums(40))
    other = write_rows(tmp_path / "other.jsonl", [{"q": row["prompt"], "a": row["response"]} for row in sums(20, 100)])
    parts = (
        MixturePart(data_content=file_sha256(one), columns=Columns(), weight=3),
        MixturePart(data_content=file_sha256(other), columns=Columns(prompt="q", response="a"), weight=1),
    )
    stated = inputs(base, one, mixture=parts, samples=40, checkpoints=())
    data = prepare([one, other], stated, tokenizer, END)
    of_first = [index < 40 for index in data.order]
    assert sum(of_first) == 30
    assert all(2 <= sum(of_first[start : start + 4]) <= 4 for start in range(0, 40, 4))
    assert data.places(int(data.rows.lines[45])) == "other.jsonl line 6"
    with pytest.raises(BadData, match=r"samples is 120 \(90 of them from one.jsonl\) but 40 rows are left"):
        prepare([one, other], inputs(base, one, mixture=parts, samples=120, checkpoints=()), tokenizer, END)


def test_rows_are_tokenised_once_and_then_mapped(
    tmp_path: Path, tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write_tokenizer(tmp_path / "base")
    (base / "model.safetensors").write_bytes(b"")
    path = write_rows(tmp_path / "rows.jsonl", sums(30))
    stated = inputs(base, path)
    first = prepare(path, stated, tokenizer, END, tmp_path / "cache")
    in_memory = prepare(path, stated, tokenizer, END)
    assert training_rows([path], stated, tokenizer, END, tmp_path / "cache") == 30
    path.unlink()
    again = prepare(
        path, inputs(base, write_rows(path, sums(30)), sequence_tokens=60), tokenizer, END, tmp_path / "cache"
    )
    assert [first.rows.ids(index) for index in range(30)] == [in_memory.rows.ids(index) for index in range(30)]
    assert again.rows.ids(3) == first.rows.ids(3)[:60]
    assert type(again.rows.tokens).__name__ == "memmap"
    (entry,) = [found for found in (tmp_path / "cache" / "tokens").iterdir() if found.is_dir()]
    with (entry / "tokens").open("r+b") as file:
        file.write(b"\xff")
    assert prepare(path, stated, tokenizer, END, tmp_path / "cache").rows.ids(0) == in_memory.rows.ids(0), (
        "a damaged file is made again"
    )
