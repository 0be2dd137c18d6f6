"""/healthz, /readyz and /metrics."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast
from urllib.parse import parse_qs, urlsplit

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.registry import Collector


@dataclass(frozen=True)
class Health:
    """Each function returns a problem, or "". `alive`: problems that only a restart can solve.

    `ready`: temporary problems.
    """

    alive: Callable[[], str]
    ready: Callable[[], str]


def serve_health(port: int, health: Health, registry: CollectorRegistry) -> ThreadingHTTPServer:
    """Serves in a separate thread on all interfaces; `shutdown()` ends it.

    `/metrics?name[]=NAME` answers with the samples of these names only, as the Prometheus clients do.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            match asked.path:
                case "/healthz":
                    self._verdict(health.alive())
                case "/readyz":
                    self._verdict(health.ready())
                case "/metrics":
                    names = parse_qs(asked.query).get("name[]")
                    wanted = registry.restricted_registry(names) if names else registry
                    self._answer(200, generate_latest(cast("Collector", wanted)), CONTENT_TYPE_LATEST)
                case _:
                    self._answer(404, b"/healthz /readyz /metrics\n")

        def _verdict(self, problem: str) -> None:
            self._answer(503 if problem else 200, f"{problem or 'ok'}\n".encode())

        def _answer(self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Probes are not logged, because they come every few seconds."""

    server = ThreadingHTTPServer(("", port), Handler)
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
