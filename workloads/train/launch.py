"""`python -m workloads.train.launch --processes 8 <task key>`: one rank for each GPU, as torchrun starts them.

torchrun itself exits with 1 for any failure of a rank, and gives ranks 30 s after SIGTERM. This program exits with the
code of the first rank that failed, and waits for a rank that saves its state.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence


def rank_environments(processes: int, nodes: int, node: int, master: str) -> list[dict[str, str]]:
    """Returns the variables of torch.distributed for each process of this node.

    `master`: host:port of the first node.
    """
    host, _, port = master.rpartition(":")
    return [
        {
            "RANK": str(node * processes + local),
            "LOCAL_RANK": str(local),
            "WORLD_SIZE": str(nodes * processes),
            "MASTER_ADDR": host,
            "MASTER_PORT": port,
        }
        for local in range(processes)
    ]


def launch(command: Sequence[str], environments: Sequence[Mapping[str, str]]) -> int:
    """Runs `command` once in each environment, to the end. If a rank fails, the others are ended.

    Passes SIGTERM and SIGINT on as SIGTERM. Returns 0, or the exit code of the first rank that failed (128 + the signal
    that killed it).
    """
    children = [subprocess.Popen(command, env={**os.environ, **environment}) for environment in environments]

    def terminate_all(*_: object) -> None:
        for child in children:
            child.terminate()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, terminate_all)
    running = {child.pid: child for child in children}
    code = 0
    while running:
        pid, status = os.waitpid(-1, 0)
        child = running.pop(pid, None)
        if child is None:
            continue
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0 and code == 0:
            code = child.returncode if child.returncode > 0 else 128 - child.returncode
            for other in running.values():
                other.kill()
    return code


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m workloads.train.launch", description=__doc__)
    parser.add_argument("--processes", type=int, required=True, help="ranks on this node: its GPUs")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--node", type=int, default=0, help="this node's number, from 0")
    parser.add_argument("--master", default=None, help="host:port of node 0; needed with several nodes")
    parser.add_argument("task", help="the task's key")
    stated = parser.parse_args(arguments)
    if stated.nodes > 1 and stated.master is None:
        parser.error("--master is needed with several nodes")
    environments = rank_environments(stated.processes, stated.nodes, stated.node, stated.master or free_address())
    return launch([sys.executable, "-P", "-m", "workloads.train", stated.task], environments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
