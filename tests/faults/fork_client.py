"""Stands in for the Python interpreter of one program, which a fork server runs: `fork_client.py -m MODULE ARGUMENTS`.

It hands the server its arguments, environment, folder and open files, passes signals on, and ends as the program ended.
Any other call (the launcher's `-I -S launch.py ...`) goes to the real interpreter. Standard library only: it is started
often.
"""

import array
import json
import os
import signal
import socket
import sys


def main() -> None:
    python, address = os.environ["POTSTILL_TEST_PYTHON"], os.environ["POTSTILL_TEST_FORK_SERVER"]
    options = next((n for n, word in enumerate(sys.argv[1:]) if not word.startswith("-") or word == "-m"), 0)
    if sys.argv[1 + options] != "-m":
        os.execv(python, [python, *sys.argv[1:]])
    module, *arguments = sys.argv[2 + options :]
    server = socket.socket(socket.AF_UNIX)
    server.connect(address)
    order = {"module": module, "arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}  # noqa: PTH109
    send(server, {**order, "client": os.getpid()}, [1, 2])
    answers = server.makefile("rb")
    child = json.loads(answers.readline())["pid"]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda taken, _: pass_on(child, taken))
    ended = json.loads(answers.readline() or b'{"status": 9}')["status"]
    end_as(ended)


def send(server: socket.socket, order: dict[str, object], files: list[int]) -> None:
    data = json.dumps(order).encode()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))]
    server.sendmsg([len(data).to_bytes(8, "big")], rights)
    server.sendall(data)


def pass_on(child: int, number: int) -> None:
    try:
        os.kill(child, number)
    except ProcessLookupError:
        return


def end_as(status: int) -> None:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


if __name__ == "__main__":
    main()
