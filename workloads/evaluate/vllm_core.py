"""vLLM's core in a process that has vLLM already: a spawned one first imports it, for ten seconds and more.

A fork server (multiprocessing's own) imports it beside what this program does meanwhile, and the core is forked from
there. This program has threads and must not be forked; the server was started by exec, runs one thread and has not
touched a GPU. Where that is not so, or vLLM makes its core in a way not known here, it spawns it as ever.
"""

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess

logger = logging.getLogger("potstill")
IMPORTS = "workloads.evaluate.vllm_imports"
IMPORT_SECONDS = 300.0
"""How long a start waits for the server."""
NOT_IMPORTED = frozenset({"VLLM_CACHE_ROOT"})
"""Variables of vLLM that none of its modules reads when it is imported."""
NO_VLLM = 3


class CoreProcess(ForkServerProcess):
    """Has the environment that this process had when it started it, as a spawned one would, not the server's."""

    def start(self) -> None:
        self._environment = dict(os.environ)
        super().start()

    def run(self) -> None:
        os.environ.update(self._environment)
        if "OMP_NUM_THREADS" in self._environment and "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(int(self._environment["OMP_NUM_THREADS"]))
        super().run()


class CoreContext(ForkServerContext):
    Process = CoreProcess


class Server:
    """The fork server of this process, looked at in a thread once it has imported vLLM."""

    def __init__(self) -> None:
        self._variables = vllm_variables()
        self._changed: set[str] = set()
        self._problem: str | None = f"vLLM was not imported within {IMPORT_SECONDS:.0f} s"
        self._look = threading.Thread(target=self._look_at_it, name="vllm-imports", daemon=True)
        try:
            CoreContext().set_forkserver_preload([IMPORTS])
            forkserver.ensure_running()
        except OSError as error:
            self._problem = f"the server does not start: {error}"
        else:
            self._look.start()

    def compare(self) -> None:
        """To be called before vLLM is told anything: its configuration sets variables for its processes itself."""
        self._changed = {name for name, _ in self._variables.items() ^ vllm_variables().items()}

    def problem(self) -> str | None:
        """Why no core can be forked from it, when it is known."""
        if self._changed:
            return f"the server imported it before {', '.join(sorted(self._changed))} was changed"
        if self._look.ident is not None:
            self._look.join(IMPORT_SECONDS)
        return self._problem

    def _look_at_it(self) -> None:
        probe = CoreProcess(target=look, daemon=True)
        try:
            probe.start()  # waits until the server has imported
        except (OSError, EOFError) as error:
            self._problem = f"the server does not answer: {error}"
            return
        probe.join(IMPORT_SECONDS)
        if probe.exitcode is not None:
            said = {0: None, NO_VLLM: "the server could not import vLLM"}
            self._problem = said.get(probe.exitcode, "its processes cannot use the GPU, as stderr tells")


def look() -> None:
    """In a process forked from the server: whether a core could be one."""
    if "vllm.v1.engine.core" not in sys.modules:
        sys.exit(NO_VLLM)
    from vllm.platforms import current_platform

    if current_platform.is_cuda():
        import torch

        torch.zeros(1, device="cuda")  # fails after a fork from a process that used CUDA


_servers: list[Server] = []
"""At most one."""


def vllm_variables() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key.startswith("VLLM_") and key not in NOT_IMPORTED}


def import_ahead() -> None:
    """Lets the server import vLLM, unless it has or vLLM's core is to run in this process. Returns at once.

    vLLM's modules read its variables when they are imported: set them before, and call it again at the start itself.
    """
    if _servers:
        _servers[0].compare()
    elif os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING") != "0":
        _servers.append(Server())


@contextmanager
def forked_core() -> Iterator[None]:
    """In the block vLLM forks its core from the server."""
    from vllm.v1.engine import utils

    if not _servers:
        yield
        return
    problem = _servers[0].problem()
    if not hasattr(utils, "get_mp_context"):
        problem = "this vLLM makes its core in another way"
    if problem is not None:
        logger.warning("vLLM's core is spawned, and imports vLLM once more: %s", problem)
        yield
        return
    spawning, utils.get_mp_context = utils.get_mp_context, CoreContext
    try:
        yield
    finally:
        utils.get_mp_context = spawning
