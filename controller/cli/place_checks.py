"""Checks of the places that a run reads and writes, for `potstill doctor`: disks, the store, the hub."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from rich.filesize import decimal

from controller.cli.checks import Check, advice, blocks, good
from controller.cli.common import whole_url
from workloads.storage.base import StoreError, open_store
from workloads.storage.content_digest import cache_folder

LITTLE_DISK_BYTES, FULL_DISK_BYTES = 20 * 10**9, 10**9
"""A base of 8 billion parameters takes 16 GB; the quickstart and its cache take less than 1 GB."""
STORE_SECONDS = "20"
HUB_SECONDS = 5.0
CONDITIONS_NEEDED = "use a store with conditional writes: a local directory, AWS S3, MinIO, Ceph Squid, versitygw"


def check_disks(store: str) -> Iterator[Check]:
    url = whole_url(store)
    places = {"cache": cache_folder(), "hub cache": _hub_cache()}
    if url.startswith("file:"):
        places["store"] = _path_of(url)
    for name, folder in places.items():
        yield _disk_check(f"disk of {name}", folder)


def _disk_check(name: str, folder: Path) -> Check:
    existing = nearest_existing(folder)
    free = shutil.disk_usage(existing).free
    finding = f"{decimal(free)} free on the disk of {folder}"
    if not os.access(existing, os.W_OK):
        todo = "change its permissions, or choose another folder with --store, POTSTILL_CACHE or HF_HOME"
        return blocks(name, f"{existing} cannot be written to", todo)
    if free < FULL_DISK_BYTES:
        return blocks(name, finding, "free some space: the quickstart and its cache need up to 1 GB")
    if free < LITTLE_DISK_BYTES:
        return advice(name, finding, "free some space if you need it: a base of 8 billion parameters takes 16 GB")
    return good(name, finding)


def check_store(store: str) -> Check:
    """Writes a test object, checks that conditional writes are refused if the condition is false, and deletes the
    object.

    A store directory that does not exist is not created: a temporary folder in its nearest existing parent is checked.
    """
    try:
        url = whole_url(store)
        if url.startswith("file:") and not _path_of(url).is_dir():
            with tempfile.TemporaryDirectory(
                dir=nearest_existing(_path_of(url)), prefix=".potstill-doctor-"
            ) as scratch:
                open_store(Path(scratch).as_uri()).probe()
            return good("store", f"{url}: conditional writes work there; the first run creates the directory")
        deadline = {"POTSTILL_STORE_DEADLINE_SECONDS": STORE_SECONDS}
        open_store(url, {**deadline, **os.environ}, make=False).probe()
    except ValueError as error:
        return blocks("store", str(error), "--store takes a directory or s3://bucket/prefix")
    except StoreError as error:
        refused = "check credentials, endpoint, bucket and permissions"
        todo = CONDITIONS_NEEDED if "did not hold" in str(error) else refused
        return blocks("store", str(error), todo)
    except OSError as error:
        return blocks("store", f"{store}: {error}", "choose a directory that you may write to")
    return good("store", f"{url}: conditional writes work")


def check_hub(base: str | None) -> Check:
    """The hub is needed only for a base that is neither a directory nor in the hub cache."""
    from huggingface_hub import constants, get_session, get_token

    about = f"HF_HOME {constants.HF_HOME}, {'a token is set' if get_token() else 'no token (HF_TOKEN)'}"
    if base is not None:
        return _base_check(base, about)
    if constants.HF_HUB_OFFLINE:
        return good("hub", f"not used (HF_HUB_OFFLINE is set), {about}: a base must be a directory or in the hub cache")
    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_SECONDS)
    except Exception as error:  # its class depends on the HTTP client of huggingface_hub
        return advice(
            "hub",
            f"{constants.ENDPOINT} does not answer ({type(error).__name__}), {about}",
            "a base must be a directory or in the hub cache; without a network set HF_HUB_OFFLINE=1",
        )
    return good("hub", f"{constants.ENDPOINT} answers, {about}")


def _base_check(base: str, about: str) -> Check:
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    name, _, revision = base.partition("@")
    try:
        cached = try_to_load_from_cache(name, "config.json", revision=revision or None)
        if constants.HF_HUB_OFFLINE:
            if isinstance(cached, str):
                return good("base", f"{base} is in the hub cache, HF_HUB_OFFLINE is set, {about}")
            return blocks(
                "base",
                f"{base} is not in the hub cache, and HF_HUB_OFFLINE is set, {about}",
                "unset HF_HUB_OFFLINE, or copy the base into the hub cache",
            )
        address = hf_hub_url(name, "config.json", revision=revision or None)
        get_hf_file_metadata(address, timeout=HUB_SECONDS, retry_on_errors=False)
    except HFValidationError:
        return blocks("base", f"{base} is neither a directory nor a name of a hub model", "write owner/name or a path")
    except GatedRepoError:
        return blocks("base", f"{base} is gated, {about}", "accept its terms on the hub and set HF_TOKEN")
    except RepositoryNotFoundError:
        return blocks(
            "base",
            f"the hub has no {base}, or you may not read it, {about}",
            "check the name; for a private model set HF_TOKEN",
        )
    except HfHubHTTPError as error:
        return blocks("base", f"{base}: {str(error).splitlines()[0]}", "check the name and the revision")
    except Exception as error:  # its class depends on the HTTP client of huggingface_hub
        if isinstance(cached, str):
            return good("base", f"{base} is in the hub cache; {constants.ENDPOINT} does not answer, {about}")
        return blocks(
            "base",
            f"{base} is not in the hub cache, {constants.ENDPOINT} does not answer ({type(error).__name__}), {about}",
            "connect this machine, or copy the base here and give its directory",
        )
    return good("base", f"the hub has {base}{' (in the hub cache too)' if isinstance(cached, str) else ''}, {about}")


def nearest_existing(path: Path) -> Path:
    """Returns the path if it exists, else its nearest parent that exists."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())


def _hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _path_of(url: str) -> Path:
    return Path(unquote(urlsplit(url).path))
