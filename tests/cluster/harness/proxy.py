"""A proxy before the API server that makes the faults a client has to live with.

It speaks plain HTTP to its clients, one request a connection, and passes each on over TLS as HTTP/1.0, so that a watch
is plain lines until the connection closes. Faults befall the requests whose "METHOD /path?query" matches a pattern.
"""

import asyncio
import json
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

Result = TypeVar("Result")
LINE_BYTES = 1 << 26


@dataclass(frozen=True)
class Request:
    line: str
    """GET /api/v1/pods?watch=true"""
    monotonic_seconds: float
    """When it came."""


@dataclass
class _Answer:
    pattern: re.Pattern[str]
    status: int
    headers: dict[str, str]
    remaining: int


@dataclass(frozen=True, eq=False)
class _Stream:
    """A request being passed on."""

    line: str
    client: asyncio.StreamWriter


class ApiProxy:
    """Its methods may be called from any thread; each has taken effect when it returns."""

    def __init__(self, upstream: str, certificate_authority: Path) -> None:
        self.url = ""
        self.requests: list[Request] = []
        """All that came, in order, those answered with a fault too."""
        target = urlsplit(upstream)
        self._upstream = (target.hostname, target.port)
        self._tls = ssl.create_default_context(cafile=str(certificate_authority))
        self._answers: list[_Answer] = []
        self._silent: re.Pattern[str] | None = None
        self._refusing = False
        self._delay_seconds = 0.0
        self._streams: set[_Stream] = set()
        self._loop = asyncio.new_event_loop()

    def cut(self, pattern: str = "") -> int:
        """Resets all open connections in the middle of their data. Returns their number."""
        return self._do(lambda: self._cut(re.compile(pattern)))

    def refuse(self) -> None:
        """Closes every connection, and new ones at once, until `heal`."""

        def act() -> None:
            self._refusing = True
            self._cut(re.compile(""))

        self._do(act)

    def silence(self, pattern: str = "") -> None:
        """Keeps connections open, also new ones, and sends nothing on them until `heal` closes them."""

        def act() -> None:
            self._silent = re.compile(pattern)

        self._do(act)

    def delay(self, seconds: float) -> None:
        """Pass each new request on this much later."""

        def act() -> None:
            self._delay_seconds = seconds

        self._do(act)

    def answer(self, status: int, pattern: str = "", times: int = 1, headers: dict[str, str] | None = None) -> None:
        """Answer the next `times` requests with an error instead of passing them on: 500, 503, 429, 410, 409 ..."""
        self._do(lambda: self._answers.append(_Answer(re.compile(pattern), status, headers or {}, times)))

    def expire_watches(self, pattern: str = "") -> int:
        """End the open watches with the ERROR event of a resource version that is too old. How many there were."""

        def act() -> int:
            told = {"type": "ERROR", "object": _status(410, "Expired", "too old resource version: 1 (2)")}
            watches = [stream for stream in self._streams if _is_watch(stream.line) and re.search(pattern, stream.line)]
            for stream in watches:
                stream.client.write(json.dumps(told).encode() + b"\n")
                stream.client.close()
            return len(watches)

        return self._do(act)

    def heal(self) -> None:
        """No faults any more."""

        def act() -> None:
            if self._silent:
                self._cut(self._silent)
            self._answers.clear()
            self._silent, self._refusing, self._delay_seconds = None, False, 0.0

        self._do(act)

    def open_streams(self, pattern: str = "") -> list[str]:
        """The requests being passed on now."""
        return self._do(lambda: [stream.line for stream in self._streams if re.search(pattern, stream.line)])

    def _cut(self, pattern: re.Pattern[str]) -> int:
        streams = [
            stream
            for stream in self._streams
            if pattern.search(stream.line) and not stream.client.transport.is_closing()
        ]
        for stream in streams:
            connection: socket.socket = stream.client.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            stream.client.transport.abort()
        return len(streams)

    def _do(self, act: Callable[[], Result]) -> Result:
        async def run() -> Result:
            return act()

        return self._run(run())

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    async def _serve(self) -> asyncio.Server:
        server = await asyncio.start_server(self._handle, "127.0.0.1", 0, limit=LINE_BYTES)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return server

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            if not self._refusing:
                await self._handle_request(reader, writer)
        writer.close()

    async def _handle_request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *headers = head.split("\r\n")[:-2]
        line = line.removesuffix(" HTTP/1.1")
        length = next((int(header[15:]) for header in headers if header.lower().startswith("content-length:")), 0)
        body = await reader.readexactly(length)
        self.requests.append(Request(line, time.monotonic()))
        if fault := next((fault for fault in self._answers if fault.pattern.search(line)), None):
            fault.remaining -= 1
            if not fault.remaining:
                self._answers.remove(fault)
            writer.write(_error_answer(fault))
            await writer.drain()
            return
        if self._delay_seconds:
            await asyncio.sleep(self._delay_seconds)
        async with self._registered(line, writer):
            kept = [header for header in headers if not header.lower().startswith(("connection:", "accept-encoding:"))]
            request = "\r\n".join([f"{line} HTTP/1.0", *kept, "Connection: close", "", ""]).encode("latin-1") + body
            gone = asyncio.ensure_future(reader.read(1))
            try:
                await self._pass_on(request, line, writer, gone)
            finally:
                gone.cancel()

    @asynccontextmanager
    async def _registered(self, line: str, writer: asyncio.StreamWriter) -> AsyncIterator[None]:
        stream = _Stream(line, writer)
        self._streams.add(stream)
        try:
            yield
        finally:
            self._streams.remove(stream)

    async def _pass_on(
        self, request: bytes, line: str, client: asyncio.StreamWriter, gone: asyncio.Future[bytes]
    ) -> None:
        host, port = self._upstream
        if self._silent and self._silent.search(line):
            await gone
            return
        reader, writer = await asyncio.open_connection(host, port, ssl=self._tls, limit=LINE_BYTES)
        try:
            writer.write(request)
            while data := await _line_or_gone(reader, gone):
                if self._silent and self._silent.search(line):
                    await gone
                    return
                client.write(data)
                await client.drain()
        finally:
            writer.close()


async def _line_or_gone(reader: asyncio.StreamReader, gone: asyncio.Future[bytes]) -> bytes:
    """The next line, or nothing where the client has gone."""
    line = asyncio.ensure_future(reader.readline())
    await asyncio.wait([line, gone], return_when=asyncio.FIRST_COMPLETED)
    if line.done():
        return line.result()
    line.cancel()
    return b""


def _is_watch(line: str) -> bool:
    return "watch=true" in line.lower() or "watch=1" in line


def _status(code: int, reason: str, message: str) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


def _error_answer(fault: _Answer) -> bytes:
    body = json.dumps(_status(fault.status, "", "a fault made by the test's proxy")).encode()
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
    } | fault.headers
    lines = [f"HTTP/1.1 {fault.status} Fault", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + body


@contextmanager
def api_proxy(upstream: str, certificate_authority: Path) -> Iterator[ApiProxy]:
    """A proxy before the API server at `upstream`, without faults at first; for `kubeconfig(url=proxy.url)`."""
    proxy = ApiProxy(upstream, certificate_authority)
    thread = threading.Thread(target=proxy._loop.run_forever, daemon=True)
    thread.start()
    server = proxy._run(proxy._serve())
    try:
        yield proxy
    finally:
        proxy.heal()
        proxy.cut()
        proxy._do(server.close)
        proxy._loop.call_soon_threadsafe(proxy._loop.stop)
        thread.join(timeout=10)
