"""`potstill ui`: the page for all experiments of a store."""

import os
import re
import socket
import sys
from importlib.util import find_spec
from typing import Annotated

import typer

from controller.cli.common import DEFAULT_STORE, whole_url
from workloads.storage.base import DEADLINE_SECONDS, NoDirectory, open_store

PORT = 8321
STORE_SECONDS = 20.0
"""How long a request tries to reach the store, unless POTSTILL_STORE_DEADLINE_SECONDS is set."""
HOST_NAME = re.compile(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def ui(
    store: Annotated[
        str, typer.Argument(envvar="POTSTILL_STORE", help="A directory, or s3://bucket/prefix.", metavar="STORE")
    ] = DEFAULT_STORE,
    port: Annotated[int, typer.Option("--port", help="0 takes a free one.", min=0, max=65535)] = PORT,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen at. There is no authentication.")
    ] = "127.0.0.1",
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="A host name of the page, in addition to localhost. Can be repeated."),
    ] = None,
) -> None:
    """Serve a page for all experiments of a store: progress, curves, results, outputs. The store is only read.

    Example: potstill ui s3://lab/potstill
    """
    if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
        typer.echo(f"potstill ui needs {' and '.join(missing)}: install potstill with its extra `ui`", err=True)
        raise typer.Exit(2)
    import uvicorn

    from controller.ui.app import make_app
    from controller.ui.experiments import Experiments

    environment = {"POTSTILL_STORE_DEADLINE_SECONDS": str(min(STORE_SECONDS, DEADLINE_SECONDS))} | dict(os.environ)
    try:
        opened = open_store(whole_url(store), environment, make=False)
    except NoDirectory as error:
        raise NoDirectory(f"{error}; potstill run makes it") from None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="STORE") from error
    if wrong := [name for name in allow_host or [] if HOST_NAME.fullmatch(name) is None]:
        raise typer.BadParameter(f"{wrong[0]!r} is not a name: state names without a port", param_hint="--allow-host")
    listener = _listen(host, port)
    if host not in LOOPBACK:
        typer.echo(
            f"anyone who reaches {host} can read all experiments of {opened.url}: there is no password. Put a proxy "
            "that asks for one in front, or leave --host out and forward the port: ssh -L",
            err=True,
        )
    app = make_app(Experiments(opened), [*(allow_host or []), *_own_names(host)])
    shown = f"[{host}]" if ":" in host else host
    print(f"http://{shown}:{listener.getsockname()[1]}/ shows {opened.url}; Ctrl-C ends")
    sys.stdout.flush()
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=2,
    )
    uvicorn.Server(config).run(sockets=[listener])


def _own_names(host: str) -> list[str]:
    """Returns the names that a Host header may have for this address.

    For an address that means all interfaces there are none.
    """
    if host in (*LOOPBACK, "0.0.0.0", "::"):  # noqa: S104 - it is refused here
        return []
    return [f"[{host}]" if ":" in host else host]


def _listen(host: str, port: int) -> socket.socket:
    """Exits 2 if the server cannot listen at this address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        typer.echo(f"cannot listen at {host} port {port}: {error.strerror}. --port 0 takes a free one", err=True)
        raise typer.Exit(2) from error
    listener.listen(128)
    return listener
