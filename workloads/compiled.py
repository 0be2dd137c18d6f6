"""Code that was compiled at one start, kept for later ones under `cache_folder()`/compiled: on a cluster a profile's
cacheClaim, which several pods may use at once and in which any of them may be killed at any moment.
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
KERNELS = {"CUDA_CACHE_PATH": "cuda", "TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}
"""By the variable that says where its maker keeps compiled kernels: the folder's name. These makers write a file whole
or not at all.
"""
SEAL = "SEALED"
UNUSED_SECONDS = 30 * 86_400.0
"""After which a folder is swept."""


def keep_kernels() -> None:
    """Call it before anything is compiled. Who set a variable has it; a cache that cannot be written is not used."""
    for variable, name in KERNELS.items():
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
    """The folder of compiled code `key` for a start that the block makes: filled by one, read by later ones.

    Once a block that found it empty has ended well it is sealed, and nobody sees it before. A start that was killed or
    failed leaves nothing behind, one that failed over a sealed folder takes the seal away. Who comes while another
    fills it, or cannot write there, gets a folder of its own, which nobody reads later.
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
                os.utime(seal)  # its time says when it was used last


def _own_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="potstill-compiled-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _sweep(kind: Path) -> None:
    """Takes away what nobody has used for long: code of other versions, flags, devices."""
    for seal in kind.glob(f"*/{SEAL}"):
        if time.time() - seal.stat().st_mtime > UNUSED_SECONDS:
            seal.unlink()
            shutil.rmtree(seal.parent, ignore_errors=True)
