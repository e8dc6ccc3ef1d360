"""gitea web and gitea migrate: migrate the database, then run the server."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from . import branches, git, log, repositories
from .application import Application, not_installed
from .context import Instance
from .database import Database, DatabaseError
from .http_server import Server
from .migrations import MigrationError
from .migrations import migrate as migrate_database
from .pushes import PushQueue
from .release import Release, installed_release
from .settings import Settings, load

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_ADDRESS = "0.0.0.0"
_WEB = "cmd/web.go:runWeb()"
_INIT = "routers/common/db.go:InitDBEngine()"
# How long a start takes, for tests of what waits for it; Gitea's own takes five seconds and more.
_START_SECONDS = "GITEA_STANDIN_START_SECONDS"


def web(_arguments: list[str]) -> int:
    """Serves until SIGTERM or SIGINT and returns 0. Raises SystemExit(1) for errors that end Gitea."""
    settings, release = load(), installed_release()
    log.info(_WEB, f"Starting Gitea on PID: {os.getpid()}")
    log.info(_WEB, f"Gitea version: {release.version}")
    time.sleep(float(os.environ.get(_START_SECONDS, "0")))
    if settings.install_lock:
        _serve_installed(settings, release)
    else:
        _serve(not_installed(settings.app_name), threading.Event(), settings)
    log.info(_WEB, f"PID: {os.getpid()} Gitea Web Finished")
    return 0


def migrate(_arguments: list[str]) -> int:
    """Migrates the database and returns 0. Raises SystemExit(1) when that fails."""
    settings = load()
    log.info("cmd/migrate.go:runMigrate()", f"Configuration file: {settings.path}")
    database = Database(settings.database)
    try:
        _migrate_once(database, installed_release())
    except DatabaseError as error:
        log.fatal("cmd/migrate.go:runMigrate()", f"Failed to initialize ORM engine: {error}")
    return 0


def _serve_installed(settings: Settings, release: Release) -> None:
    log.info(_WEB, "Global init")
    if settings.database.kind != "postgres":
        log.fatal(_INIT, f"this stand-in supports PostgreSQL only, DB_TYPE is {settings.database.kind}")
    _require_cache(settings.cache)
    git.write_config(settings.data_directory)
    settings.repositories.mkdir(parents=True, exist_ok=True)
    database = Database(settings.database)
    _initialise(database, settings, release)
    pushes = PushQueue(
        settings.data_directory / "queues/common", lambda number, refs: _enter(database, settings, number, refs)
    )
    pushes.start()
    instance = Instance(settings, release, database, pushes)
    _serve(Application(instance), instance.stopping, settings)
    database.close()


def _enter(database: Database, settings: Settings, number: int, refs: dict[str, str]) -> None:
    repository = repositories.of_id(database, number)
    if repository is not None:
        branches.finish_push(database, settings, repository, refs)


def _require_cache(address: str) -> None:
    """Ends Gitea when its cache server does not answer, as Gitea does. It is not used."""
    if not address:
        return
    url = urlsplit(address if "://" in address else f"redis://{address}")
    try:
        socket.create_connection((url.hostname or "", url.port or 6379), timeout=3).close()
    except OSError as error:
        log.fatal("routers/init.go:mustInit()", f"code.gitea.io/gitea/modules/cache.Init failed: dial tcp: {error}")


def _serve(application: WSGIApplication, stopping: threading.Event, settings: Settings) -> None:
    server = Server(_ADDRESS, settings.http_port, application, stopping)
    log.info(_WEB, f"Listen: http://{_ADDRESS}:{settings.http_port}")
    log.info(_WEB, f"AppURL(ROOT_URL): {settings.root_url}")
    # From 1.26 on, Gitea takes SIGTERM twice, and the second time for the order not to wait.
    server.run_until_signal(0 if installed_release().since(1, 26) else settings.grace_seconds)
    log.info(_WEB, f"HTTP Listener: {_ADDRESS}:{settings.http_port} Closed")


def _initialise(database: Database, settings: Settings, release: Release) -> None:
    tries = max(1, settings.database.retries)
    log.info(_INIT, "Beginning ORM engine initialization.")
    for attempt in range(1, tries + 1):
        log.info(_INIT, f"ORM engine initialization attempt #{attempt}/{tries}...")
        try:
            _migrate_once(database, release)
            return
        except DatabaseError as error:
            log.error(_INIT, f"ORM engine initialization attempt #{attempt}/{tries} failed. Error: {error}")
        if attempt < tries:
            log.info(_INIT, f"Backing off for {settings.database.backoff:g} seconds")
            time.sleep(settings.database.backoff)
    log.fatal("routers/init.go:InitWebInstalled()", "ORM engine initialization failed")


def _migrate_once(database: Database, release: Release) -> None:
    try:
        with database.connection() as connection:
            migrate_database(connection, release)
    except MigrationError as error:
        log.fatal("models/migrations/migrations.go:Migrate()", f"Migration Error: {error}")
