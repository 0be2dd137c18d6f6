"""vLLM's core in a process that has vLLM already: a spawned one first imports it, for ten seconds and more.

A fork server (multiprocessing's own) imports it beside what this program does meanwhile, and the core is forked from
there. This program has threads and must not be forked; the server was started by exec, runs one thread and has not
touched a GPU. Where that is not so, or vLLM makes its core in a way not known here, vLLM spawns the core.

The core ends with the server and the server with the thread that started it: no kill of any of them leaves another.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess

from workloads.compiled import keep_kernels
from workloads.engines.vllm.config import VllmSettings

logger = logging.getLogger("potstill")
CORE = "vllm.v1.engine.core"
IMPORTS = "workloads.engines.vllm.imports"
IMPORT_SECONDS = 300.0
"""How long a start waits for the server."""
NOT_IMPORTED = frozenset({"VLLM_CACHE_ROOT"})
"""Variables of vLLM that none of its modules reads when it is imported."""
NO_VLLM = 3
"""How `look` ends where the server could not import vLLM."""
ORPHANED = 98


def end_with_parent(parent: int | None = None) -> None:
    """Linux kills this process when the thread that made it ends. If its `parent` has ended already, this does."""
    if sys.platform == "linux":
        from workloads.sandbox.linux import die_with_parent

        die_with_parent()
    if parent is not None and os.getppid() != parent:
        os._exit(ORPHANED)


class CoreProcess(ForkServerProcess):
    """Before its target runs it gets, in place of the server's, the environment that this process had at its start."""

    def start(self) -> None:
        self._environment = dict(os.environ)
        super().start()

    def run(self) -> None:
        server = sys.modules[IMPORTS]
        end_with_parent(server.PROCESS)
        os.setpgid(0, 0)  # what ends the program's group asks the program, which asks the core
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        take_on(self._environment, server.ENVIRONMENT)
        super().run()


def take_on(environment: dict[str, str], inherited: dict[str, str]) -> None:
    """What the program changed since the server began with `inherited`; what imports set in the server stays.

    The rest is left where it is, for `setproctitle` writes the process's title over it.
    """
    for name in inherited.keys() - environment.keys():
        os.environ.pop(name, None)
    for name, value in environment.items():
        if inherited.get(name) != value and os.environ.get(name) != value:
            os.environ[name] = value
    threads = environment.get("OMP_NUM_THREADS", "").partition(",")[0]
    if threads.isdecimal() and "torch" in sys.modules:  # which read it when it was imported
        sys.modules["torch"].set_num_threads(int(threads))


class CoreContext(ForkServerContext):
    Process = CoreProcess


class CoreServer:
    """The fork server of this process, tried in a thread as soon as it has imported vLLM."""

    def __init__(self) -> None:
        self._variables = vllm_variables()
        self._changed: set[str] = set()
        self._problem: str | None = f"vLLM was not imported within {IMPORT_SECONDS:.0f} s"
        self._trial = threading.Thread(target=self._try_it, name="vllm-imports", daemon=True)
        CoreContext().set_forkserver_preload([IMPORTS])
        try:
            forkserver.ensure_running()
        except OSError as error:
            logger.warning("vLLM cannot be imported ahead: %s", error)  # the trial then meets it too
        self._trial.start()

    def compare(self) -> None:
        """To be called before vLLM is told anything: its configuration sets variables for its processes itself."""
        self._changed = {name for name, _ in self._variables.items() ^ vllm_variables().items()}

    def problem(self) -> str | None:
        """Why no core can be forked from it, when it is known. Without one, what vLLM set meanwhile is no change."""
        self._trial.join(IMPORT_SECONDS)
        if self._changed:
            return f"the server imported it before {', '.join(sorted(self._changed))} was changed"
        if self._problem is None:
            self._variables = vllm_variables()
        return self._problem

    def _try_it(self) -> None:
        probe = CoreProcess(target=look, daemon=True)
        try:
            probe.start()  # waits until the server has imported
        except (OSError, EOFError) as error:
            self._problem = f"the server does not answer: {error}"
            return
        probe.join(IMPORT_SECONDS)
        if probe.exitcode is None:
            probe.kill()
        elif probe.exitcode == NO_VLLM:
            self._problem = "the server could not import it"
        elif probe.exitcode:
            self._problem = f"a process forked from the server ended with {probe.exitcode}, as stderr tells"
        else:
            self._problem = None


def look() -> None:
    """In a process forked from the server: whether a core could be one."""
    if CORE not in sys.modules:
        sys.exit(NO_VLLM)
    from vllm.platforms import current_platform

    if current_platform.is_cuda():
        import torch

        torch.zeros(1, device="cuda")  # fails after a fork from a process that used CUDA


_servers: list[CoreServer] = []
"""At most one, for multiprocessing has one for a process."""


def vllm_variables() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key.startswith("VLLM_") and key not in NOT_IMPORTED}


def set_environment(settings: VllmSettings) -> None:
    """Read by vLLM when it is imported, and inherited by its processes."""
    keep_kernels()
    # What the first start on a node read is then still in its memory for the next one.
    os.environ.setdefault("FASTSAFETENSORS_ODIRECT", "0")
    os.environ.update(
        VLLM_WORKER_MULTIPROC_METHOD="spawn",  # this process has threads
        VLLM_NO_USAGE_STATS="1",
        VLLM_BATCH_INVARIANT="1" if settings.batch_invariant else "0",
    )
    # vLLM's core in a process of its own gives its memory back when it ends; who sets 0 has it in this one.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "1")


def import_ahead(settings: VllmSettings) -> None:
    """Sets vLLM's environment and lets the server import it, unless it has or the core is to run in this process.

    Returns at once. To be called by the thread that starts the engine: at that start, and as long before as may be.
    """
    set_environment(settings)
    if _servers:
        _servers[0].compare()
    elif os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] != "0":
        _servers.append(CoreServer())


@contextmanager
def forked_core() -> Iterator[None]:
    """In the block vLLM forks its core from the server."""
    from vllm.v1.engine import utils

    if not _servers or os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0":
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
