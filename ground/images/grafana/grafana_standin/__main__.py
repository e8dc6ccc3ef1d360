"""A stand-in for Grafana 13.2, not Grafana: the parts of its HTTP API that the suite uses, without its pages.

docs/stand-in.md lists what it does not do. It reads the real provisioning files and settings in GF_* variables, and passes
queries to the real Prometheus. Unlike Grafana it does not start with a wrong file: Grafana logs some of these errors only.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import os
import secrets
import signal
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from werkzeug import Request, Response
from werkzeug.serving import make_server

from .provisioning import Provisioned, Unusable, load

COOKIE = "grafana_session"
PORT = 3000
SECONDS = 30.0
_NO_PAGES = "<!doctype html><title>Grafana</title><p>A stand-in: it has no pages."
# Grafana's login limit: five wrong passwords for a user within five minutes.
WRONG, WINDOW = 5, 300.0


@dataclass(frozen=True)
class Settings:
    """The settings, with Grafana's own defaults. ``prefix`` is the path of its address without the last slash."""

    user: str
    password: str
    prefix: str
    secure: bool
    home: str
    version: str
    folder: Path


@dataclass
class State:
    """What lives as long as the process: sessions, and the times of wrong passwords."""

    sessions: set[str] = field(default_factory=set)
    wrong: list[float] = field(default_factory=list)


def settings_from(environment: Mapping[str, str]) -> Settings:
    """Return the settings of GF_* variables; one with the suffix __FILE is read from its file. Raises Unusable."""

    def get(name: str, default: str = "") -> str:
        file = environment.get(f"GF_{name}__FILE")
        try:
            return Path(file).read_text(encoding="utf-8").strip() if file else environment.get(f"GF_{name}", default)
        except OSError as error:
            raise Unusable(f"GF_{name}__FILE: {error}") from error

    if get("AUTH_ANONYMOUS_ENABLED", "false") == "true":
        raise Unusable("GF_AUTH_ANONYMOUS_ENABLED: the stand-in has no anonymous access")
    address = urllib.parse.urlsplit(get("SERVER_ROOT_URL", f"http://localhost:{PORT}/"))
    below = get("SERVER_SERVE_FROM_SUB_PATH", "false") == "true"
    return Settings(
        get("SECURITY_ADMIN_USER", "admin"),
        get("SECURITY_ADMIN_PASSWORD", "admin"),
        address.path.rstrip("/") if below else "",
        get("SECURITY_COOKIE_SECURE", "false") == "true",
        get("DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"),
        environment.get("STANDIN_VERSION", ""),
        Path(get("PATHS_PROVISIONING", "/etc/grafana/provisioning")),
    )


