"""The adapter for the site's database: a psql session inside its container, and PostgreSQL's own programs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ops.errors import OpsError
from ops.world.environment import environment_for

USER = "gitea"
_END = "-- end of the answer"
# Before each statement that a load without rights leaves out.
LEFT_OUT = "left out: "
# The dump cannot be read twice, so a second pg_restore reads a copy of the stream. It ends after the list of contents, and
# cat takes the rest.
_LOAD_WITHOUT_RIGHTS = f"""folder=$(mktemp -d) && mkfifo "$folder/copy" || exit 1
trap 'rm -rf "$folder"' EXIT
{{
    pg_restore --schema-only --file=- 2>/dev/null |
        grep -E '^(GRANT|REVOKE|ALTER DEFAULT PRIVILEGES) |^ALTER .* OWNER TO ' |
        grep -v -E ' (TO|FROM) {USER};$' | sed 's/^/{LEFT_OUT}/'
    cat >/dev/null
}} <"$folder/copy" &
tee "$folder/copy" | pg_restore "$@"
code=$?
wait
exit $code"""

TABLE, ROW, ABSENT = "= ", "+ ", "-"
# pg_restore writes the rows as SQL: a COPY statement per table, a line per row, and a line with a backslash and a dot.
_DUMP_ROWS = rf"""wanted=$1; shift
exec 4>&1
code=$({{ {{ pg_restore "$@" --file=- 2>&4; echo "$?" >&3; }} | LC_ALL=C awk -F '\t' -v wanted="$wanted" '
BEGIN {{ n = split(wanted, pairs, " "); for (i = 1; i <= n; i++) {{ split(pairs[i], pair, "="); columns[pair[1]] = pair[2] }} }}
!table && /^COPY public[.]/ {{
    table = $0; sub(/^COPY public[.]/, "", table); sub(/ [(].*/, "", table); gsub(/"/, "", table)
    names = $0; sub(/^[^(]*[(]/, "", names); sub(/[)] FROM stdin;$/, "", names); gsub(/[" ]/, "", names)
    n = split(names, has, ","); shown = split(columns[table], want, ","); rows = 0
    for (i = 1; i <= shown; i++) {{ at[i] = 0; for (j = 1; j <= n; j++) if (has[j] == want[i]) at[i] = j }}
    next
}}
table && $0 == "\\." {{ print "{TABLE}" table " " rows; table = ""; next }}
table {{
    rows++
    if (!shown) next
    line = "{ROW}" table
    for (i = 1; i <= shown; i++) line = line "\t" (at[i] ? $at[i] : "{ABSENT}")
    print line
}}' >&4; }} 3>&1)
cat >/dev/null
exit "$code"
"""


class Session:
    """An open psql session. All statements of a transaction see the state at its start."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, statement: str) -> list[list[str]]:
        """Return the rows of a statement, columns as text; raises OpsError with the database's message."""
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
        output = " ".join("\t".join(row) for row in rows or [])
        return OpsError(f"the database ended the session: {output}", "look at docker compose logs postgres")


class Postgres:
    """Opens sessions with databases in running containers."""

    @contextmanager
    def session(self, container: str, database: str = USER) -> Iterator[Session]:
        """Open a session for the block; an open transaction is rolled back at its end.

        The session is connected when the block begins, so a query during the freeze does not wait for a connection.
        """
        argv = ["psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--field-separator=\t"]
        process = subprocess.Popen(
            [*docker_exec(container, interactive=True), *argv, "--set=ON_ERROR_STOP=1", f"--username={USER}", database],
            env=environment_for(),
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
    """Return the command that writes a dump, of an exported snapshot or of the current state.

    The dump is not compressed, so that restic can deduplicate it.
    """
    moment = [f"--snapshot={snapshot}"] if snapshot else []
    options = ["--format=custom", "--compress=0", *moment, f"--username={USER}", USER]
    return [*docker_exec(container), "pg_dump", *options]


def load(container: str, database: str, *, rights: bool = True) -> list[str]:
    """Return the command that loads the dump on its standard input into an empty database, completely or not at all.

    Without ``rights`` it needs no role but its own: it grants nothing, and owns every object. It prints each grant and owner
    of the dump that it leaves out, as SQL behind LEFT_OUT.
    """
    options = ["--exit-on-error", "--single-transaction", "--no-owner", f"--username={USER}", f"--dbname={database}"]
    command = docker_exec(container, interactive=True)
    if rights:
        return [*command, "pg_restore", *options]
    # Publications and subscriptions belong to another server, and a security label needs the module that checks it.
    return [
        *command,
        *("sh", "-c", _LOAD_WITHOUT_RIGHTS, "load", *options, "--no-acl"),
        *("--no-publications", "--no-subscriptions", "--no-security-labels"),
    ]


def dump_rows(container: str, tables: Sequence[str], columns: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the command that counts the rows of tables in the dump on its standard input. It reads the input to the end.

    It prints TABLE, the name and the number of rows for each table that the dump has, and for those of ``columns`` each row:
    ROW, the table's name, and the columns as COPY writes them (tabs between), ABSENT for one that the table lacks.
    """
    wanted = [f"{name}={','.join(each)}" for name, each in columns.items()]
    chosen = [f"--table={name}" for name in tables]
    command = [*docker_exec(container, interactive=True), "sh", "-c", _DUMP_ROWS, "rows", " ".join(wanted)]
    return [*command, "--data-only", "--schema=public", *chosen]


def base_backup(container: str) -> list[str]:
    """Return the command that writes a base backup as one tar archive, without the WAL that a recovery needs."""
    options = ["--format=tar", "--pgdata=-", "--wal-method=none", "--checkpoint=fast", f"--username={USER}"]
    return [*docker_exec(container), "pg_basebackup", *options]


def receive_wal(container: str, image: str, folder: Path, *, slot: str, name: str) -> list[str]:
    """Return the command that streams the WAL of a container's database into a folder of this machine.

    It runs in a container called ``name``, from the database's own image. It shares the database's network, where
    initdb's rules accept the loopback without a password. The container is removed when it ends.
    """
    restrictions = ["--user=0:0", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--read-only", "--memory=128m"]
    placement = [f"--name={name}", f"--network=container:{container}", f"--volume={folder}:/wal", "--log-driver=none"]
    options = [
        "--host=127.0.0.1",
        f"--username={USER}",
        "--no-password",
        "--directory=/wal",
        f"--slot={slot}",
        "--no-loop",
    ]
    run = ["docker", "run", "--rm", "--pull=never", "--entrypoint=pg_receivewal", *placement, *restrictions]
    return [*run, image, *options]


def docker_exec(container: str, *, interactive: bool = False) -> list[str]:
    """Return the docker exec command that runs a program inside a container."""
    return ["docker", "exec", *(["--interactive"] if interactive else []), container]
