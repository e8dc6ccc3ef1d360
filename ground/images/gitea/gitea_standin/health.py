"""Health and metrics."""

from __future__ import annotations

import hmac
import json
import os
import resource
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from werkzeug import Response
from werkzeug.routing import Rule

from . import log
from .context import Context, route
from .database import DatabaseError
from .release import Release
from .web import plain_error, text_response

_STARTED = time.time()
# What Gitea counts, in its order and its words, with the table; the stand-in has none of the others.
_COUNTED = {
    "accesses": ("Accesses", ""),
    "attachments": ("Attachments", "attachment"),
    "comments": ("Comments", "comment"),
    "follows": ("Follows", ""),
    "hooktasks": ("HookTasks", ""),
    "issues": ("Issues", "issue WHERE NOT is_pull"),
    "issues_closed": ("Closed Issues", "issue WHERE is_closed AND NOT is_pull"),
    "issues_open": ("Open Issues", "issue WHERE NOT is_closed AND NOT is_pull"),
    "labels": ("Labels", "label"),
    "loginsources": ("LoginSources", ""),
    "milestones": ("Milestones", ""),
    "mirrors": ("Mirrors", ""),
    "oauths": ("Oauths", ""),
    "organizations": ("Organizations", '"user" WHERE type = 1'),
    "projects": ("projects", ""),
    "projects_boards": ("project columns", ""),
    "publickeys": ("PublicKeys", "public_key"),
    "releases": ("Releases", "release"),
    "repositories": ("Repositories", "repository"),
    "stars": ("Stars", ""),
    "teams": ("Teams", ""),
    "updatetasks": ("UpdateTasks", ""),
    "users": ("Users", '"user" WHERE type = 0'),
    "watches": ("Watches", ""),
    "webhooks": ("Webhooks", ""),
}


def routes(_release: Release) -> list[Rule]:
    """The paths that monitoring asks for."""
    return [route("GET", "/api/healthz", healthz), route("GET", "/metrics", metrics)]


def healthz(context: Context) -> Response:
    """200 while the database answers, 424 otherwise."""
    status = _database_status(context)
    now = datetime.now(UTC).isoformat()
    checks = {"cache:ping": "pass", "database:ping": status}
    content = {
        "status": status,
        "description": context.settings.app_name,
        "checks": {name: [{"status": each, "time": now}] for name, each in checks.items()},
    }
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
        return plain_error("", 401)
    escaping = "underscores" if context.instance.release.since(1, 26) else "values"
    kind = f"text/plain; version=0.0.4; charset=utf-8; escaping={escaping}"
    return Response(_metrics_text(context), content_type=kind)


def _metrics_text(context: Context) -> str:
    release = context.instance.release
    build = f'{{goarch="amd64",goos="linux",goversion="stand-in",version="{release.version}"}}'
    metrics = {
        f"gitea_{name}": (f"Number of {what}", "", _count(context, table)) for name, (what, table) in _COUNTED.items()
    }
    metrics["gitea_build_info"] = ("Build information", build, 1)
    if release.since(1, 26):
        active = _count(context, '"user" WHERE type = 0 AND is_active')
        metrics["gitea_users"] = ("Number of Users", '{state="active"}', active)
    lines = []
    for name, (words, labels, value) in sorted(metrics.items()):
        lines += [f"# HELP {name} {words}", f"# TYPE {name} gauge", f"{name}{labels} {value}"]
    return "\n".join([*lines, *_of_the_process()]) + "\n"


def _of_the_process() -> Iterator[str]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    values = {
        "process_start_time_seconds": f"{_STARTED:.2f}",
        "process_cpu_seconds_total": f"{used.ru_utime + used.ru_stime:.2f}",
        "process_resident_memory_bytes": resident,
    }
    for name, value in values.items():
        yield f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}"
        yield f"{name} {value}"


def _count(context: Context, table: str) -> int:
    if not table:
        return 0
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
