"""Imported only in the process from which vLLM's core is forked (`fork_server`): it imports all modules of a core.

No import may use a GPU, because a process forked afterwards could not. `fork_server` checks this before it uses the
server.
"""

import gc
import importlib
import os
import signal
import sys

from workloads.engines.vllm.fork_server import CORE, end_with_parent

PROCESS, ENVIRONMENT = os.getpid(), dict(os.environ)
ON_CPU = ("vllm.v1.worker.cpu_worker", "vllm.model_executor.models.qwen3", "vllm.model_executor.models.qwen3_moe")
ON_GPU = ("vllm.v1.worker.gpu_worker", *ON_CPU[1:])


def become_server() -> None:
    """Ends when the program ends, and not earlier, because the program learns only through this process that its core
    has ended.
    """
    end_with_parent()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def import_all() -> None:
    """An import that fails here fails in the core again, which then reports it."""
    try:
        importlib.import_module(CORE)
        from vllm.platforms import current_platform

        for name in ON_CPU if current_platform.is_cpu() else ON_GPU:
            importlib.import_module(name)
    except Exception as error:
        print(f"potstill: vLLM cannot be imported ahead: {error}", file=sys.stderr, flush=True)


become_server()
import_all()
gc.collect()
gc.freeze()  # otherwise a garbage collection in the core would copy the memory that it shares with this process
