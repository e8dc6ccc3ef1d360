"""The WSGI application: finds the handler of a request and turns errors into responses."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

import werkzeug
from werkzeug import Response
from werkzeug.exceptions import HTTPException, MethodNotAllowed, abort
from werkzeug.exceptions import NotFound as NoRoute
from werkzeug.routing import Map

from . import api, contents, events, githttp, health, identity, internal, log, pages, storage
from .context import Context, Handler, Instance
from .headers import complete
from .web import Challenge, Missing, Request, empty, json_response, plain_error, text_response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_NO_PAGE = "404 page not found"


class Application:
    """The installed Gitea."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        modules = (health, api, internal, githttp, pages, events, contents, storage)
        routes = [route for module in modules for route in module.routes(instance.release)]
        self._routes = Map(routes, strict_slashes=False, merge_slashes=False).bind("")

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """The response to a request; raises ConnectionError alone, when the client is gone."""
        request = Request(environ)
        return complete(self._instance.release, request, self._response(request))(environ, start_response)

    def _response(self, request: Request) -> Response:
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
        if (request.path, request.method) == ("/", "HEAD"):
            return empty(200)
        try:
            handler, path = self._route(request)
        except NoRoute:
            return self._without_route(request)
        # Health has to answer while the database, which holds the accounts, is away.
        anonymous = request.path in {"/api/healthz", "/metrics"} or request.path.startswith("/api/internal/")
        author = None if anonymous else identity.identify(self._instance, request)
        return handler(Context(self._instance, request, author, path))

    def _route(self, request: Request) -> tuple[Handler, dict[str, Any]]:
        try:
            handler, path = self._routes.match(request.path, request.method)
        except MethodNotAllowed:
            raise NoRoute from None
        return handler, dict(path)

    def _without_route(self, request: Request) -> Response:
        if request.path.startswith("/api/internal/") and not self._instance.release.since(1, 26):
            return plain_error("Forbidden", 403)
        if request.path.startswith("/api/"):
            return plain_error(_NO_PAGE, 404)
        return abort(404, "Not found.")

    def _failure(self, request: Request, failure: HTTPException) -> Response:
        if failure.response is not None:
            return cast("Response", failure.response)
        if isinstance(failure, Missing):
            return json_response(self._missing(failure), 404)
        status, swagger = failure.code or 500, f"{self._instance.settings.root_url}api/swagger"
        if request.path.startswith("/api/"):
            response = json_response({"message": failure.description, "url": swagger}, status)
        else:
            response = self._failed_page(request, str(failure.description), status)
        if isinstance(failure, Challenge) and not request.path.startswith("/api/v1/"):
            response = response if request.path.startswith("/api/") else plain_error(str(failure.description), status)
            response.headers["WWW-Authenticate"] = 'Basic realm="Gitea"'
        return response

    def _failed_page(self, request: Request, text: str, status: int) -> Response:
        old = not self._instance.release.since(1, 26)
        if "text/html" in request.headers.get("Accept", "") or (old and status == 500):
            return pages.page(self._instance.settings.app_name, str(status), f"<h2>{status}</h2>", status)
        if status == 500:
            return Response("Internal Server Error", status, content_type="text/plain; charset=utf-8")
        response = text_response(f"{text}\n", status)
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    def _missing(self, failure: Missing) -> dict[str, Any]:
        release = self._instance.release
        swagger = {"url": f"{self._instance.settings.root_url}api/swagger"}
        if not release.since(1, 26):
            errors = [failure.detail] if failure.detail else None
            return {"message": "The target couldn't be found.", "errors": errors, **swagger}
        return {"message": "not found", **swagger, **({} if release.since(1, 27) else {"errors": None})}


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
