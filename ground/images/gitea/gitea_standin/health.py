"""Health and metrics."""

from __future__ import annotations

import hmac
import json
import os
import resource
import time
from datetime import UTC, datetime
from pathlib import Path

from . import log
from .context import Context
from .database import DatabaseError
from .messages import Response, text_response

_STARTED = time.time()
_TABLES = {
    "gitea_users": '"user"',
    "gitea_repositories": "repository",
    "gitea_issues": "issue",
    "gitea_issues_open": "issue WHERE NOT is_closed",
    "gitea_issues_closed": "issue WHERE is_closed",
    "gitea_publickeys": "public_key",
}
_ALWAYS_ZERO = (
    "accesses",
    "actions",
    "attachments",
    "comments",
    "follows",
    "hooktasks",
    "labels",
    "loginsources",
    "milestones",
    "mirrors",
    "oauths",
    "organizations",
    "projects",
    "projects_boards",
    "releases",
    "stars",
    "teams",
    "updatetasks",
    "watches",
    "webhooks",
)


def healthz(context: Context) -> Response:
    """200 while database and cache answer, 424 otherwise."""
    checks = {"cache:ping": [_check("pass")], "database:ping": [_check(_database_status(context))]}
    status = "pass" if all(check["status"] == "pass" for entry in checks.values() for check in entry) else "fail"
    return _document(
        {"status": status, "description": context.settings.app_name, "checks": checks}, 200 if status == "pass" else 424
    )


def installation_healthz() -> Response:
    """Always 200: an instance that waits to be installed is healthy."""
    return _document({"status": "pass", "description": "Gitea: Installation stage"}, 200)


def metrics(context: Context) -> Response:
    """Prometheus' text; 404 unless enabled, 401 without the token when there is one."""
    settings = context.settings
    if not settings.metrics_enabled:
        return text_response("Not found.\n", 404)
    wanted = f"Bearer {settings.metrics_token}"
    if settings.metrics_token and not hmac.compare_digest(context.request.header("Authorization"), wanted):
        return text_response("\n", 401)
    return Response(200, {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}, _metrics_text(context).encode())


def _metrics_text(context: Context) -> str:
    version = context.instance.release.version
    build = f'goarch="amd64",goos="linux",goversion="stand-in",version="{version}"'
    lines = [
        "# HELP gitea_build_info Build information",
        "# TYPE gitea_build_info gauge",
        f"gitea_build_info{{{build}}} 1",
    ]
    values = {name: _count(context, table) for name, table in _TABLES.items()}
    values |= {f"gitea_{name}": 0 for name in _ALWAYS_ZERO}
    for name, value in sorted(values.items()):
        lines += [f"# HELP {name} Number of {name.removeprefix('gitea_')}", f"# TYPE {name} gauge", f"{name} {value}"]
    return "\n".join(lines + _process_lines()) + "\n"


def _count(context: Context, table: str) -> int:
    return int(context.database.returned(f"SELECT count(*) AS n FROM {table}")["n"])  # noqa: S608 - our tables


def _process_lines() -> list[str]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return [
        "# TYPE process_start_time_seconds gauge",
        f"process_start_time_seconds {_STARTED:.2f}",
        "# TYPE process_cpu_seconds_total counter",
        f"process_cpu_seconds_total {used.ru_utime + used.ru_stime:.2f}",
        "# TYPE process_resident_memory_bytes gauge",
        f"process_resident_memory_bytes {resident}",
    ]


def _database_status(context: Context) -> str:
    try:
        context.database.ping()
    except DatabaseError as error:
        log.error("healthcheck/check.go:checkDatabase()", f"database ping failed with error: {error}")
        return "fail"
    return "pass"


def _check(status: str) -> dict[str, str]:
    return {"status": status, "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}


def _document(content: object, status: int) -> Response:
    return Response(status, {"Content-Type": "application/json"}, json.dumps(content, indent=2).encode())
