"""A watch continues after every answer of a broken server or a proxy, and never without a pause."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from kubernetes import client

from controller.executors.kubernetes.api import Api, ApiUnreachable
from controller.executors.kubernetes.informer import Pace, Reflector
from tests.tools.processes import wait_until

PATH = "/api/v1/namespaces/team/configmaps"
PACE = Pace(watch_seconds=5, silent_seconds=5, first_seconds=0.05, longest_seconds=0.1, short_seconds=0.2)
LIST = {"metadata": {"resourceVersion": "1"}, "items": []}
PAGE = b"<html><body>502 Bad Gateway</body></html>"


def event(kind: str, **item: Any) -> bytes:
    return json.dumps({"type": kind, "object": item}).encode() + b"\n"


ADDED = event("ADDED", metadata={"name": "a", "namespace": "team", "resourceVersion": "2"})
GONE = event("ERROR", code=410, reason="Expired", message="too old resource version")
Answer = tuple[int, bytes]
ODD_WATCHES: dict[str, Answer] = {
    "a page with 200": (200, PAGE),
    "a page of several lines": (200, b"<html>\n<body>\n</html>\n"),
    "a cut line": (200, ADDED[: len(ADDED) // 2]),
    "JSON that is not an event": (200, b"[1]\n"),
    "an event without an object": (200, b'{"type": "ADDED"}\n'),
    "an object without a name": (200, event("ADDED", metadata={"resourceVersion": "2"})),
    "a bookmark without a version": (200, event("BOOKMARK", metadata={})),
    "an ERROR without a code": (200, event("ERROR")),
    "a version that is too old": (200, GONE),
    "bytes that are not text": (200, b"\xff\xfe\n"),
    "nothing": (200, b""),
    "no content": (204, b""),
    "503": (503, b"busy"),
    "an error that is a list": (500, b"[]"),
}
ODD_LISTS: dict[str, Answer] = {
    "a page with 200": (200, PAGE),
    "no items": (200, b'{"metadata": {"resourceVersion": "1"}}'),
    "items that are null": (200, b'{"metadata": {"resourceVersion": "1"}, "items": null}'),
    "no metadata": (200, b'{"items": []}'),
    "an item that is not an object": (200, b'{"metadata": {"resourceVersion": "1"}, "items": [7]}'),
    "nothing": (200, b""),
    "a number": (200, b"7"),
    "404": (404, b"{}"),
}


class Server:
    """Answers LISTs and watches as the test states; watches stay open for a while after ADDED."""

    def __init__(self) -> None:
        self.list: Answer | None = None
        self.watch: Answer | None = None
        self.lists = 0
        self.watches = 0


@contextmanager
def serving(server: Server) -> Iterator[str]:
    ending = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "watch=true" in self.path:
                server.watches += 1
                if server.watch is None:
                    self.send_response(200)
                    self.end_headers()
                    self.wfile.write(ADDED)
                    self.wfile.flush()
                    ending.wait(4)
                    return
                status, body = server.watch
            else:
                server.lists += 1
                status, body = server.list or (200, json.dumps(LIST).encode())
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_port}"
    finally:
        ending.set()
        http.shutdown()


def api_at(url: str) -> Api:
    settings = client.Configuration(host=url)
    settings.retries = False
    return Api(client.ApiClient(settings))


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def reflector(server: Server) -> Iterator[Callable[..., Reflector]]:
    with serving(server) as url:
        made: list[Reflector] = []

        def start(changed: Callable[[Any], None] = lambda _: None) -> Reflector:
            made.append(Reflector(api_at(url), PATH, changed, pace=PACE))
            made[-1].start()
            return made[-1]

        yield start
        for each in made:
            each.stop()


@pytest.mark.parametrize("name", ODD_WATCHES)
def test_no_odd_watch_ends_the_thread_or_is_asked_again_without_a_pause(
    name: str, server: Server, reflector: Callable[..., Reflector]
) -> None:
    server.watch = ODD_WATCHES[name]
    seen = reflector()
    began = time.monotonic()
    wait_until(lambda: seen.breaks >= 3, "three breaks")
    assert server.watches <= 4 + (time.monotonic() - began) / (PACE.first_seconds / 2)
    assert seen.is_alive
    server.watch = None
    wait_until(lambda: seen.get("team", "a"), "the copy is right again")


@pytest.mark.parametrize("name", ODD_LISTS)
def test_no_odd_list_ends_the_thread_or_empties_the_copy(
    name: str, server: Server, reflector: Callable[..., Reflector]
) -> None:
    listed = {"metadata": {"resourceVersion": "1"}, "items": [json.loads(ADDED)["object"]]}
    server.list = (200, json.dumps(listed).encode())
    server.watch = ODD_WATCHES["a version that is too old"]
    seen = reflector()
    assert seen.wait_synced(10)
    server.list = ODD_LISTS[name]
    breaks = seen.breaks
    wait_until(lambda: seen.breaks >= breaks + 3, "three breaks")
    assert (seen.is_alive, list(seen.objects())) == (True, [("team", "a")])
    server.list = server.watch = None
    wait_until(lambda: server.watches and not seen.get("team", "gone"), "it watches again")


def test_a_server_that_ends_each_watch_with_410_is_asked_with_growing_pauses(
    server: Server, reflector: Callable[..., Reflector]
) -> None:
    server.watch = (200, GONE)
    seen = reflector()
    began = time.monotonic()
    wait_until(lambda: seen.breaks >= 6, "six breaks")
    least = (PACE.first_seconds * 2 + PACE.first_seconds * 4 + 3 * PACE.longest_seconds) / 2
    assert time.monotonic() - began >= least * 0.9
    assert server.lists <= seen.breaks + 1


def test_a_listener_that_fails_does_not_hide_a_change_from_the_others(
    server: Server, reflector: Callable[..., Reflector]
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("a mistake")

    seen = reflector(fail)
    wait_until(lambda: seen.get("team", "a"), "the copy holds it")
    assert (seen.is_alive, seen.breaks) == (True, 0)


def test_a_page_in_place_of_an_answer_is_not_a_success(server: Server) -> None:
    server.list = (200, PAGE)
    with serving(server) as url, pytest.raises(ApiUnreachable, match="502 Bad Gateway"):
        api_at(url).request("GET", PATH)
