"""evalplus 0.3.1's grader on a file of samples, two workers, as its `evaluate` runs it. In the perf environment:

    MBPP_OVERRIDE_PATH=MbppPlus.jsonl python perf/grading/peer.py SAMPLES.jsonl VERDICTS.json PATIENCE PROBLEMS.json

PROBLEMS.json lists the ids of the problems that the ground truth is made for. Its `evaluate` itself refuses a set of
samples that lacks a problem; this is its loop without that assertion. The ground truth (its own pickle) is made by the
first run and not part of the times that count. PATIENCE multiplies its time limits, which are wall times (1: its own).
"""

import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from evalplus.config import DEFAULT_GT_TIME_LIMIT_FACTOR, DEFAULT_MIN_TIME_LIMIT
from evalplus.data import get_mbpp_plus, get_mbpp_plus_hash
from evalplus.eval._special_oracle import MBPP_OUTPUT_NOT_NONE_TASKS
from evalplus.evaluate import check_correctness, get_groundtruth

if __name__ == "__main__":
    published, wanted = get_mbpp_plus(), json.loads(Path(sys.argv[4]).read_text())
    problems = {name: published[name] for name in wanted}
    expected = get_groundtruth(problems, f"{get_mbpp_plus_hash()}-{len(wanted)}", MBPP_OUTPUT_NOT_NONE_TASKS)
    samples = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
    patience = float(sys.argv[3])
    started = time.monotonic()
    verdicts = {}
    with ProcessPoolExecutor(max_workers=2) as executor:
        futures = [
            executor.submit(
                check_correctness,
                "mbpp",
                0,
                problems[sample["task_id"]],
                sample["solution"],
                expected[sample["task_id"]],
                False,
                True,
                sample["_identifier"],
                patience * DEFAULT_MIN_TIME_LIMIT,
                patience * DEFAULT_GT_TIME_LIMIT_FACTOR,
            )
            for sample in samples
        ]
        for future in as_completed(futures):
            result = future.result()
            verdicts[result["_identifier"]] = {"base": result["base"][0], "plus": result["plus"][0]}
    seconds = time.monotonic() - started
    Path(sys.argv[2]).write_text(json.dumps({"wall_seconds": seconds, "verdicts": verdicts}))
