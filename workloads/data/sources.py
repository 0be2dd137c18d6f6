"""Data sets by content, from any location: a path here, a key in a store, https://, or the Hugging Face hub."""

import os
import re
import shutil
import ssl
import uuid
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import certifi

from workloads.api.model import canonical_json, sha256_of
from workloads.api.tasks import FileSource
from workloads.data.files import data_files, is_data_file
from workloads.storage.base import NotFound, StoreError, open_store
from workloads.storage.certificates import BadBundle, certificate_advice, trust_ca_bundle
from workloads.storage.content_digest import (
    ContentError,
    cache_folder,
    file_sha256,
    hub_errors,
    localise_file,
    locked,
    split_location,
)
from workloads.storage.registry import is_in_store

HUB_PATTERN = re.compile(r"hf://datasets/(?P<name>[\w.-]+(?:/[\w.-]+)?)@(?P<revision>[^/]+)(?:/(?P<path>.+))?")
HTTP_SECONDS = 60.0
"""A download over https fails after this time without an answer."""
OTHER_SPLITS = ("test", "valid", "dev", "eval")


@dataclass(frozen=True)
class HubDataset:
    """hf://datasets/NAME@REVISION/PATH. `path`: a file or folder of the data set; empty: its training files."""

    name: str
    revision: str
    path: str

    @staticmethod
    def parse(uri: str) -> "HubDataset":
        """Raises ContentError, which says what is missing."""
        found = HUB_PATTERN.fullmatch(uri)
        if found is None:
            raise ContentError(
                f"{uri}: write hf://datasets/OWNER/NAME@REVISION/PATH, REVISION a commit of 40 hex digits"
            )
        if not re.fullmatch(r"[0-9a-f]{40}", found["revision"]):
            raise ContentError(
                f"{uri}: {found['revision']} is not a commit of 40 hex digits, and a branch or tag can move: take the "
                "commit from the data set's page"
            )
        path = (found["path"] or "").strip("/")
        if ".." in PurePosixPath(path).parts:
            raise ContentError(f"{uri}: the path leaves the data set")
        return HubDataset(found["name"], found["revision"], path)


def location_sha256(location: str) -> str:
    """Returns 64 hex digits that stand for the content of a location with a fixed revision on the hub."""
    return sha256_of(location.encode())


def data_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file; for a directory, that of the names and hashes of its data files.

    Raises BadData if it has none.
    """
    if path.is_file():
        return file_sha256(path)
    return sha256_of(canonical_json([[str(file.relative_to(path)), file_sha256(file)] for file in data_files(path)]))


def is_here(source: FileSource) -> bool:
    """Returns whether no download is needed."""
    return "://" not in source.location or kept_folder(source).is_dir()


def kept_folder(source: FileSource) -> Path:
    """Returns where `fetch_data` caches its downloads."""
    return cache_folder() / "data" / source.sha256[:32]


def localise_data(source: FileSource, into: Path) -> Path:
    """Returns a file or directory on this machine with the content of `source`, checked. Downloads it into the folder
    `into` if necessary.

    Raises ContentError (it changed, or does not exist), StoreError (it could not be reached) and BadData.
    """
    scheme = urlsplit(source.location).scheme if "://" in source.location else ""
    if scheme and kept_folder(source).is_dir():
        found = _only(kept_folder(source))
    elif scheme == "hf":
        found = _from_hub(source)
    elif scheme == "https":
        found = _from_https(source, into)
    elif is_in_store(source.location) and source.location.endswith("/"):
        found = _from_prefix(source, into)
    elif scheme or not Path(source.location).is_dir():
        return localise_file(source, into)
    else:
        found = Path(source.location)
    if source.sha256 != location_sha256(source.location):
        _require(source, data_sha256(found))
    return found


def fetch_data(source: FileSource) -> Path:
    """Like `localise_data`, but keeps downloads in the cache."""
    if is_here(source) or source.location.startswith("hf://"):  # the hub has a separate cache
        return localise_data(source, cache_folder())
    folder = kept_folder(source)
    with locked(folder.with_suffix(".lock")):
        if not folder.is_dir():
            arriving = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}.arriving")
            arriving.mkdir(parents=True)
            try:
                localise_data(source, arriving)
                arriving.rename(folder)
            finally:
                shutil.rmtree(arriving, ignore_errors=True)
    return _only(folder)


def _only(folder: Path) -> Path:
    (found,) = folder.iterdir()
    return found


def _require(source: FileSource, found: str) -> None:
    if found != source.sha256:
        raise ContentError(
            f"{source.location} holds other data than was stated: its SHA-256 is {found}, not {source.sha256}. "
            "Put the old content back, or state the new hash"
        )


def _from_prefix(source: FileSource, into: Path) -> Path:
    bucket, prefix = split_location(source.location)
    store = open_store(bucket)
    names = [info.key.removeprefix(prefix) for info in store.list(prefix)]
    names = [name for name in names if is_data_file(Path(name)) and ".." not in PurePosixPath(name).parts]
    if not names:
        raise ContentError(f"{source.location} holds no data file")
    folder = into / source.sha256[:16]
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            store.download(prefix + name, path)
        except NotFound as error:
            raise ContentError(f"{source.location}{name} does not exist") from error
    return folder


def _from_https(source: FileSource, into: Path) -> Path:
    name = PurePosixPath(urlsplit(source.location).path).name or "data"
    return download_https(source.location, into / f"{source.sha256[:16]}-{name}")


def download_https(location: str, path: Path) -> Path:
    """Follows redirects and HTTPS_PROXY; checks the certificate (POTSTILL_CA_BUNDLE too).

    Raises ContentError (the server refuses) and StoreError (it cannot be reached).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        trust_ca_bundle()
        context = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or certifi.where())
        with (
            urlopen(location, timeout=HTTP_SECONDS, context=context) as answer,  # noqa: S310
            path.open("wb") as file,
        ):
            shutil.copyfileobj(answer, file, 1 << 20)
    except HTTPError as error:
        is_final = 400 <= error.code < 500 and error.code not in (408, 429)
        raise (ContentError if is_final else StoreError)(
            f"{location}: the server answers {error.code} {error.reason}"
        ) from error
    except (OSError, HTTPException, BadBundle) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise StoreError(f"{location}: {certificate_advice(error) or reason}") from error
    return path


def _from_hub(source: FileSource) -> Path:
    from huggingface_hub import snapshot_download

    asked = HubDataset.parse(source.location)
    patterns = [asked.path, f"{asked.path}/*"] if asked.path else ["*"]
    with hub_errors(source.location):
        root = Path(
            str(snapshot_download(asked.name, repo_type="dataset", revision=asked.revision, allow_patterns=patterns))
        )
    found = root / asked.path
    if not found.exists():
        raise ContentError(f"{source.location}: the data set has no {asked.path} at this revision")
    if not asked.path:
        others = sorted(
            str(file.relative_to(root))
            for file in data_files(root)
            if any(split in file.name.lower() for split in OTHER_SPLITS)
        )
        if others:
            raise ContentError(
                f"{source.location} holds other parts than what is trained on ({', '.join(others[:5])}): add the path "
                "of the file or folder to train on"
            )
    return found
