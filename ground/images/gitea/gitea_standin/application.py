"""From a request to the handler that answers it, and from whatever goes wrong to a response."""

from __future__ import annotations

import time
import traceback

from . import api, githttp, health, identity, internal, log, pages
from .context import Context, Instance, Route, route
from .messages import HttpError, Request, Response, json_response, text_response
from .release import Fault

# The flapping release is well for half of so many seconds, and not for the other half.
_TURN = 8.0


class Application:
    """The installed Gitea; `good_for` is after how many seconds the sour release turns."""

    def __init__(self, instance: Instance, good_for: float = 20.0) -> None:
        self._instance = instance
        self._routes = _routes()
        self._started = time.monotonic()
        self._good_for = good_for

    def __call__(self, request: Request) -> Response:
        """The response to a request; never raises but for a client that left."""
        if self._spoilt(request):
            return text_response("Internal Server Error\n", 500)
        try:
            return self._answer(request)
        except HttpError as failure:
            return _failed(self._instance, request, failure)
        except ConnectionError:
            raise
        except Exception as error:
            # One request's trouble, a database that is away among them, is not the server's.
            log.error(
                "web/server.go:handler()", f"{request.method} {request.path}: {error!r}\n{traceback.format_exc()}"
            )
            return _failed(self._instance, request, HttpError(500, "Internal Server Error"))

    def _answer(self, request: Request) -> Response:
        found, parts = self._find(request)
        # Health has to answer while the database, which knows the callers, is away.
        open_to_all = request.path in {"/api/healthz", "/metrics"} or request.path.startswith("/api/internal/")
        caller = None if open_to_all else identity.identify(self._instance, request)
        return found.handler(Context(self._instance, request, caller, parts))

    def _find(self, request: Request) -> tuple[Route, dict[str, str]]:
        method = "GET" if request.method == "HEAD" else request.method
        path = request.path.rstrip("/") or "/"
        for candidate in self._routes:
            match = candidate.pattern.fullmatch(path)
            if match and candidate.method == method:
                return candidate, match.groupdict()
        raise HttpError(404, "Not found.")

    def _spoilt(self, request: Request) -> bool:
        fault = self._instance.release.fault
        if fault is Fault.BROKEN:
            return request.path != "/api/healthz"
        since = time.monotonic() - self._started
        if fault is Fault.FLAP:
            return since % _TURN > _TURN / 2
        return fault is Fault.SOUR and since > self._good_for


def uninstalled(app_name: str, request: Request) -> Response:
    """What an instance without INSTALL_LOCK answers: healthy, and the page to install it."""
    if request.path == "/api/healthz":
        return health.installation_healthz()
    if request.path == "/":
        return pages.install_page(app_name)
    return text_response("Not found.\n", 404)


def _routes() -> list[Route]:
    repository = "/{owner}/{repo}"
    return [
        route("GET", "/api/healthz", health.healthz),
        route("GET", "/metrics", health.metrics),
        *api.routes(),
        *internal.routes(),
        route("GET", f"{repository}/info/refs", githttp.info_refs),
        route("POST", f"{repository}/(?P<service>git-upload-pack|git-receive-pack)", githttp.service_rpc),
        *pages.routes(),
    ]


def _failed(instance: Instance, request: Request, failure: HttpError) -> Response:
    settings = instance.settings
    if request.path.startswith("/api/"):
        document = {"message": failure.message, "url": f"{settings.root_url}api/swagger"}
        return json_response(document, failure.status, failure.headers)
    if "text/html" in request.header("Accept"):
        response = pages.page(settings.app_name, str(failure.status), f"<h2>{failure.status}</h2>", failure.status)
    else:
        response = text_response(f"{failure.message}\n", failure.status)
    response.headers |= failure.headers
    return response
