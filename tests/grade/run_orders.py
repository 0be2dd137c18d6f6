"""Runs sandbox orders one after another in one server, by whichever Python and user starts it.

python run_orders.py REPOSITORY '{"namespaces": true, "landlock": true}' < orders.jsonl > outcomes.jsonl
"""

import json
import sys

sys.path.insert(0, sys.argv[1])

from workloads.sandbox.order import order_from
from workloads.sandbox.pool import Options, SandboxServer

server = SandboxServer(Options(**json.loads(sys.argv[2])))
print(json.dumps(server.layers))
for line in sys.stdin:
    print(server.execute(order_from(json.loads(line))).to_json(), flush=True)
server.close()
