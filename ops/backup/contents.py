"""Backup contents: rows of the database, refs of the repositories, versions of the programs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import ops
from ops.backup.repositories import REPOSITORIES
from ops.config.compose_files import doctor_command
from ops.config.paths import HostPaths
from ops.errors import OpsError
from ops.images.pins import pin_from
from ops.world import World
from ops.world.containers import RUNNING, Service
from ops.world.postgres import Session

# Counted in every backup, as far as this version of Gitea has them.
MAIN_TABLES = (
    "access_token", "action", "attachment", "comment", "issue", "label", "lfs_meta_object", "milestone", "org_user",
    "package", "public_key", "pull_request", "release", "repository", "team", "user", "webhook",
)  # fmt: skip
# Replaces the digest of refs that git cannot read: a restored site has such a repository in the same state.
UNREADABLE = "unreadable"
# Prints the lines that a repository's digest is made of. git reads a repository of any owner, as it does under Gitea: Gitea sets
# safe.directory in its own configuration.
_REFS = f"""cd /data/{REPOSITORIES} 2>/dev/null || exit 0
find . -mindepth 2 -maxdepth 2 -name '*.git' -type d | sort | while read -r each; do
    echo "= ${{each#./}}"
    git -c safe.directory='*' -C "$each" symbolic-ref HEAD
    git -c safe.directory='*' -C "$each" for-each-ref --format='%(objectname) %(refname)' || echo {UNREADABLE}
done"""
_VERSION = re.compile(r"\d+(\.\d+)+")


@dataclass(frozen=True)
class Content:
    """The content of the database: its schema's migration number, and the rows of the main tables."""

    migration: int
    rows: Mapping[str, int]


def refs_from(output: str) -> dict[str, str]:
    """Return a digest of the refs of each repository from the output of ``_REFS``; UNREADABLE for one that git cannot read."""
    refs: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in output.splitlines():
        if line.startswith("= "):
            lines = refs.setdefault(line[2:], [])
        else:
            lines.append(line)
    return {
        name: UNREADABLE if UNREADABLE in each else hashlib.sha256("\n".join(sorted(each)).encode()).hexdigest()
        for name, each in refs.items()
    }


def content(session: Session) -> Content:
    """Return the content of a database; in a transaction, as of the transaction's snapshot."""
    ((migration,),) = session.ask("SELECT version FROM version")
    names = ", ".join(f"'{name}'" for name in MAIN_TABLES)
    present = session.ask(
        f"SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename IN ({names})"  # noqa: S608 - ours
    )
    counts = {name: session.ask(f'SELECT count(*) FROM "{name}"') for (name,) in present}  # noqa: S608
    return Content(int(migration), {name: int(count) for name, ((count,),) in counts.items()})


def refs(world: World, paths: HostPaths, folder: Path) -> dict[str, str]:
    """Return a digest of the refs of every repository in a copy of Gitea's data; UNREADABLE for one that git cannot read."""
    done = world.containers.run_script(
        gitea_service(world, paths).image, _REFS, folder=folder, target="/data", user="1000:1000"
    )
    if done.code:
        raise OpsError(f"the repositories cannot be listed: {done.output.strip()[-400:]}", f"run {doctor_command()}")
    return refs_from(done.output)


def secret_key(paths: HostPaths) -> str:
    """Return a digest of Gitea's SECRET_KEY. The key is 64 random characters, so the digest does not reveal it."""
    return hashlib.sha256((paths.secrets / "gitea-secret-key").read_bytes()).hexdigest()


def gitea_service(world: World, paths: HostPaths) -> Service:
    """Return Gitea's container, running or not; raises OpsError when there is none."""
    for each in world.containers.services(paths.project):
        if each.name == "gitea":
            return each
    raise OpsError("gitea has no container", "run systemctl restart gitea-suite")


def versions(world: World, paths: HostPaths, gitea: Service) -> dict[str, str]:
    """Return the versions of gitea, postgresql, restic and this suite; of a Gitea that does not run, that of its image's tag."""
    asked = ["gitea", "--version"]
    outputs = {
        "gitea": world.containers.execute(paths.project, "gitea", asked, user="git").output
        if gitea.state == RUNNING
        else pin_from(gitea.image).tag,
        "postgresql": world.containers.execute(paths.project, "postgres", ["postgres", "--version"]).output,
        "restic": world.processes.run(["restic", "version"]).output,
    }
    numbers = {name: _VERSION.search(output) for name, output in outputs.items()}
    return {name: found[0] if found else "unknown" for name, found in numbers.items()} | {"suite": ops.__version__}
