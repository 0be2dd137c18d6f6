"""A cache of compiled code for later starts, under `cache_folder()`/compiled.

On a cluster this is a profile's cacheClaim, which several pods may use at once and in which any of them may be killed
at any moment.
"""

import atexit
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from workloads.storage.content_digest import cache_folder, locked

logger = logging.getLogger("potstill")
KERNEL_VARIABLES = {"CUDA_CACHE_PATH": "cuda", "TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}
"""Folder names by the variable that sets where a library caches compiled kernels.

These libraries write each file atomically.
"""
SEAL = "SEALED"
UNUSED_SECONDS = 30 * 86_400.0
"""A folder is deleted after this time without use."""


def keep_kernels() -> None:
    """Call it before anything is compiled.

    Variables that the user set stay; a cache that cannot be written is not used.
    """
    for variable, name in KERNEL_VARIABLES.items():
        folder = cache_folder() / "compiled" / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            logger.warning("compiled kernels are not kept: %s", error)
            return
        os.environ.setdefault(variable, str(folder))


@contextmanager
def sealed_folder(kind: str, key: str) -> Iterator[Path]:
    """Gives the folder of compiled code `key`: one start fills it, later ones read it.

    If a start finds it empty and ends well, the folder is sealed; before that no other start uses it. A start that was
    killed or failed leaves nothing; one that failed with a sealed folder removes the seal. A start that comes while
    another one fills the folder, or that cannot write there, gets a temporary folder that is not reused.
    """
    place = cache_folder() / "compiled" / kind / key
    seal = place / SEAL
    with ExitStack() as held:
        fills = False
        try:
            if not seal.exists():
                held.enter_context(locked(place.with_name(f"{key}.lock"), wait=False))
                fills = not seal.exists()
                if fills:
                    shutil.rmtree(place, ignore_errors=True)
                    place.mkdir()
        except OSError as error:
            logger.info("code compiled by this start is not kept: %s", error)
            yield _own_folder()
            return
        try:
            yield place
        except BaseException:
            with suppress(OSError):
                seal.unlink(missing_ok=True)
            raise
        with suppress(OSError):
            if fills:
                seal.touch()
                _sweep(place.parent)
            else:
                os.utime(seal)  # its time is the time of its last use


def _own_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="potstill-compiled-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _sweep(kind: Path) -> None:
    """Deletes folders without recent use: code of other versions, flags, devices."""
    for seal in kind.glob(f"*/{SEAL}"):
        if time.time() - seal.stat().st_mtime > UNUSED_SECONDS:
            seal.unlink()
            shutil.rmtree(seal.parent, ignore_errors=True)
