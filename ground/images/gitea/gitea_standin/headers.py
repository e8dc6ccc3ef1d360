"""The headers and cookies that Gitea adds to every answer of a kind; they differ by release."""

from __future__ import annotations

import secrets

from werkzeug import Response
from werkzeug.http import dump_cookie

from .release import Release
from .web import Request

SESSION_COOKIE = "i_like_gitea"
CSRF_COOKIE = "_csrf"
_DAY = 24 * 3600
# Paths outside the API and the pages: what answers them sets no headers of its own.
_PLAIN = ("/api/healthz", "/metrics", "/api/internal/", "/api/packages/", "/v2/")


def complete(release: Release, request: Request, response: Response) -> Response:
    """The answer with the headers of its path."""
    path = request.path
    if path.startswith("/api/v1/"):
        _api(release, response)
    elif not path.startswith(_PLAIN) and (path, request.method) != ("/", "HEAD"):
        _page(release, request, response)
    if release.since(1, 27):
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("X-Frame-Options", "SAMEORIGIN")
    return response


def set_cookie(response: Response, name: str, value: str, max_age: int | None = None, *, secure: bool = False) -> None:
    """Sets a cookie as Gitea does."""
    cookie = dump_cookie(
        name, value, max_age, path="/", secure=secure, httponly=True, samesite="Lax", sync_expires=False
    )
    response.headers.add("Set-Cookie", cookie)


def _api(release: Release, response: Response) -> None:
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    # From 1.26 on, Go's own server answers unknown paths.
    if response.mimetype == "application/json" or response.status_code < 400 or not release.since(1, 26):
        response.headers.setdefault("Cache-Control", _fresh(release))
    if not release.since(1, 26):
        response.headers.setdefault("X-Frame-Options", "SAMEORIGIN")


def _page(release: Release, request: Request, response: Response) -> None:
    response.headers.setdefault("Cache-Control", _fresh(release))
    response.headers.setdefault("X-Frame-Options", "SAMEORIGIN")
    given = {cookie.partition("=")[0] for cookie in response.headers.getlist("Set-Cookie")} | set(request.cookies)
    if SESSION_COOKIE not in given:
        set_cookie(response, SESSION_COOKIE, secrets.token_hex(8))
    if CSRF_COOKIE not in given and not release.since(1, 26):
        set_cookie(response, CSRF_COOKIE, secrets.token_urlsafe(24), _DAY)


def _fresh(release: Release) -> str:
    return "max-age=0, private, must-revalidate" + ("" if release.since(1, 27) else ", no-transform")
