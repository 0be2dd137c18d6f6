"""`python -m workloads.grade TASK [--step fetch|execute|compare] [--work DIR]`: see `program`."""

import argparse
import sys
from pathlib import Path

from workloads.api.tasks import GradeTask
from workloads.grade.program import STEPS, grade
from workloads.grade.steps import execute_folder
from workloads.program import run_program


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m workloads.grade")
    parser.add_argument("task", help="key of the task in the store")
    parser.add_argument("--step", choices=("all", *STEPS), default="all")
    parser.add_argument("--work", type=Path, help="folder that the three steps share; needed by all but `all`")
    parser.add_argument("--workers", type=int, default=2, help="executions and checks at one time")
    chosen = parser.parse_args(arguments)
    if chosen.step != "all" and chosen.work is None:
        parser.error(f"--step {chosen.step} needs --work DIR")
    if chosen.step == "execute":  # this step has no store and no credentials, so it skips the common program frame
        return execute_folder(chosen.work, chosen.workers)
    return run_program(
        GradeTask, lambda context: grade(context, chosen.step, chosen.work, chosen.workers), [chosen.task]
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
