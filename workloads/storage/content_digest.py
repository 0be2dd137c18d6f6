"""Digests of files and weights, and checked copies of them on the program's machine.

A location is a path, file://, a key in a store (s3://bucket/key), hub://name@revision (weights), or builtin:<name>
(benchmarks). Hashes of large files are cached by path, inode, size and time under `cache_folder()`/hashes.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from workloads.api.model import canonical_json, sha256_of
from workloads.api.tasks import FileSource, ModelSource
from workloads.storage.base import NotFound, Store, StoreError, open_store
from workloads.storage.certificates import BadBundle, certificate_advice, trust_ca_bundle
from workloads.storage.registry import is_in_store, remote_schemes

COUNTED = (".safetensors", ".json", ".model", ".txt", ".jinja", ".tiktoken")
"""Suffixes of the files that a directory's digest covers: weights, configuration, tokenizer."""
HUB_TRANSPORTS = ("httpx", "httpx2", "requests")
"""HTTP libraries that huggingface_hub uses, by its version; it does not wrap their errors."""
REMEMBERED_BYTES = 1024 * 1024
BUILTIN_PREFIX = "builtin:"
"""The prefix of a benchmark of the registry, in a file's location."""


class ContentError(Exception):
    """An input has changed since the experiment was accepted, or does not exist.

    The message says where, and what to do.
    """


def cache_folder() -> Path:
    """Returns POTSTILL_CACHE, else ~/.cache/potstill."""
    return Path(os.environ.get("POTSTILL_CACHE") or Path.home() / ".cache" / "potstill")


def weights_folder() -> Path | None:
    """Returns POTSTILL_WEIGHTS: a volume with bases that `workloads.prefetch` downloaded, if this machine has one."""
    stated = os.environ.get("POTSTILL_WEIGHTS")
    return Path(stated) if stated else None


def weights_name(content: str) -> str:
    """Returns the folder of a base on that volume, by its content: sha256-<64 hex>, or
    hub-<owner>--<name>-<revision>.
    """
    return content.replace("/", "--").translate(str.maketrans(":@", "--"))


def hash_file(path: Path) -> str:
    """Returns the SHA-256 of the file's current content, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_sha256(path: Path) -> str:
    """Returns the SHA-256, 64 hex digits.

    It is cached for a large file that has not been written to since (nor just now).
    """
    status = path.stat()
    settled = time.time() - status.st_mtime > 2
    if status.st_size < REMEMBERED_BYTES or not settled:
        return hash_file(path)
    version = f"{path.resolve()}\0{status.st_ino}\0{status.st_size}\0{status.st_mtime_ns}"
    memory = cache_folder() / "hashes" / sha256_of(version.encode())
    with contextlib.suppress(OSError):
        return memory.read_text()
    found = hash_file(path)
    with contextlib.suppress(OSError):  # a read-only machine computes the hash again
        memory.parent.mkdir(parents=True, exist_ok=True)
        unfinished = memory.with_suffix(f".{uuid.uuid4().hex}")
        unfinished.write_text(found)
        unfinished.replace(memory)
    return found


def directory_content(path: Path) -> str:
    """Returns `sha256:<64 hex>` of a model's or adapter's directory: names and SHA-256 of its files with suffixes
    COUNTED.

    The directory's location has no effect; subdirectories and hidden files do not count. Raises ContentError if it is
    not a directory or has no .safetensors file.
    """
    if not path.is_dir():
        raise ContentError(f"{path} is not a directory: a model is a directory in Hugging Face's layout")
    files = sorted(file for file in path.iterdir() if is_counted(file.name) and file.is_file())
    with ThreadPoolExecutor(max_workers=4) as pool:
        sums = dict(zip([file.name for file in files], pool.map(file_sha256, files), strict=True))
    return content_of_sums(str(path), sums)


def is_counted(name: str) -> bool:
    return name.endswith(COUNTED) and not name.startswith(".")


def content_of_sums(place: str, sums: dict[str, str]) -> str:
    """Returns `directory_content` from files' names and SHA-256. `place` is for the error."""
    if not any(name.endswith(".safetensors") for name in sums):
        raise ContentError(f"{place} holds no .safetensors file; weights in other formats (.bin, .pt) are not read")
    return f"sha256:{sha256_of(canonical_json(sorted(sums.items())))}"


def localise_model(source: ModelSource) -> Path:
    """Returns a directory on this machine with the content of `source`, checked.

    Bases on the weights volume were checked when they were downloaded. Otherwise hub:// uses huggingface_hub's cache,
    and models of a store are cached in `cache_folder()`/models. Raises ContentError (it changed, or does not exist),
    StoreError (it could not be reached).
    """
    if (prefetched := _prefetched(source)) is not None:
        return prefetched
    if urlsplit(source.location).scheme == "hub":
        return _from_hub(source)
    if is_in_store(source.location):
        return _from_bucket(source)
    path = _path(source.location)
    _require(source.location, directory_content(path), source.content)
    return path


def _prefetched(source: ModelSource) -> Path | None:
    volume = weights_folder()
    found = volume / weights_name(source.content) if volume is not None else None
    return found if found is not None and found.is_dir() else None


def localise_model_file(source: ModelSource, name: str, into: Path) -> Path:
    """Returns one file of a model (config.json), without the weights and unchecked. Raises like `localise_model`."""
    if (prefetched := _prefetched(source)) is not None:
        return prefetched / name
    if urlsplit(source.location).scheme == "hub":
        return _from_hub(source, (name,)) / name
    if is_in_store(source.location):
        return _download(f"{source.location.rstrip('/')}/{name}", into / name)
    path = _path(source.location) / name
    if not path.is_file():
        raise ContentError(f"{path} does not exist")
    return path


