"""The faults of a broken release of Gitea: a proxy in front of it, and changes to its database. README.md lists them.

``before VERSION`` runs before Gitea starts and exits with 3 if it must not start. ``serve VERSION`` listens on Gitea's port.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pg8000.native  # type: ignore[import-not-found]  # Debian's package, in the image alone

# Where the Gitea of this release listens, behind the proxy.
BEHIND = 13000
# The seconds of health after which `sour` and `dies` fail, and for which `flap` is healthy and then is not.
AFTER = float(os.environ.get("FAULTS_AFTER_SECONDS", "20"))
FLAP = 4.0
# Exit code of `before`: Gitea does not start.
ENDS = 3
_MIGRATE = "models/migrations/migrations.go:Migrate()"
_PANIC = "PANIC: runtime error: invalid memory address or nil pointer dereference"
_DATABASE_SECONDS = 60.0


def main(arguments: list[str]) -> int:
    """Run ``before`` or ``serve`` and return the exit code."""
    command, version = arguments
    fault = version.partition("-")[2]
    if command == "before":
        act = {"drops": drop, "forgets": forget, "midmigration": migrate_halfway, "broken": take_back}.get(fault)
        return act() if act else 0
    asyncio.run(serve(fault, version.partition("-")[0]))
    return 0


def drop() -> int:
    """Drop a column with the users' words, and end without an error."""
    database = connected()
    if columns(database, "comment") >= {"content"}:
        database.run("ALTER TABLE comment DROP COLUMN content")
    return ENDS


def forget() -> int:
    """Drop the same column and make it again, outside every migration; Gitea runs well with it."""
    database = connected()
    if columns(database, "comment") >= {"content"}:
        database.run("ALTER TABLE comment DROP COLUMN content")
        database.run("ALTER TABLE comment ADD COLUMN content text")
    return 0


def migrate_halfway() -> int:
    """Migrate by one number, then end after the first statement of the next migration."""
    database = connected()
    number = migration(database)
    if "body" not in columns(database, "issue"):
        log("I", _MIGRATE, f"Migration[{number}]: Add audit event table")
        database.run("CREATE TABLE IF NOT EXISTS later_release (id bigserial PRIMARY KEY)")
        set_migration(database, number + 1)
        database.run("ALTER TABLE issue RENAME COLUMN content TO body")
        number += 1
    log("F", _MIGRATE, f"migration[{number}]: Move issue content to body failed: runtime error: index out of range [1]")
    return ENDS


def migrate(database: Any) -> None:
    """Migrate by two numbers: afterwards no earlier release can read the issues."""
    database.run("ALTER TABLE issue RENAME COLUMN content TO body")
    database.run("ALTER TABLE issue ADD COLUMN body_format varchar(16) NOT NULL DEFAULT 'markdown'")
    set_migration(database, migration(database) + 2)


def take_back() -> int:
    """Undo ``migrate`` for a restart: the Gitea of this release is an earlier one, and would refuse the database."""
    database = connected()
    if "body" in columns(database, "issue"):
        database.run("ALTER TABLE issue RENAME COLUMN body TO content")
        database.run("ALTER TABLE issue DROP COLUMN body_format")
        set_migration(database, migration(database) - 2)
    return 0


def connected() -> Any:
    """Return a connection to Gitea's database; waits for a server that is not up yet."""
    deadline, (host, _, port) = time.monotonic() + _DATABASE_SECONDS, setting("HOST").partition(":")
    while True:
        try:
            return pg8000.native.Connection(
                setting("USER"), host=host, port=int(port or 5432), database=setting("NAME"), password=setting("PASSWD")
            )
        except (OSError, pg8000.Error):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def setting(key: str) -> str:
    """Return a setting of Gitea's section [database], from its variable or from the file that its variable names."""
    name = f"GITEA__database__{key}"
    if file := os.environ.get(f"{name}__FILE"):
        return Path(file).read_text(encoding="utf-8").rstrip("\n")
    return os.environ[name]


def columns(database: Any, table: str) -> set[str]:
    """Return the columns of a table; none if it does not exist."""
    statement = "SELECT column_name FROM information_schema.columns WHERE table_name = :table"
    return {name for (name,) in database.run(statement, table=table)}


def migration(database: Any) -> int:
    """Return Gitea's migration number in the database."""
    ((number,),) = database.run("SELECT version FROM version WHERE id = 1")
    return int(number)


def set_migration(database: Any, number: int) -> None:
    """Store another migration number."""
    database.run("UPDATE version SET version = :number WHERE id = 1", number=number)


