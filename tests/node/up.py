"""A cluster of one node for manual tests, until interrupted: `python -m tests.node.up` prints the variables to
export.
"""

import signal
from contextlib import suppress

from tests.node.node import one_node


def main() -> None:
    with one_node() as node:
        print(f"export KUBECONFIG={node.plane.kubeconfig()}", flush=True)
        print("The cluster is up; Ctrl-C ends it.", flush=True)
        with suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main()
