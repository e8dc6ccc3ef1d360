"""The door to the site's database: one session of psql inside its container, and its own dump and restore programs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ops.errors import OpsError

USER = "gitea"
_END = "-- end of the answer"


class Session:
    """An open session. What is asked in a transaction is of the one moment at which that began."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, statement: str) -> list[list[str]]:
        """Return the rows that a statement gives, their columns as text; raises OpsError with the database's words."""
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(f"{statement};\n\\echo '{_END}'\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._gone() from error
        rows: list[list[str]] = []
        for line in self._process.stdout:
            if line.rstrip("\n") == _END:
                return rows
            rows.append(line.rstrip("\n").split("\t"))
        raise self._gone(rows)

    def _gone(self, rows: list[list[str]] | None = None) -> OpsError:
        self._process.wait()
        said = " ".join("\t".join(row) for row in rows or [])
        return OpsError(f"the database ended the session: {said}", "look at the log of postgres")


class Postgres:
    """Opens sessions with databases in running containers."""

    @contextmanager
    def session(self, container: str, database: str = USER) -> Iterator[Session]:
        """Open a session, and close it at the end of the block; an open transaction is rolled back.

        It is connected when the block begins: what is asked while the site stands still is answered at once.
        """
        argv = ["psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--field-separator=\t"]
        process = subprocess.Popen(
            [*docker_exec(container, interactive=True), *argv, "--set=ON_ERROR_STOP=1", f"--username={USER}", database],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            opened = Session(process)
            opened.ask("SELECT 1")
            yield opened
        finally:
            assert process.stdin
            assert process.stdout
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.stdout.close()
            process.wait()


def dump(container: str, snapshot: str = "") -> list[str]:
    """Return the program that writes a dump, of an exported snapshot or of now.

    It is not compressed: restic finds what is the same.
    """
    moment = [f"--snapshot={snapshot}"] if snapshot else []
    options = ["--format=custom", "--compress=0", *moment, f"--username={USER}", USER]
    return [*docker_exec(container), "pg_dump", *options]


def load(container: str, database: str) -> list[str]:
    """Return the program that fills an empty database with the dump it reads, wholly or not at all."""
    options = ["--exit-on-error", "--single-transaction", "--no-owner", f"--username={USER}", f"--dbname={database}"]
    return [*docker_exec(container, interactive=True), "pg_restore", *options]


def list_dump(container: str) -> list[str]:
    """Return the program that lists what is in the dump it reads. It reads to the end, though it needs but the beginning."""
    listed = 'pg_restore --list; code=$?; cat >/dev/null; exit "$code"'
    return [*docker_exec(container, interactive=True), "sh", "-c", listed]


def base_backup(container: str) -> list[str]:
    """Return the program that writes the database's files as one tar archive; it needs the log of that time to be of use."""
    options = ["--format=tar", "--pgdata=-", "--wal-method=none", "--checkpoint=fast", f"--username={USER}"]
    return [*docker_exec(container), "pg_basebackup", *options]


def receive_wal(container: str, image: str, folder: Path, *, slot: str, name: str) -> list[str]:
    """Return the program that writes the log of the database in a container into a folder of this machine, as it grows.

    It runs in a container of its own, named so, from the database's own image. It is on the database's network, where
    initdb's rules let the loopback in without a password; nothing of it is left when it ends.
    """
    shut_in = ["--user=0:0", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--read-only", "--memory=128m"]
    place = [f"--name={name}", f"--network=container:{container}", f"--volume={folder}:/wal", "--log-driver=none"]
    options = [
        "--host=127.0.0.1",
        f"--username={USER}",
        "--no-password",
        "--directory=/wal",
        f"--slot={slot}",
        "--no-loop",
    ]
    run = ["docker", "run", "--rm", "--pull=never", "--entrypoint=pg_receivewal", *place, *shut_in]
    return [*run, image, *options]


def docker_exec(container: str, *, interactive: bool = False) -> list[str]:
    """Return how a program is run inside a container."""
    return ["docker", "exec", *(["--interactive"] if interactive else []), container]
