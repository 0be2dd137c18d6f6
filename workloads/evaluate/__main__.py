import sys

from workloads.api.tasks import GenerateTask
from workloads.evaluate.program import evaluate
from workloads.program import run_program

if __name__ == "__main__":
    sys.exit(run_program(GenerateTask, evaluate))