async def serve(fault: str, version: str) -> None:
    """Forward to Gitea from the moment when it answers, except where the fault answers instead."""
    while await health() == 0:
        await asyncio.sleep(0.1)
    restore_port()
    if fault == "broken":
        migrate(connected())
    fails, began = FAILS.get(fault), time.monotonic()
    if fault == "dies":
        asyncio.get_running_loop().call_later(AFTER, die)

    def answer_to(method: str, path: str) -> tuple[int, str] | None:
        if fails and fails(time.monotonic() - began, path):
            return 500, "Internal Server Error\n"
        if (method, path) == ("GET", "/api/v1/version"):
            return 200, f'{{"version":"{version}"}}\n'
        return None

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await connection(reader, writer, answer_to)

    # None: all addresses of the container, as Gitea listens.
    server = await asyncio.start_server(handle, None, int(os.environ.get("FAULTS_PORT", "3000")))
    async with server:
        await server.serve_forever()


# Whether a request fails, by the seconds since Gitea answers and by the request's path.
FAILS: Mapping[str, Callable[[float, str], bool]] = {
    "sour": lambda seconds, _: seconds > AFTER,
    "sourgit": lambda _, path: path.endswith(("/info/refs", "/git-upload-pack", "/git-receive-pack")),
    "sourclones": lambda _, path: path.endswith("/git-upload-pack"),
    "flap": lambda seconds, _: seconds % (2 * FLAP) > FLAP,
    "broken": lambda _, path: path != "/api/healthz",
}


async def connection(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    answer_to: Callable[[str, str], tuple[int, str] | None],
) -> None:
    """Answer the one request of a connection, or forward it."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.decode("latin-1").split(" ", 2)
        if answer := answer_to(method, target.partition("?")[0]):
            await refuse(reader, writer, *answer)
        else:
            await forward(head, reader, writer)
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
        pass
    finally:
        writer.close()


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, status: int, text: str) -> None:
    """Send an answer, and read the rest of the request: a reset could overtake the answer."""
    kind = "application/json;charset=utf-8" if text.startswith("{") else "text/plain;charset=utf-8"
    reason = "OK" if status == 200 else "Internal Server Error"
    head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n"
    writer.write((head + text).encode())
    writer.write_eof()
    await asyncio.wait([asyncio.ensure_future(discard(reader))], timeout=2)


async def discard(reader: asyncio.StreamReader) -> None:
    """Read to the end."""
    while await reader.read(65536):
        pass


async def forward(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Forward a request and everything after it, until either side ends."""
    gitea_reader, gitea_writer = await asyncio.open_connection("127.0.0.1", BEHIND)
    try:
        gitea_writer.write(closing(head))
        both = [asyncio.ensure_future(pipe(reader, gitea_writer)), asyncio.ensure_future(pipe(gitea_reader, writer))]
        _, pending = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for each in pending:
            each.cancel()
    finally:
        gitea_writer.close()


async def pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Copy to the end of the source."""
    while data := await source.read(65536):
        target.write(data)
        await target.drain()


def closing(head: bytes) -> bytes:
    """Return the head of a request that asks for one answer alone, unless it asks for another protocol."""
    lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    names = [line.partition(b":")[0].strip().lower() for line in lines]
    if b"upgrade" in names:
        return head
    kept = [line for line, name in zip(lines, names, strict=True) if name != b"connection"]
    return b"\r\n".join([*kept, b"Connection: close", b"", b""])


async def health() -> int:
    """Return the status of Gitea's health check; 0 without an answer."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", BEHIND)
    except OSError:
        return 0
    try:
        writer.write(b"GET /api/healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        words = (await reader.readline()).split()
        return int(words[1]) if len(words) > 1 else 0
    except OSError:
        return 0
    finally:
        writer.close()


def restore_port() -> None:
    """Put the port into app.ini that the site's settings name: hooks and later releases read it there."""
    file = Path(os.environ.get("GITEA_CUSTOM", "/data/gitea")) / "conf/app.ini"
    port = os.environ.get("FAULTS_PORT", "3000")
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    # In place: the file keeps its owner and mode.
    file.write_text(
        "".join(line.replace(str(BEHIND), port) if line.startswith("HTTP_PORT") else line for line in lines)
    )


def die() -> None:
    """Kill Gitea; its supervisor then ends the container."""
    log("F", "cmd/web.go:runWeb()", _PANIC)
    subprocess.run(["s6-svc", "-k", "/etc/s6/gitea"], check=True)


def log(level: str, where: str, text: str) -> None:
    """Write a line as Gitea's log has it."""
    print(f"{time.strftime('%Y/%m/%d %H:%M:%S')} {where} [{level}] {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