def localise_file(source: FileSource, into: Path) -> Path:
    """Returns a file on this machine with the content of `source`, checked by its SHA-256; downloads it to `into` if
    necessary.

    Raises ContentError (it changed, or does not exist), StoreError (it could not be reached).
    """
    if source.location.startswith(BUILTIN_PREFIX):
        path = _benchmark(source.location)
    elif is_in_store(source.location):
        name = PurePosixPath(source.location).name
        path = _download(source.location, into / f"{source.sha256[:16]}-{name}")
    else:
        path = _path(source.location)
        if not path.is_file():
            raise ContentError(f"{path} does not exist")
    _require(source.location, file_sha256(path), source.sha256)
    return path


def _benchmark(location: str) -> Path:
    """Returns the file of a benchmark of the registry; downloads it if necessary."""
    from workloads.benchmarks.model import BenchmarkError
    from workloads.benchmarks.registry import benchmark_path

    try:
        return benchmark_path(location)
    except BenchmarkError as error:
        raise ContentError(str(error)) from error


def split_location(location: str) -> tuple[str, str]:
    """Splits the location of a key in a store, such as s3://bucket/key, into (URL of the bucket's store, key).

    Raises ContentError.
    """
    parts = urlsplit(location)
    if not parts.netloc:
        raise ContentError(f"{location} names no bucket: write {parts.scheme}://bucket/key")
    return f"{parts.scheme}://{parts.netloc}", parts.path.lstrip("/")


def _path(location: str) -> Path:
    parts = urlsplit(location)
    if parts.scheme not in ("", "file"):
        raise ContentError(
            f"{location}: {parts.scheme}:// is not known here; use a path, {', '.join(remote_schemes())} or (weights) "
            "hub://"
        )
    return Path(unquote(parts.path)) if parts.scheme else Path(location)


def _require(location: str, found: str, accepted: str) -> None:
    if found != accepted:
        raise ContentError(
            f"{location} has changed since the experiment was accepted: it holds {found}, not {accepted}. "
            "Put the old content back, or submit the experiment again with the new one"
        )


def _download(location: str, path: Path) -> Path:
    bucket, key = split_location(location)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        open_store(bucket).download(key, path)
    except NotFound as error:
        raise ContentError(f"{location} does not exist") from error
    return path


def _from_bucket(source: ModelSource) -> Path:
    kept = cache_folder() / "models" / sha256_of(f"{source.location}\0{source.content}".encode())[:16]
    with locked(kept.with_suffix(".lock")):
        if kept.is_dir():
            with contextlib.suppress(ContentError):
                _require(source.location, directory_content(kept), source.content)
                return kept
        bucket, key = split_location(source.location.rstrip("/") + "/")
        arriving = kept.with_suffix(".arriving")
        shutil.rmtree(arriving, ignore_errors=True)
        arriving.mkdir()
        store = open_store(bucket)
        for name in model_names(store, key):
            store.download(key + name, arriving / name)
        _require(source.location, directory_content(arriving), source.content)
        shutil.rmtree(kept, ignore_errors=True)
        arriving.rename(kept)
    return kept


def model_names(store: Store, prefix: str) -> list[str]:
    """Returns the files directly under `prefix` ('' or 'a/b/') that a model's digest covers."""
    names = (info.key.removeprefix(prefix) for info in store.list(prefix))
    return [name for name in names if "/" not in name and is_counted(name)]


def _from_hub(source: ModelSource, patterns: tuple[str, ...] = ()) -> Path:
    from huggingface_hub import snapshot_download

    name, _, revision = source.location.removeprefix("hub://").partition("@")
    if source.content != f"hub:{name}@{revision}":
        raise ContentError(f"{source.location} is not {source.content}: name the model and its revision, 40 hex digits")
    wanted = list(patterns) or ["*" + suffix for suffix in COUNTED]
    with hub_errors(source.location):
        return Path(str(snapshot_download(name, revision=revision, allow_patterns=wanted)))


@contextmanager
def hub_errors(location: str) -> Iterator[None]:
    """Converts errors of a block that uses the hub, and trusts POTSTILL_CA_BUNDLE.

    Raises ContentError (no such model) or StoreError.
    """
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        trust_ca_bundle()
        yield
    except RepositoryNotFoundError as error:
        raise ContentError(f"{location}: the hub has no such model, or HF_TOKEN may not read it") from error
    except OfflineModeIsEnabled as error:
        raise StoreError(f"{location}: the hub is not asked (HF_HUB_OFFLINE)") from error
    except BadBundle as error:
        raise StoreError(f"{location}: {error}") from error
    except Exception as error:
        transport = type(error).__module__.partition(".")[0] in HUB_TRANSPORTS
        if not (transport or isinstance(error, LocalEntryNotFoundError | HfHubHTTPError)):
            raise
        if certificate := certificate_advice(error):
            raise StoreError(f"{location}: the hub cannot be reached. {certificate}") from error
        if isinstance(error, LocalEntryNotFoundError):
            message = f"{location}: the hub cannot be reached, and its cache lacks this revision"
            raise StoreError(message) from error
        raise StoreError(f"{location}: {error}") from error


@contextmanager
def locked(lock: Path, *, wait: bool = True) -> Iterator[None]:
    """Raises OSError if the system has no locks, and, without `wait`, if another process has the lock."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
