"""Downloads a base's weights once to the volume that trainings and evaluations read; checks them and renames the
folder.

POTSTILL_WEIGHTS=/weights python -m workloads.prefetch s3://bucket/base sha256:<64 hex>

Weights, configuration and tokenizer are copied file by file to a temporary folder, which no other program reads. Files
that an earlier run copied are reused. When all hash to the accepted digest, the folder is renamed to this digest, and
`contents.localise_model` finds it. A renamed folder is never changed.
"""

import hashlib
import logging
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from workloads.api.records import ExitCode
from workloads.api.tasks import ModelSource
from workloads.storage.base import StoreError, open_store
from workloads.storage.content_digest import (
    ContentError,
    directory_content,
    hash_file,
    hub_errors,
    is_counted,
    split_location,
    weights_folder,
    weights_name,
)

logger = logging.getLogger("potstill")


def prefetch(source: ModelSource, volume: Path) -> Path:
    """Returns the renamed folder.

    Raises ContentError (it does not exist, or is not the accepted one), StoreError, OSError (disk full).
    """
    sealed = volume / weights_name(source.content)
    if sealed.is_dir():
        logger.info("%s exists already", sealed)
        return sealed
    arriving = volume / f".{sealed.name}.arriving"
    arriving.mkdir(parents=True, exist_ok=True)
    if source.location.startswith("hub://"):
        _fetch_from_hub(source, arriving)
    else:
        _fetch_from_bucket(source, arriving)
    _seal(arriving, sealed)
    return sealed


def _fetch_from_bucket(source: ModelSource, arriving: Path) -> None:
    """Files of an earlier run are not trusted: if the digest of all differs, all files are copied again."""
    kept = _copy(source, arriving)
    found = directory_content(arriving)
    if found != source.content and kept:
        logger.warning("what an ended run had copied does not belong to %s: all files are copied again", source.content)
        shutil.rmtree(arriving)
        arriving.mkdir()
        _copy(source, arriving)
        found = directory_content(arriving)
    if found != source.content:
        raise ContentError(
            f"{source.location} holds {found}, not {source.content}, which the experiment states: "
            "put the right weights there, or state their content"
        )


def _copy(source: ModelSource, arriving: Path) -> int:
    """Returns how many files existed already, by name and size."""
    bucket, prefix = split_location(source.location.rstrip("/") + "/")
    store = open_store(bucket)
    sizes = {info.key.removeprefix(prefix): info.size for info in store.list(prefix)}
    names = [name for name in sizes if "/" not in name and is_counted(name)]
    _require_weights(source, names)
    for stale in {path.name for path in arriving.iterdir()} - set(names):
        (arriving / stale).unlink()
    kept = 0
    for number, name in enumerate(names, 1):
        path = arriving / name
        if path.is_file() and path.stat().st_size == sizes[name]:
            kept += 1
            continue
        logger.info("%d of %d: %s, %s bytes", number, len(names), name, f"{sizes[name]:,}")
        store.download(prefix + name, path)
    return kept


def _fetch_from_hub(source: ModelSource, arriving: Path) -> None:
    """Compares every file with its hash in the hub's commit: SHA-256 for a large file, else git's."""
    from huggingface_hub import HfApi, hf_hub_download

    name, _, revision = source.location.removeprefix("hub://").partition("@")
    with hub_errors(source.location):
        listed = HfApi().model_info(name, revision=revision, files_metadata=True).siblings or []
        wanted = [one for one in listed if "/" not in one.rfilename and is_counted(one.rfilename)]
        _require_weights(source, [one.rfilename for one in wanted])
        for number, one in enumerate(wanted, 1):
            logger.info("%d of %d: %s, %s bytes", number, len(wanted), one.rfilename, f"{one.size or 0:,}")
            path = Path(hf_hub_download(name, one.rfilename, revision=revision, local_dir=arriving))
            arrived = hash_file(path) == one.lfs.sha256 if one.lfs else _git_hash(path.read_bytes()) == one.blob_id
            if not arrived:
                path.unlink()
                raise StoreError(f"{source.location}: {one.rfilename} did not arrive as the hub has it")
    shutil.rmtree(arriving / ".cache", ignore_errors=True)


def _require_weights(source: ModelSource, names: Sequence[str]) -> None:
    if not any(name.endswith(".safetensors") for name in names):
        raise ContentError(f"{source.location} holds no .safetensors file; weights in other formats are not read")


def _git_hash(data: bytes) -> str:
    """Returns the name that `git hash-object` gives a file:
    https://git-scm.com/book/en/v2/Git-Internals-Git-Objects.
    """
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _seal(arriving: Path, sealed: Path) -> None:
    """Flushes the files to disk before the rename, so that a node failure cannot leave a renamed folder of empty
    files.
    """
    for path in [*arriving.iterdir(), arriving]:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    arriving.rename(sealed)


def main(arguments: Sequence[str]) -> int:
    logger.setLevel(logging.INFO)
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, _terminate)
    volume = weights_folder()
    if volume is None or len(arguments) != 2:
        logger.error("run it as POTSTILL_WEIGHTS=<folder> python -m workloads.prefetch <location> <content>")
        return int(ExitCode.BAD_CONFIGURATION)
    try:
        sealed = prefetch(ModelSource(location=arguments[0], content=arguments[1]), volume)
    except ContentError as error:
        logger.error("%s", error)
        return int(ExitCode.BAD_DATA)
    except StoreError as error:
        logger.error("%s", error)
        return int(ExitCode.STORE_UNAVAILABLE)
    logger.info("%s holds %s", sealed, arguments[1])
    return int(ExitCode.OK)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    sys.exit(int(ExitCode.TERMINATED))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
