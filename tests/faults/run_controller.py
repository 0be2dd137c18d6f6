"""`controller.executors.kubernetes.serve` as a module that a fork server runs, with the paces of a test.

POTSTILL_TEST_FASTER  how many times as fast tasks without a Job are given up and copies of Jobs count as stale
"""

import importlib
import os
import sys
from functools import partial

from controller.executors.kubernetes import executor, namespace_controller, serve
from controller.executors.kubernetes.informer import Pace
from controller.executors.kubernetes.namespace_controller import Controller
from tests.cluster.world import LEASE

WATCHES = Pace(watch_seconds=4, silent_seconds=6, first_seconds=0.1, longest_seconds=1.0)
"""Watches are confirmed well within STALE_SECONDS, as they are in use."""


def main() -> int:
    faster = float(os.environ["POTSTILL_TEST_FASTER"])
    closings = importlib.import_module(
        "controller.planner.completion_checks"
    )  # the package has a function of this name
    vars(closings)["START_GRACE_SECONDS"] /= faster
    for module in (executor, namespace_controller):
        vars(module)["STALE_SECONDS"] /= faster
    vars(serve)["Controller"] = partial(Controller, pace=WATCHES, lease_pace=LEASE, busy_seconds=1.0)
    return serve.main()


if __name__ == "__main__":
    sys.exit(main())
