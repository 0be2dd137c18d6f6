"""A client of the API server with plain JSON objects. `kubernetes` gives configuration, credentials and transport.

An answer that does not come from an API server (a page of a load balancer, JSON that is not an object, half an event)
raises ApiUnreachable: the request may or may not have been carried out.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kubernetes import client, config
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError

Json = dict[str, Any]
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 30.0
POOL_CONNECTIONS = 16
"""Enough for three watches and the workers' requests at the same time."""
SHOWN_BYTES = 200
"""Bytes of an answer that is not JSON, quoted in a message."""
CONTROLLER = "potstill-controller"
"""The controller's user agent, which appears in audit logs and in managedFields."""
MERGE_PATCH = "application/merge-patch+json"
JSON_TYPE = "application/json"


class ApiUnreachable(Exception):
    """There was no answer, or none from an API server: the request may or may not have been carried out."""


class ApiError(Exception):
    """The API server refused the request. `what` names the object and its kind."""

    def __init__(self, status: int, reason: str, message: str, what: str) -> None:
        super().__init__(f"{what}: {status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class Api:
    def __init__(self, transport: client.ApiClient) -> None:
        self._transport = transport

    def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        query: Mapping[str, str] | None = None,
        content_type: str = JSON_TYPE,
    ) -> Json:
        """Returns the answer's JSON. Raises ApiError, ApiUnreachable."""
        with closing(self._open(method, path, body, query, content_type, ANSWER_SECONDS)) as response:
            try:
                data = response.read()
            except (HTTPError, OSError) as error:
                raise ApiUnreachable(f"{method} {path}: the answer broke off: {error}") from error
        return _decoded(response.status, data, f"{method} {path}")

    def stream(self, path: str, query: Mapping[str, str], silent_seconds: float) -> Iterator[Json]:
        """Yields the events of a watch until the server ends it.

        Raises ApiError, and ApiUnreachable if the connection breaks or sends nothing for `silent_seconds`.
        """
        response = self._open("GET", path, None, query, JSON_TYPE, silent_seconds)
        with closing(response):
            rest = b""
            try:
                if response.status != 200:
                    _decoded(response.status, response.read(), f"watch {path}")
                    raise ApiUnreachable(f"watch {path}: answered {response.status}, which is not a watch")
                while piece := response.read1(65536):
                    *lines, rest = (rest + piece).split(b"\n")
                    yield from (_event(line, path) for line in lines if line.strip())
            except (HTTPError, OSError) as error:
                raise ApiUnreachable(f"watch {path}: {error}") from error
            if rest.strip():
                _event(rest, path)
                raise ApiUnreachable(f"watch {path}: ended within a line")

    def _open(
        self,
        method: str,
        path: str,
        body: object,
        query: Mapping[str, str] | None,
        content_type: str,
        answer_seconds: float,
    ) -> Any:
        headers = {"Accept": JSON_TYPE, "Content-Type": content_type}
        request = self._transport.param_serialize(
            method, path, query_params=list((query or {}).items()), header_params=headers, auth_settings=["BearerToken"]
        )
        try:
            response = self._transport.rest_client.request(
                request[0],
                request[1],
                headers=request[2],
                body=body,
                _request_timeout=(CONNECT_SECONDS, answer_seconds),
            )
        except client.ApiException as error:
            raise ApiUnreachable(f"{method} {path}: {error.reason}") from error
        except (HTTPError, OSError) as error:
            raise ApiUnreachable(f"{method} {path}: {error}") from error
        return response.response


def _decoded(status: int, data: bytes, what: str) -> Json:
    """Returns the object in an answer.

    Raises ApiError for a status from 400, ApiUnreachable for anything but a JSON object.
    """
    try:
        value = json.loads(data) if data else {}
    except ValueError:
        value = None
    if status >= 400:
        parsed = value if isinstance(value, dict) else {"message": _start(data)}
        raise ApiError(status, str(parsed.get("reason") or ""), str(parsed.get("message") or ""), what)
    if not isinstance(value, dict):
        raise ApiUnreachable(f"{what}: answered {status} with what is not a JSON object: {_start(data)}")
    return value


def _event(line: bytes, path: str) -> Json:
    """Returns a watch event with `type` and `object`. Raises ApiUnreachable for anything else."""
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    if isinstance(value, dict) and isinstance(value.get("type"), str) and isinstance(value.get("object"), dict):
        return value
    raise ApiUnreachable(f"watch {path}: sent what is not an event: {_start(line)}")


def _start(data: bytes) -> str:
    return data[:SHOWN_BYTES].decode(errors="replace")


def connect(kubeconfig: Path | None = None, context: str | None = None, agent: str = "potstill") -> Api:
    """Makes the client from a kubeconfig, or from the pod's own service account.

    `agent` names the client in audit logs and managedFields. Raises ConfigException if there is neither.
    """
    settings = client.Configuration()
    settings.retries = False
    settings.connection_pool_maxsize = POOL_CONNECTIONS
    if kubeconfig is not None:
        config.load_kube_config(str(kubeconfig), context=context, client_configuration=settings)
    else:
        try:
            config.load_incluster_config(client_configuration=settings)
        except ConfigException:
            config.load_kube_config(context=context, client_configuration=settings)
    transport = client.ApiClient(settings)
    transport.user_agent = f"{agent}/{version('potstill')}"
    return Api(transport)