class Grafana:
    """The WSGI application."""

    def __init__(self, settings: Settings, provisioned: Provisioned) -> None:
        self._settings, self._provisioned, self._state = settings, provisioned, State()

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        """Answer a request."""
        request = Request(environ)
        return self._answer(request)(environ, start)

    def _answer(self, request: Request) -> Response:
        prefix = self._settings.prefix
        if prefix and not request.path.startswith(f"{prefix}/"):
            return Response(status=301, headers={"Location": f"{prefix}/{request.path.lstrip('/')}"})
        path = request.path.removeprefix(prefix)
        if path == "/api/health":
            return _json({"database": "ok", "version": self._settings.version, "commit": "stand-in"})
        if path == "/login":
            return self._login(request)
        refusal = self._refusal(request, path)
        return refusal or self._known(request, path)

    def _login(self, request: Request) -> Response:
        if request.method != "POST":
            return Response(
                "<!doctype html><title>Grafana</title><p>A stand-in: sign in with POST /login.", mimetype="text/html"
            )
        given = request.get_json(silent=True) or request.form
        if not self._is_right(str(given.get("user", "")), str(given.get("password", ""))):
            return _wrong_password()
        session = secrets.token_hex(16)
        self._state.sessions.add(session)
        answer = _json({"message": "Logged in", "redirectUrl": f"{self._settings.prefix}/"})
        path = self._settings.prefix or "/"
        answer.set_cookie(COOKIE, session, path=path, httponly=True, secure=self._settings.secure, samesite="Lax")
        return answer

    def _is_right(self, user: str, password: str) -> bool:
        now = time.monotonic()
        self._state.wrong = [each for each in self._state.wrong if now - each < WINDOW]
        if len(self._state.wrong) >= WRONG:
            return False
        wanted = f"{self._settings.user}:{self._settings.password}".encode()
        right = hmac.compare_digest(f"{user}:{password}".encode(), wanted)
        if not right:
            self._state.wrong.append(now)
        return right

    def _refusal(self, request: Request, path: str) -> Response | None:
        """Return the answer to a request that is not signed in, else None."""
        if request.cookies.get(COOKIE) in self._state.sessions:
            return None
        header = request.headers.get("Authorization", "")
        if header.startswith("Basic "):
            try:
                user, _, password = base64.b64decode(header[6:], validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                return _wrong_password()
            return None if self._is_right(user, password) else _wrong_password()
        if path.startswith("/api/"):
            return _json({"message": "Unauthorized", "messageId": "auth.unauthorized", "statusCode": 401}, 401)
        return Response(status=302, headers={"Location": f"{self._settings.prefix}/login"})

    def _known(self, request: Request, path: str) -> Response:
        """Return the answer to a request of somebody who is signed in."""
        parts = path.strip("/").split("/")
        match parts:
            case ["api", "dashboards", "uid", uid]:
                return self._dashboard(request, uid)
            case ["api", "datasources", "proxy", "uid", uid, *rest]:
                return self._proxy(request, uid, "/".join(rest))
            case ["api", "dashboards", "db"] if request.method == "POST":
                return _json({"message": "Cannot save provisioned dashboard"}, 400)
            case ["api", *rest]:
                return self._listed("/".join(rest))
        if parts[0] in {"", "d"}:
            return Response(_NO_PAGES, mimetype="text/html")
        return Response("Page not found", 404)

    def _listed(self, name: str) -> Response:
        settings, provisioned = self._settings, self._provisioned
        lists: dict[str, Callable[[], Any]] = {
            "search": lambda: [_found(each, settings.prefix) for each in provisioned.dashboards.values()],
            "datasources": lambda: [
                {**each, "readOnly": not each.get("editable", False)} for each in provisioned.sources.values()
            ],
            "user": lambda: {"login": settings.user, "isGrafanaAdmin": True},
            "dashboards/home": lambda: {"dashboard": json.loads(Path(settings.home).read_text(encoding="utf-8"))},
        }
        return _json(lists[name]()) if name in lists else _json({"message": "Not found"}, 404)

    def _dashboard(self, request: Request, uid: str) -> Response:
        found = self._provisioned.dashboards.get(uid)
        if found is None:
            return _json({"message": "Dashboard not found"}, 404)
        if request.method == "DELETE":
            return _json({"message": "provisioned dashboard cannot be deleted"}, 400)
        meta = {"provisioned": True, "canSave": False, "folderTitle": found["folder"], "folderUid": found["folderUid"]}
        return _json({"meta": meta, "dashboard": found["document"]})

    def _proxy(self, request: Request, uid: str, rest: str) -> Response:
        source = self._provisioned.sources.get(uid)
        if source is None:
            return _json({"message": "Unable to find datasource"}, 404)
        if request.method not in {"GET", "POST"}:
            return _json({"message": "non allow-listed method"}, 403)
        query = request.query_string.decode()
        address = f"{str(source['url']).rstrip('/')}/{rest}{'?' if query else ''}{query}"
        headers = {"Content-Type": request.content_type} if request.content_type else {}
        body = request.get_data() if request.method == "POST" else None
        try:
            asked = urllib.request.Request(address, data=body, headers=headers, method=request.method)
            with urllib.request.urlopen(asked, timeout=SECONDS) as answer:
                return Response(answer.read(), answer.status, mimetype="application/json")
        except urllib.error.HTTPError as error:
            return Response(error.read(), error.code, mimetype="application/json")
        except OSError:
            return _json({"message": "Bad Gateway"}, 502)


def _found(each: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    document = each["document"]
    return {
        "uid": document["uid"],
        "title": document["title"],
        "type": "dash-db",
        "tags": document.get("tags", []),
        "url": f"{prefix}/d/{document['uid']}",
        "folderTitle": each["folder"],
        "folderUid": each["folderUid"],
    }


def _json(document: Any, status: int = HTTPStatus.OK) -> Response:
    return Response(json.dumps(document), status, mimetype="application/json")


def _wrong_password() -> Response:
    text = {"message": "Invalid username or password", "messageId": "password-auth.failed", "statusCode": 401}
    return _json(text, 401)


def main() -> int:
    """Serve until SIGTERM; exit code 1 for a setting or a file that cannot be used."""
    try:
        settings = settings_from(os.environ)
        provisioned = load(settings.folder, os.environ)
    except Unusable as error:
        print(f'level=error msg="Failed to provision" error="{error}"', file=sys.stderr, flush=True)
        return 1
    server = make_server("0.0.0.0", PORT, Grafana(settings, provisioned), threaded=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f'level=info msg="HTTP Server Listen" dashboards={len(provisioned.dashboards)}', flush=True)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
