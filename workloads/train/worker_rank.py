"""Ranks above 0: they compute, and write nothing to the store. If one fails, rank 0's collective call fails."""

import logging
import signal
import threading
from collections.abc import Mapping, Sequence

from workloads.api.records import ExitCode
from workloads.api.tasks import TrainTask, parse_task
from workloads.program import ProgramError, Terminated
from workloads.storage.base import open_store

logger = logging.getLogger("potstill")


def follow(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Returns the exit code. Sends SIGTERM and SIGINT to rank 0 with the next gradient."""
    from workloads.train.program import train

    terminated = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: terminated.set())
    logging.basicConfig(level=logging.INFO)
    store = open_store(environment["POTSTILL_STORE"], environment)
    task = parse_task(store.get(arguments[0]))
    assert isinstance(task, TrainTask)
    try:
        train(task, store, terminated, None)
    except Terminated:
        return int(ExitCode.OK)  # rank 0 is still saving, and reports it itself
    except ProgramError as error:
        logger.error("%s: %s", error.reason, error.message)
        return error.exit_code
    return int(ExitCode.OK)
