"""Run by test_vllm_core: a program with a fork server, and processes forked from it, as an engine's core is."""

import json
import os
import signal
import sys
import time
from multiprocessing import forkserver
from pathlib import Path

from workloads.evaluate.vllm_core import CoreProcess, Server


def tell(place: Path) -> None:
    found = {name: os.environ.get(name) for name in ("STAYS", "CHANGES", "GOES", "COMES")}
    place.write_text(json.dumps(found | {"ends on SIGTERM": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL}))


def main() -> None:
    os.environ |= {"STAYS": "1", "CHANGES": "1", "GOES": "1"}
    problem = Server().problem()
    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    os.kill(server, signal.SIGTERM)
    os.kill(server, signal.SIGINT)
    os.environ |= {"CHANGES": "2", "COMES": "2", "OMP_NUM_THREADS": "1,1"}
    del os.environ["GOES"]
    told = CoreProcess(target=tell, args=(Path(sys.argv[1]),))
    told.start()
    told.join()
    core = CoreProcess(target=time.sleep, args=(600,))
    core.start()
    print(json.dumps({"problem": problem, "exit": told.exitcode, "server": server, "core": core.pid}), flush=True)
    time.sleep(600)


if __name__ == "__main__":
    main()
