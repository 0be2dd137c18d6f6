"""Imported in the process that vLLM's core is forked from (`vllm_core`) and nowhere else: it imports what a core does.

None of it may touch a GPU, for what is forked after that cannot. `vllm_core` looks before it relies on it.
"""

import importlib
import sys

CORE = "vllm.v1.engine.core"
ON_CPU = ("vllm.v1.worker.cpu_worker", "vllm.model_executor.models.qwen3", "vllm.model_executor.models.qwen3_moe")
ON_GPU = ("vllm.v1.worker.gpu_worker", *ON_CPU[1:])


def import_all() -> None:
    """What fails here fails in the core again, which then tells it."""
    try:
        importlib.import_module(CORE)
        from vllm.platforms import current_platform

        for name in ON_CPU if current_platform.is_cpu() else ON_GPU:
            importlib.import_module(name)
    except Exception as error:
        print(f"potstill: vLLM cannot be imported ahead: {error}", file=sys.stderr, flush=True)


import_all()
