"""Health and metrics."""

from __future__ import annotations

import hmac
import json
import os
import resource
import time
from pathlib import Path

from werkzeug import Response
from werkzeug.routing import Rule

from . import log
from .context import Context, route
from .database import DatabaseError
from .web import text_response

_STARTED = time.time()
_COUNTED = {
    "gitea_users": '"user" WHERE type = 0',
    "gitea_repositories": "repository",
    "gitea_issues": "issue",
    "gitea_publickeys": "public_key",
}


def routes() -> list[Rule]:
    """The paths that monitoring asks for."""
    return [route("GET", "/api/healthz", healthz), route("GET", "/metrics", metrics)]


def healthz(context: Context) -> Response:
    """200 while the database answers, 424 otherwise."""
    status = _database_status(context)
    content = {"status": status, "checks": {"database:ping": [{"status": status}]}}
    return _document(content, 200 if status == "pass" else 424)


def not_installed() -> Response:
    """Always 200: an instance that waits for its installation is healthy."""
    return _document({"status": "pass"}, 200)


def metrics(context: Context) -> Response:
    """Prometheus' text format; 404 unless enabled, 401 for a wrong token when one is set."""
    settings, given = context.settings, context.request.headers.get("Authorization", "")
    if not settings.metrics_enabled:
        return text_response("Not found.\n", 404)
    if settings.metrics_token and not hmac.compare_digest(given.encode(), f"Bearer {settings.metrics_token}".encode()):
        return text_response("\n", 401)
    return Response(_metrics_text(context), content_type="text/plain; version=0.0.4; charset=utf-8")


def _metrics_text(context: Context) -> str:
    version = context.instance.release.version
    build = f'gitea_build_info{{goarch="amd64",goos="linux",goversion="stand-in",version="{version}"}}'
    used = resource.getrusage(resource.RUSAGE_SELF)
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    values: dict[str, object] = {build: 1}
    values |= {name: _count(context, table) for name, table in _COUNTED.items()}
    values |= {
        "process_start_time_seconds": f"{_STARTED:.2f}",
        "process_cpu_seconds_total": f"{used.ru_utime + used.ru_stime:.2f}",
        "process_resident_memory_bytes": resident,
    }
    lines = []
    for name, value in values.items():
        bare = name.partition("{")[0]
        lines += [f"# TYPE {bare} {'counter' if bare.endswith('_total') else 'gauge'}", f"{name} {value}"]
    return "\n".join(lines) + "\n"


def _count(context: Context, table: str) -> int:
    return int(context.database.returned(f"SELECT count(*) AS n FROM {table}")["n"])  # noqa: S608 - a name of _COUNTED


def _database_status(context: Context) -> str:
    try:
        context.database.row("SELECT 1 AS alive")
    except DatabaseError as error:
        log.error("healthcheck/check.go:checkDatabase()", f"database ping failed with error: {error}")
        return "fail"
    return "pass"


def _document(content: object, status: int) -> Response:
    return Response(json.dumps(content, indent=2), status, content_type="application/json")
