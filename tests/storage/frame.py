"""A program for the tests of the frame: `python -m tests.storage.frame <task key>`; DO selects the action of its
body.
"""

import logging
import os
import sys
import time
from pathlib import Path

from workloads.api.records import CheckpointRecord, ExitCode, Progress
from workloads.api.tasks import ImportTask
from workloads.program import Context, ProgramError, Terminated, run_program
from workloads.storage.base import StoreError
from workloads.storage.markers import Corrupt, Superseded

RAISED: dict[str, BaseException] = {
    "superseded": Superseded("attempt 1 stands"),
    "corrupt": Corrupt("weights is missing"),
    "store": StoreError("s3://lab/x: cannot read it"),
    "bad data": ProgramError(ExitCode.BAD_DATA, "TooShort", "line 7 is empty", member="b" * 64),
    "crash": ZeroDivisionError("by the ß"),
    "exit": SystemExit(0),
}


def progress(context: Context[ImportTask], done: int, loading: str | None = None) -> Progress:
    return Progress(
        attempt=1, updated=context.now(), phase="running", done=done, total=3, counted="steps", loading=loading
    )


def body(context: Context[ImportTask]) -> None:
    logging.getLogger("potstill").info("the body runs")
    match os.environ["DO"]:
        case "commit":
            context.progress(progress(context, 1))
            context.commit("checkpoint-000000001", {"file": Path(__file__)}, CheckpointRecord(samples=1, step=1))
            context.progress(progress(context, 3))
        case "wait, then save":
            print("waiting", flush=True)
            context.terminated.wait()
            context.commit("checkpoint-000000001", {"file": Path(__file__)}, CheckpointRecord(samples=1, step=1))
            raise Terminated
        case "be stuck":
            print("waiting", flush=True)
            while True:
                time.sleep(0.01)
        case "load and die":
            context.progress(progress(context, 0, loading="b" * 64))
            os.kill(os.getpid(), 9)
        case "commit when told":
            print("waiting", flush=True)
            sys.stdin.readline()
            context.commit("checkpoint-000000001", {"file": Path(__file__)}, CheckpointRecord(samples=1, step=1))
        case other:
            raise RAISED[other]


if __name__ == "__main__":
    sys.exit(run_program(ImportTask, body))
