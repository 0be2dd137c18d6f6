"""Imported in the process from which vLLM's core is forked (`fork_server`), and nowhere else: all that a core imports.

None of it may touch a GPU, for what is forked after that cannot. `fork_server` looks before it relies on it.
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
    """Ends with the program and not before it: through this process alone the program knows of its core's end."""
    end_with_parent()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def import_all() -> None:
    """What fails here fails in the core again, which then tells it."""
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
gc.freeze()  # a collection in the core would otherwise copy what it shares with this process
