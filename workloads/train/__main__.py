"""`POTSTILL_STORE=<url> python -m workloads.train <task key>`, or the same under torchrun for several GPUs."""

import os
import sys

from workloads.contract.tasks import TrainTask
from workloads.program import Context, run_program


def lead(context: Context[TrainTask]) -> None:
    from workloads.train.program import train

    train(context.task, context.store, context.terminated, context)


if __name__ == "__main__":
    if os.environ.get("RANK", "0") == "0":
        sys.exit(run_program(TrainTask, lead))
    from workloads.train.follower import follow

    sys.exit(follow(sys.argv[1:], os.environ))
