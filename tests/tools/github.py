"""The part of GitHub's API for a workflow's comment, with GitHub's pages and status codes: comments of an issue, in
memory.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

REPOSITORY = "lab/models"
TOKEN = "test-token"
Comment = dict[str, Any]


class Comments:
    def __init__(self, url: str) -> None:
        self.url = url
        self.all: list[Comment] = []
        self.written: list[str] = []
        """POST or PATCH, one for each write."""

    def add(self, body: str, by: str = "Bot") -> Comment:
        self.all.append({"id": 1000 + len(self.all), "body": body, "user": {"type": by}})
        return self.all[-1]

    def answer(self, method: str, path: str, body: dict[str, str]) -> tuple[int, Any]:
        parts, root = urlsplit(path), f"/repos/{REPOSITORY}/issues"
        if method == "GET" and parts.path == f"{root}/7/comments":
            asked = {name: int(values[0]) for name, values in parse_qs(parts.query).items()}
            size = min(asked.get("per_page", 30), 100)
            first = size * (asked.get("page", 1) - 1)
            return 200, self.all[first : first + size]
        if method == "POST" and parts.path == f"{root}/7/comments":
            self.written.append(method)
            return 201, self.add(body["body"])
        if method == "PATCH" and parts.path.startswith(f"{root}/comments/"):
            for comment in self.all:
                if parts.path == f"{root}/comments/{comment['id']}":
                    self.written.append(method)
                    comment["body"] = body["body"]
                    return 200, comment
        return 404, {"message": "Not Found"}


@contextmanager
def github_comments() -> Iterator[Comments]:
    """Yields an API at `.url` whose repository REPOSITORY has pull request 7; it requires TOKEN."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
            status, told = 401, {"message": "Bad credentials"}
            if self.headers.get("Authorization") == f"Bearer {TOKEN}":
                status, told = comments.answer(self.command, self.path, body)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(told).encode())

        do_GET = do_POST = do_PATCH = handle_any  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        comments = Comments(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield comments
        server.shutdown()
        thread.join()
