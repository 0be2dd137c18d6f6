"""Starts vLLM's core in a process that has imported vLLM already: a spawned process would first import it for ten
seconds.

A fork server (from multiprocessing) imports it in parallel with this program's other work, and the core is forked from
it. This program has threads and must not be forked; the server was started by exec, has one thread and has not used a
GPU. If this is not so, or vLLM makes its core in an unknown way, vLLM spawns the core.

The core ends with the server, and the server with the thread that started it: if any of them is killed, none is left.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
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
"""Variables of vLLM that no module reads on import."""
NO_VLLM = 3
"""The exit code of `check_core` if the server could not import vLLM."""
ORPHANED = 98
"""The exit code if the parent ended before the parent-death signal was set."""


def end_with_parent(parent: int | None = None) -> None:
    """Linux kills this process when the thread that made it ends.

    If its `parent` has ended already, this process ends itself.
    """
    if sys.platform == "linux":
        from workloads.sandbox.linux import die_with_parent

        die_with_parent()
    if parent is not None and os.getppid() != parent:
        os._exit(ORPHANED)


class CoreProcess(ForkServerProcess):
    """Before its target runs, it gets the environment that this process had at its start, instead of the server's."""

    def start(self) -> None:
        self._environment = dict(os.environ)
        super().start()

    def run(self) -> None:
        server = sys.modules[IMPORTS]
        end_with_parent(server.PROCESS)
        os.setpgid(0, 0)  # a signal to the program's group goes to the program, which asks the core to end
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        take_environment(self._environment, server.ENVIRONMENT)
        super().run()


def take_environment(environment: dict[str, str], inherited: dict[str, str]) -> None:
    """Applies the program's changes since the server began with `inherited`; variables that imports set in the server
    stay.

    Other variables stay at their addresses, because `setproctitle` writes the process's title over them.
    """
    for name in inherited.keys() - environment.keys():
        os.environ.pop(name, None)
    for name, value in environment.items():
        if inherited.get(name) != value and os.environ.get(name) != value:
            os.environ[name] = value
    threads = environment.get("OMP_NUM_THREADS", "").partition(",")[0]
    if threads.isdecimal() and "torch" in sys.modules:  # it was read on import
        sys.modules["torch"].set_num_threads(int(threads))


class CoreContext(ForkServerContext):
    Process = CoreProcess


def check_core() -> None:
    """Runs in a process forked from the server: exits with 0 if a core could run in it."""
    if CORE not in sys.modules:
        sys.exit(NO_VLLM)
    from vllm.platforms import current_platform

    if current_platform.is_cuda():
        import torch

        torch.zeros(1, device="cuda")  # fails after a fork from a process that used CUDA


class CoreServer:
    """The fork server of this process. A thread tests it when it has imported vLLM."""

    def __init__(self, check: Callable[[], None] = check_core) -> None:
        """`check`: runs in a process forked from the server, and exits with 0 if a core could run in such a process."""
        self._variables = vllm_variables()
        self._changed: set[str] = set()
        self._problem: str | None = f"vLLM was not imported within {IMPORT_SECONDS:.0f} s"
        self._trial = threading.Thread(target=self._try_it, args=(check,), name="vllm-imports", daemon=True)
        CoreContext().set_forkserver_preload([IMPORTS])
        try:
            forkserver.ensure_running()
        except OSError as error:
            logger.warning("vLLM cannot be imported ahead: %s", error)  # the test then finds the same problem
        self._trial.start()

    def compare(self) -> None:
        """Call it before vLLM gets its configuration, because vLLM then sets variables for its processes itself."""
        self._changed = {name for name, _ in self._variables.items() ^ vllm_variables().items()}

    def problem(self) -> str | None:
        """Returns why no core can be forked from it, if known.

        Without a problem, later variables of vLLM do not count as changes.
        """
        self._trial.join(IMPORT_SECONDS)
        if self._changed:
            return f"the server imported it before {', '.join(sorted(self._changed))} was changed"
        if self._problem is None:
            self._variables = vllm_variables()
        return self._problem

    def _try_it(self, check: Callable[[], None]) -> None:
        probe = CoreProcess(target=check, daemon=True)
        try:
            probe.start()  # waits until the server has imported vLLM
        except (OSError, EOFError) as error:
            self._problem = f"the server does not answer: {error}"
            return
        probe.join(IMPORT_SECONDS)
        if probe.exitcode is None:
            probe.kill()
        elif probe.exitcode == NO_VLLM:
            self._problem = "the server could not import it"
        elif probe.exitcode:
            self._problem = f"a process forked from the server ended with {probe.exitcode}; see stderr"
        else:
            self._problem = None


_servers: list[CoreServer] = []
"""At most one, because multiprocessing has one for a process."""


def vllm_variables() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key.startswith("VLLM_") and key not in NOT_IMPORTED}


def set_environment(settings: VllmSettings) -> None:
    """Sets the variables that vLLM reads on import and that its processes inherit."""
    keep_kernels()
    # Files that the first start on a node read are then still in its memory for the next one.
    os.environ.setdefault("FASTSAFETENSORS_ODIRECT", "0")
    os.environ.update(
        VLLM_WORKER_MULTIPROC_METHOD="spawn",  # this process has threads
        VLLM_NO_USAGE_STATS="1",
        VLLM_BATCH_INVARIANT="1" if settings.batch_invariant else "0",
    )
    # vLLM's core in a separate process frees its memory when it ends. A user who sets 0 has it in this process.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "1")


def import_ahead(settings: VllmSettings) -> None:
    """Sets vLLM's environment and lets the server import it, unless it has or the core runs in this process.

    Returns at once. Call it in the thread that starts the engine: at that start, and as early as possible.
    """
    set_environment(settings)
    if _servers:
        _servers[0].compare()
    elif os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] != "0":
        _servers.append(CoreServer())


@contextmanager
def forked_core(server: CoreServer | None = None) -> Iterator[None]:
    """Within the block vLLM forks its core from the server; by default from that of `import_ahead`."""
    from vllm.v1.engine import utils

    server = server or next(iter(_servers), None)
    if server is None or os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0":
        yield
        return
    problem = server.problem()
    if not hasattr(utils, "get_mp_context"):
        problem = "this vLLM makes its core in another way"
    if problem is not None:
        logger.warning("vLLM's core is spawned, and imports vLLM again: %s", problem)
        yield
        return
    spawning, utils.get_mp_context = utils.get_mp_context, CoreContext
    try:
        yield
    finally:
        utils.get_mp_context = spawning
