"""The server of the page: HTML, its files, and JSON for all content. It answers GET and HEAD only.

The content of the store is hostile: pages show it through `textContent`, a stored report is served into a sandbox with
a separate origin, and names in an address must be among those that a LIST of the store returned.

scipy and pandas take seconds to load. They are imported after the server has begun to listen: modules that need them
are imported in the functions that use them.
"""

import gzip
import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, is_dataclass
from functools import lru_cache
from importlib.metadata import version as version_of
from importlib.resources import files
from threading import Event, Thread
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controller.ui.experiments import Experiments, Key, UnknownExperiment
from controller.ui.kept import Kept
from controller.ui.live import LiveView
from controller.ui.metric_files import MetricFiles
from controller.ui.outputs import Outputs, UnknownOutput
from controller.ui.request_clock import RequestClock
from workloads.api import store_keys
from workloads.report.series_styles import COLOURS, DASHES, SYMBOLS
from workloads.storage.base import NotFound, StoreError
from workloads.storage.markers import Corrupt

logger = logging.getLogger("potstill")

LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The policy of a stored report: its scripts have a separate origin, and can read nothing else here."""
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
A_YEAR = "public, max-age=31536000, immutable"
TASKS_SHOWN, FAILURES_SHOWN = 60, 30
WARM_UP_SECONDS = 5.0
"""How long the slow imports wait for the first list."""
QUIET_SECONDS = 1.0
"""After the first list, they wait until no request has come for this long."""
RESULTS_KEPT = 16
"""Tables and comparisons that are cached: those of a large experiment take a second to compute."""


@dataclass(frozen=True)
class Pages:
    """State that the handlers share."""

    experiments: Experiments
    files: MetricFiles
    outputs: Outputs
    results: Kept[Any]
    templates: Environment
    listed: Event
    """Set when the list has been served for the first time."""
    clock: RequestClock


def make_app(experiments: Experiments, hosts: Sequence[str] = ()) -> Starlette:
    """`hosts`: allowed names in a request's Host header in addition to LOCAL_HOSTS: names, or *.NAME."""
    templates = Environment(
        loader=PackageLoader("controller.ui"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    store = experiments.store
    pages = Pages(
        experiments, MetricFiles(store), Outputs(store), Kept(RESULTS_KEPT), templates, Event(), RequestClock()
    )

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> Any:
        Thread(target=_warm_up, args=(pages,), name="ui-warm-up", daemon=True).start()
        yield
        experiments.close()

    one = "/experiments/{name}/{version}"
    routes = [
        Route("/", _page(pages, "list.html.j2")),
        Route("/compare", _page(pages, "compare.html.j2")),
        Route(one, _page(pages, "experiment.html.j2")),
        Route(f"{one}/report", _handler(pages, _report)),
        Route("/api/experiments", _handler(pages, _experiments)),
        Route("/api/compare", _handler(pages, _compare)),
        Route(f"/api{one}", _handler(pages, _status)),
        Route(f"/api{one}/curves", _handler(pages, _curves)),
        Route(f"/api{one}/results", _handler(pages, _results)),
        Route(f"/api{one}/outputs", _handler(pages, _outputs)),
        Route(f"/api{one}/output", _handler(pages, _output)),
        Route("/healthz", _healthy),
        Route("/favicon.ico", _no_icon),
        Route("/static/plotly-{release}.js", _handler(pages, _plotly)),
        Route("/static/report.css", _handler(pages, _report_style)),
        Mount("/static", StaticFiles(packages=[("controller.ui", "static")])),
    ]
    middleware = [
        Middleware(SecurityHeaders),
        Middleware(TrustedHostMiddleware, allowed_hosts=[*LOCAL_HOSTS, *hosts], www_redirect=False),
        Middleware(GZipMiddleware, minimum_size=1000, compresslevel=5),
    ]
    return Starlette(routes=routes, middleware=middleware, lifespan=lifespan)


class SecurityHeaders:
    """Adds HEADERS to every answer, including errors, except headers that the answer sets itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                stated = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.encode(), value.encode())
                        for name, value in HEADERS.items()
                        if name.encode() not in stated
                    ),
                ]
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)


Handle = Callable[[Pages, Request], Response]


def _handler(pages: Pages, handle: Handle) -> Callable[[Request], Any]:
    """Runs `handle` in a thread, because the store blocks. Errors of the store become JSON."""

    async def endpoint(request: Request) -> Response:
        pages.clock.note()
        try:
            return await run_in_threadpool(handle, pages, request)
        except (UnknownExperiment, UnknownOutput, NotFound) as error:
            return _json(request, {"error": str(error)}, 404)
        except Corrupt as error:
            return _json(request, {"error": str(error)}, 422)
        except StoreError as error:
            return _json(request, {"error": str(error)}, 503)
        except Exception as error:  # an unexpected record must not stop the page
            logger.exception("%s", request.url.path)
            return _json(request, {"error": f"{type(error).__name__}: {error}; potstill ui has printed where"}, 500)

    return endpoint


def _json(request: Request, value: object, status: int = 200) -> Response:
    """Adds an ETag of the content: a page that asks again gets 304 while nothing has changed."""
    body = json.dumps(value, default=_plain, allow_nan=False, separators=(",", ":")).encode()
    return _tagged(request, body, "application/json", hashlib.sha256(body).hexdigest()[:32], status)


def _tagged(
    request: Request,
    body: bytes,
    media_type: str,
    tag: str,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    etag = f'"{tag}"'
    stated = {"etag": etag, "cache-control": "no-cache", **(headers or {})}
    known = [item.strip().removeprefix("W/") for item in request.headers.get("if-none-match", "").split(",")]
    if status == 200 and etag in known:
        return Response(status_code=304, headers=stated)
    return Response(body, status, stated, media_type)


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} has no JSON")


def _key(request: Request) -> Key:
    return request.path_params["name"], request.path_params["version"]


def _page(pages: Pages, template: str) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        name, version = request.path_params.get("name", ""), request.path_params.get("version", "")
        text = pages.templates.get_template(template).render(
            store=pages.experiments.store.url,
            name=name,
            version=version,
            plotly=f"/static/plotly-{version_of('plotly')}.js",
            plotly_styles=_plotly_styles(),
            styles=json.dumps({"colours": COLOURS, "symbols": SYMBOLS, "dashes": DASHES}),
        )
        body = text.encode(errors="replace")
        return _tagged(request, body, "text/html", hashlib.sha256(body).hexdigest()[:32])

    return endpoint


def _experiments(pages: Pages, request: Request) -> Response:
    found = pages.experiments.summaries()
    pages.listed.set()
    return _json(request, {"store": pages.experiments.store.url, "experiments": found})


def _status(pages: Pages, request: Request) -> Response:
    """Returns the experiment's line of the list, runs and evaluations with their state, open tasks, failures."""
    key = _key(request)
    summary = pages.experiments.summary(key)
    live = pages.experiments.live(key)
    trouble = None
    try:
        manifest = pages.experiments.manifest(key)
    except StoreError as error:
        manifest, trouble = None, str(error)
    failed = {e.id: e.reason for e in manifest.evaluations if e.state == "failed"} if manifest is not None else {}
    unreadable = [text for view in live.seen.units.values() for text in view.unreadable.values()]
    return _json(
        request,
        {
            "summary": summary,
            "runs": live.runs,
            "evaluations": [asdict(line) | _failed(failed, line.id) for line in live.lines],
            "tasks": live.tasks[:TASKS_SHOWN],
            "tasks_in_all": len(live.tasks),
            "failures": live.failures[-FAILURES_SHOWN:],
            "failures_in_all": len(live.failures),
            "damaged": [*([trouble] if trouble else []), *unreadable],
        },
    )


def _failed(failed: Mapping[str, str | None], name: str) -> dict[str, str]:
    """Returns the manifest's text about an evaluation with damaged files."""
    return {"state": "failed", "message": failed[name] or ""} if name in failed else {}


def _curves(pages: Pages, request: Request) -> Response:
    from controller.ui.curves import curves

    key = _key(request)
    live: LiveView = pages.experiments.live(key)
    try:
        manifest = pages.experiments.manifest(key)
    except StoreError:
        manifest = None  # the status shows it
    return _json(request, curves(pages.experiments.frozen(key), live, manifest, pages.files))


def _results(pages: Pages, request: Request) -> Response:
    from controller.ui.results import results

    key = _key(request)
    manifest = pages.experiments.manifest(key)
    if manifest is None:
        return _json(request, None)
    etag = pages.experiments.folder(key).manifest_etag
    return _json(request, pages.results.get((key, etag), lambda: results(manifest)))


def _outputs(pages: Pages, request: Request) -> Response:
    """Returns the outputs of `model` and `benchmark`; without these parameters the models that have outputs, by
    benchmark.
    """
    manifest = pages.experiments.manifest(_key(request))
    model, benchmark = request.query_params.get("model"), request.query_params.get("benchmark")
    if manifest is None:
        return _json(request, {"budgets": [], "readable": []})
    if model is None or benchmark is None:
        return _json(request, {"budgets": manifest.budgets, "readable": pages.outputs.readable(manifest)})
    return _json(request, pages.outputs.listed(manifest, model, benchmark))


def _output(pages: Pages, request: Request) -> Response:
    manifest = pages.experiments.manifest(_key(request))
    asked = {name: request.query_params.get(name, "") for name in ("model", "benchmark", "problem", "index")}
    if manifest is None or not (asked["index"].isascii() and asked["index"].isdigit()):
        raise UnknownOutput("there is no such output")
    shown = pages.outputs.one(manifest, asked["model"], asked["benchmark"], asked["problem"], int(asked["index"][:9]))
    return _json(request, shown)


def _compare(pages: Pages, request: Request) -> Response:
    from controller.ui.results import Side, comparison

    keys = [_named(request.query_params.get(name, "")) for name in ("old", "new")]
    etags = [pages.experiments.folder(key).manifest_etag for key in keys]

    def compared() -> object:
        old, new = (Side("@".join(key), pages.experiments.frozen(key), pages.experiments.manifest(key)) for key in keys)
        return comparison(old, new)

    return _json(request, pages.results.get((*keys, *etags), compared))


def _named(text: str) -> Key:
    name, _, version = text.rpartition("@")
    return name, version


def _report(pages: Pages, request: Request) -> Response:
    """Returns the report as it is in the store."""
    key = _key(request)
    etag = pages.experiments.folder(key).report_etag
    if etag is None:
        return PlainTextResponse(f"{key[0]}@{key[1]} has no report yet", 404)
    data = pages.experiments.store.get(store_keys.report_prefix(*key) + "index.html")
    tag = hashlib.sha256(data).hexdigest()[:32]
    return _tagged(request, data, "text/html", tag, headers={"content-security-policy": REPORT_POLICY})


async def _healthy(_request: Request) -> Response:
    return PlainTextResponse("ok\n")


async def _no_icon(_request: Request) -> Response:
    return Response(status_code=204)


def _report_style(_pages: Pages, request: Request) -> Response:
    """Returns the report's style sheet, so that both look the same."""
    body = _style()
    return _tagged(request, body, "text/css", hashlib.sha256(body).hexdigest()[:32])


@lru_cache(maxsize=1)
def _style() -> bytes:
    return (files("workloads.report") / "templates" / "page.css").read_bytes()


@lru_cache(maxsize=1)
def _plotly_file() -> bytes:
    """Returns plotly.js, compressed."""
    return gzip.compress(_plotly_source(), 6, mtime=0)


@lru_cache(maxsize=1)
def _plotly_styles() -> tuple[str, ...]:
    """Returns ids of the style elements that plotly.js adds for its maps unless there is an element with that id.

    The policy allows no style elements, and these pages have no map.
    """
    return tuple(found.decode() for found in re.findall(rb'getElementById\("([0-9a-f]{64})"\)', _plotly_source()))


def _plotly_source() -> bytes:
    return (files("plotly") / "package_data" / "plotly.min.js").read_bytes()


def _plotly(_pages: Pages, request: Request) -> Response:
    """Its address changes with its release, so that browsers cache it."""
    if request.path_params["release"] != version_of("plotly"):
        return PlainTextResponse("there is no such file", 404)
    headers = {"cache-control": A_YEAR, "content-encoding": "gzip", "vary": "accept-encoding"}
    return Response(_plotly_file(), headers=headers, media_type="text/javascript")


def _warm_up(pages: Pages) -> None:
    """Reads the list, and then imports slow modules, so that no page waits for them.

    The imports come when the first list has been served and the page is complete, because otherwise they would delay
    the first pages.
    """
    with suppress(StoreError):
        pages.experiments.summaries()
    _plotly_styles()
    pages.listed.wait(WARM_UP_SECONDS)
    pages.clock.wait_quiet(QUIET_SECONDS)
    _plotly_file()
    import controller.ui.curves
    import controller.ui.results  # noqa: F401 - they bring scipy and pandas
