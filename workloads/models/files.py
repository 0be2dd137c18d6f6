"""The small files of a base: configuration, tokenizer and chat template, without its weights."""

import socket
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from workloads.api.model import sha256_of
from workloads.api.tasks import ModelSource
from workloads.storage.base import StoreError
from workloads.storage.content_digest import (
    ContentError,
    cache_folder,
    hub_errors,
    localise_model_file,
    weights_folder,
    weights_name,
)
from workloads.storage.registry import is_in_store

SMALL_FILES = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "chat_template.jinja", "chat_template.json",
)  # fmt: skip

PROBE_SECONDS = 5.0
"""The time in which the hub must accept a connection, so that a machine without a network does not wait."""


def model_folder(base: ModelSource) -> Path:
    """Returns a folder with those of SMALL_FILES that the base has; downloads them if necessary (but looks in the hub's
    cache first).

    Raises ContentError (no such model, or it does not exist) and StoreError (it cannot be reached).
    """
    volume = weights_folder()
    if volume is not None and (found := volume / weights_name(base.content)).is_dir():
        return found
    if base.location.startswith("hub://"):
        return _from_hub(base)
    if is_in_store(base.location):
        return _from_bucket(base)
    folder = Path(base.location)
    if not folder.is_dir():
        raise ContentError(f"{folder} does not exist")
    return folder


def _from_hub(base: ModelSource) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    name, _, revision = base.location.removeprefix("hub://").partition("@")
    names = list(SMALL_FILES)
    try:
        cached = Path(str(snapshot_download(name, revision=revision, allow_patterns=names, local_files_only=True)))
        if (cached / "tokenizer.json").is_file() and (cached / "config.json").is_file():
            return cached
    except LocalEntryNotFoundError:
        pass
    if (reason := why_hub_unreachable()) is not None:
        raise StoreError(f"{base.location}: {reason}")
    with hub_errors(base.location):
        return Path(str(snapshot_download(name, revision=revision, allow_patterns=names)))


@lru_cache(maxsize=1)
def why_hub_unreachable() -> str | None:
    """Returns why the hub cannot be reached. None if it can, or if only its client can find out.

    It is checked once in a process, because the client would try for minutes.
    """
    from huggingface_hub import constants

    parts = urlsplit(constants.ENDPOINT)
    if constants.HF_HUB_OFFLINE:
        return "the hub is not asked (HF_HUB_OFFLINE)"
    if getproxies().get(parts.scheme):
        return None
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 443), timeout=PROBE_SECONDS):
            return None
    except OSError as error:
        return f"the hub {constants.ENDPOINT} cannot be reached: {error}"


def _from_bucket(base: ModelSource) -> Path:
    """The cache is by the weights' content, so a cached folder never changes."""
    folder = cache_folder() / "tokenizers" / sha256_of(f"{base.location}\0{base.content}".encode())[:32]
    for name in SMALL_FILES:
        if (folder / name).is_file() or (folder / f"{name}.absent").is_file():
            continue
        try:
            localise_model_file(base, name, folder)
        except ContentError:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.absent").touch()
    if not (folder / "tokenizer.json").is_file():
        raise ContentError(f"{base.location} has no tokenizer.json")
    return folder
