"""A rank whose steps are pending, like on a GPU: `python -m tests.train.apart FAST TOLD STEP <task key>`.

The clock of rank FAST runs so fast that it wants to save a state at every step; rank TOLD sends itself SIGTERM before
it launches STEP. On stderr a line of JSON says after which step the rank ended and how long it would wait for the
others.
"""

import json
import os
import signal
import sys
import time

import torch
from torch import distributed

from workloads.api.tasks import TrainTask
from workloads.program import run_program
from workloads.train import program
from workloads.train.__main__ import lead
from workloads.train.loop import Training
from workloads.train.step import StepReading
from workloads.train.worker_rank import follow

SPEED = 1e6


class Apart(Training):
    def run(self) -> None:
        if self.ranks.rank == int(sys.argv[1]):
            self.clock = lambda: SPEED * time.monotonic()
        group = distributed.distributed_c10d._get_default_group()
        patience = group._get_backend(torch.device("cpu")).options._timeout
        try:
            super().run()
        finally:
            facts = {"rank": self.ranks.rank, "step": self.cursor.step, "patience_seconds": patience.total_seconds()}
            print("\n" + json.dumps(facts), file=sys.stderr, flush=True)

    def _launch(self, step: int, *told: bool) -> StepReading:
        if self.ranks.rank == int(sys.argv[2]) and step == int(sys.argv[3]):
            signal.raise_signal(signal.SIGTERM)
        return super()._launch(step, *told)


if __name__ == "__main__":
    torch.set_num_threads(1)
    setattr(StepReading, "on_its_way", property(lambda _: True))  # noqa: B010
    vars(program)["Training"] = Apart
    key = sys.argv[4:]
    sys.exit(run_program(TrainTask, lead, key) if os.environ["RANK"] == "0" else follow(key, os.environ))
