"""Run by test_vllm_core: a program with a fork server, and processes forked from it, as an engine's core is."""

import json
import os
import signal
import sys
from pathlib import Path

from workloads.engines.vllm.fork_server import CoreProcess, CoreServer


def write_server_id(place: Path) -> None:
    place.write_text(str(os.getppid()))


def write_environment(place: Path) -> None:
    found = {name: os.environ.get(name) for name in ("STAYS", "CHANGES", "GOES", "COMES")}
    place.write_text(json.dumps(found | {"ends on SIGTERM": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL}))


def main() -> None:
    os.environ |= {"STAYS": "1", "CHANGES": "1", "GOES": "1"}
    place = Path(sys.argv[1])
    problem = CoreServer().problem()
    forked = CoreProcess(target=write_server_id, args=(place,))
    forked.start()
    forked.join()
    server = int(place.read_text())
    os.kill(server, signal.SIGTERM)
    os.kill(server, signal.SIGINT)
    os.environ |= {"CHANGES": "2", "COMES": "2", "OMP_NUM_THREADS": "1,1"}
    del os.environ["GOES"]
    writer = CoreProcess(target=write_environment, args=(place,))
    writer.start()
    writer.join()
    core = CoreProcess(target=signal.pause)
    core.start()
    found = {"problem": problem, "writer_exit": writer.exitcode, "server": server, "core": core.pid}
    print(json.dumps(found), flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
