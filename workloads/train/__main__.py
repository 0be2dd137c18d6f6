"""`POTSTILL_STORE=<url> python -m workloads.train <task key>`; for several GPUs through workloads.train.launch.

torchrun can start it too: rank 0 is the program, the other ranks follow it.
"""

import os
import sys

from workloads.api.tasks import TrainTask
from workloads.compiled import keep_kernels
from workloads.program import Context, run_program


def lead(context: Context[TrainTask]) -> None:
    from workloads.train.program import train

    train(context.task, context.store, context.terminated, context)


if __name__ == "__main__":
    # torch reads it on import; the predictions of memory.py were measured with it.
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    keep_kernels()
    if os.environ.get("RANK", "0") == "0":
        sys.exit(run_program(TrainTask, lead))
    from workloads.train.worker_rank import follow

    sys.exit(follow(sys.argv[1:], os.environ))
