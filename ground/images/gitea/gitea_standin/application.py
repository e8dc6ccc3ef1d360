"""The WSGI application: finds the handler of a request and turns errors into responses."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterable
from typing import TYPE_CHECKING

import werkzeug
from werkzeug import Response
from werkzeug.exceptions import HTTPException, MethodNotAllowed, abort
from werkzeug.routing import Map

from . import api, contents, githttp, health, identity, internal, log, pages, storage
from .context import Context, Handler, Instance
from .release import Fault
from .web import Challenge, Request, json_response, text_response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# The flapping release is healthy for the first half of so many seconds and unhealthy for the other half.
_FLAP_SECONDS = 8.0


class Application:
    """The installed Gitea; the sour release is healthy for the first `good_for` seconds."""

    def __init__(self, instance: Instance, good_for: float) -> None:
        self._instance = instance
        routes = [*health.routes(), *api.routes(), *internal.routes(), *githttp.routes(), *pages.routes()]
        routes += [*contents.routes(), *storage.routes()]
        self._routes = Map(routes, strict_slashes=False, merge_slashes=False).bind("")
        self._started = time.monotonic()
        self._good_for = good_for

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """The response to a request; raises ConnectionError alone, when the client is gone."""
        return self._response(Request(environ))(environ, start_response)

    def _response(self, request: Request) -> Response:
        if self._fails(request):
            return text_response("Internal Server Error\n", 500)
        try:
            return self._handled(request)
        except HTTPException as failure:
            return self._failure(request, failure)
        except ConnectionError:
            raise
        except Exception as error:
            # An error of one request, a missing database for example, must not end the server.
            trace = traceback.format_exc()
            log.error("web/server.go:handler()", f"{request.method} {request.path}: {error!r}\n{trace}")
            return self._failure(request, HTTPException("Internal Server Error"))

    def _handled(self, request: Request) -> Response:
        handler, path = self._route(request)
        # Health has to answer while the database, which holds the accounts, is away.
        anonymous = request.path in {"/api/healthz", "/metrics"} or request.path.startswith("/api/internal/")
        author = None if anonymous else identity.identify(self._instance, request)
        return handler(Context(self._instance, request, author, path))

    def _route(self, request: Request) -> tuple[Handler, dict[str, str]]:
        try:
            handler, path = self._routes.match(request.path, request.method)
        except MethodNotAllowed:
            abort(404, "Not found.")
        return handler, dict(path)

    def _fails(self, request: Request) -> bool:
        fault, running = self._instance.release.fault, time.monotonic() - self._started
        if fault is Fault.BROKEN:
            return request.path != "/api/healthz"
        if fault is Fault.FLAP:
            return running % _FLAP_SECONDS > _FLAP_SECONDS / 2
        return fault is Fault.SOUR and running > self._good_for

    def _failure(self, request: Request, failure: HTTPException) -> Response:
        status, settings = failure.code or 500, self._instance.settings
        if request.path.startswith("/api/"):
            response = json_response({"message": failure.description, "url": f"{settings.root_url}api/swagger"}, status)
        elif "text/html" in request.headers.get("Accept", ""):
            response = pages.page(settings.app_name, str(status), f"<h2>{status}</h2>", status)
        else:
            response = text_response(f"{failure.description}\n", status)
        if isinstance(failure, Challenge):
            response.headers["WWW-Authenticate"] = 'Basic realm="Gitea"'
        return response


def not_installed(app_name: str) -> WSGIApplication:
    """An instance without INSTALL_LOCK: healthy, with the page to install it."""

    @Request.application
    def respond(request: werkzeug.Request) -> Response:
        if request.path == "/api/healthz":
            return health.not_installed()
        if request.path == "/":
            return pages.install_page(app_name)
        return text_response("Not found.\n", 404)

    return respond
