"""The Kubernetes API as JSON over HTTP, for what tests themselves have to say to it."""

import json
from pathlib import Path
from typing import Any

import urllib3

Object = dict[str, Any]


class ApiRefusedError(Exception):
    """The API server answered with an error."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class Api:
    """Calls as one user. May be used by many threads."""

    def __init__(self, url: str, token: str, certificate_authority: Path) -> None:
        self.url = url
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        timeout = urllib3.Timeout(connect=5, read=30)
        self._pool = urllib3.PoolManager(
            ca_certs=str(certificate_authority), timeout=timeout, retries=False, maxsize=16
        )

    def get(self, path: str) -> Object:
        return self.call("GET", path)

    def post(self, path: str, body: Object) -> Object:
        return self.call("POST", path, body)

    def put(self, path: str, body: Object) -> Object:
        return self.call("PUT", path, body)

    def patch(self, path: str, body: Object, kind: str = "merge-patch") -> Object:
        """`kind`: merge-patch, strategic-merge-patch (built-in kinds) or apply-patch (the path names the manager)."""
        return self.call("PATCH", path, body, f"application/{kind}+{'yaml' if kind == 'apply-patch' else 'json'}")

    def delete(self, path: str, policy: str = "Background") -> Object:
        return self.call("DELETE", path, {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy})

    def refusal(self, method: str, path: str, body: Object) -> ApiRefusedError | None:
        """The error that this is answered with, None if it is none."""
        try:
            self.call(method, path, body)
        except ApiRefusedError as refused:
            return refused
        return None

    def items(self, path: str) -> list[Object]:
        found: list[Object] = self.get(path)["items"]
        return found

    def exists(self, path: str) -> bool:
        try:
            self.get(path)
        except ApiRefusedError as refused:
            if refused.status != 404:
                raise
            return False
        return True

    def call(self, method: str, path: str, body: Object | None = None, content: str = "application/json") -> Object:
        """One request, its answer parsed.

        Raises:
            ApiRefusedError: the API server answered with an error.
            urllib3.exceptions.HTTPError: no answer.
        """
        data = None if body is None else json.dumps(body)
        answer = self._pool.request(method, self.url + path, data, headers=self._headers | {"Content-Type": content})
        if answer.status >= 400:
            raise _refusal(answer.status, answer.data)
        told: Object = json.loads(answer.data)
        return told

    def text(self, path: str) -> str:
        """An answer that is not JSON: logs of a container, /metrics, /healthz."""
        answer = self._pool.request("GET", self.url + path, headers=self._headers | {"Accept": "*/*"})
        if answer.status >= 400:
            raise _refusal(answer.status, answer.data)
        return answer.data.decode()


def _refusal(status: int, data: bytes) -> ApiRefusedError:
    try:
        told = json.loads(data)
    except ValueError:
        return ApiRefusedError(status, "", data.decode(errors="replace"))
    return ApiRefusedError(status, told.get("reason", ""), told.get("message", ""))
