"""An HTTP proxy in front of the S3 server. A test sets the action for each request, by its number."""

import contextlib
import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Do(Enum):
    FORWARD = auto()
    LOSE = auto()
    """Close the connection; the server never gets the request."""
    LOSE_ANSWER = auto()
    """The server handles the request; its answer never arrives."""
    CUT_ANSWER = auto()
    """Half of the answer's body arrives."""
    FLIP = auto()
    """One bit of the answer's body differs, and no checksum reveals it."""


@dataclass(frozen=True)
class Answer:
    """An answer in the server's place. `page`: the whole body, from a proxy that does not know S3."""

    status: int
    code: str
    page: str | None = None

    def body(self) -> bytes:
        if self.page is not None:
            return self.page.encode()
        return f"<?xml version='1.0'?><Error><Code>{self.code}</Code><Message>made by a test</Message></Error>".encode()


@dataclass(frozen=True)
class Seen:
    number: int
    """From 1, in the order of arrival."""
    method: str
    path: str
    headers: dict[str, str] = field(repr=False)

    @property
    def writes(self) -> bool:
        return self.method in ("PUT", "POST")


@dataclass
class HttpProxy:
    url: str
    rule: Callable[[Seen], Do | Answer] = lambda _: Do.FORWARD
    seen: list[Seen] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)


@contextmanager
def http_proxy(upstream: str) -> Iterator[HttpProxy]:
    address = urlsplit(upstream).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
            with proxy.lock:
                seen = Seen(len(proxy.seen) + 1, self.command, self.path, headers)
                proxy.seen.append(seen)
                wanted = proxy.rule(seen)
            if isinstance(wanted, Answer):
                self._answer(wanted.status, {}, wanted.body())
                return
            if wanted is Do.LOSE:
                self._hang_up()
                return
            connection = http.client.HTTPConnection(address, timeout=60)
            try:
                connection.request(self.command, self.path, body, headers)
                came = connection.getresponse()
                content, told = came.read(), dict(came.getheaders())
            except (OSError, http.client.HTTPException):  # the server is away
                self._hang_up()
                return
            finally:
                connection.close()
            if wanted is Do.LOSE_ANSWER:
                self._hang_up()
                return
            if wanted is Do.FLIP:
                content = content[:-2] + bytes([content[-2] ^ 1]) + content[-1:]
                told = {name: value for name, value in told.items() if "checksum" not in name.lower()}
            self._answer(came.status, told, content, cut=wanted is Do.CUT_ANSWER)

        do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

        def _answer(self, status: int, headers: dict[str, str], body: bytes, cut: bool = False) -> None:
            self.send_response_only(status)
            stated = {name: value for name, value in headers.items() if name.lower() not in ("transfer-encoding",)}
            stated.setdefault("Content-Length", str(len(body)))
            for name, value in stated.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body[: len(body) // 2] if cut else body)
            if cut:
                self._hang_up()

        def _hang_up(self) -> None:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy = HttpProxy(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
