"""Backup contents: rows of the database, refs of the repositories, versions of the programs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import ops
from ops.backup.repositories import REPOSITORIES
from ops.config.paths import HostPaths
from ops.errors import OpsError
from ops.world import World
from ops.world.postgres import Session

# Counted in every backup, as far as this version of Gitea has them.
MAIN_TABLES = (
    "access_token", "action", "attachment", "comment", "issue", "label", "lfs_meta_object", "milestone", "org_user",
    "package", "public_key", "pull_request", "release", "repository", "team", "user", "webhook",
)  # fmt: skip
# What stands for the digest of a repository's refs that cannot be read: the site has it so, and so has a restored one.
UNREADABLE = "unreadable"
# A digest of a repository's refs is that of these lines.
_REFS = f"""cd /data/{REPOSITORIES} 2>/dev/null || exit 0
find . -mindepth 2 -maxdepth 2 -name '*.git' -type d | sort | while read -r each; do
    echo "= ${{each#./}}"
    git -C "$each" symbolic-ref HEAD
    git -C "$each" for-each-ref --format='%(objectname) %(refname)' || echo {UNREADABLE}
done"""
_VERSION = re.compile(r"\d+(\.\d+)+")


@dataclass(frozen=True)
class Content:
    """What the database said of itself at the moment."""

    migration: int
    rows: Mapping[str, int]


def refs_from(output: str) -> dict[str, str]:
    """Return a digest of the refs of each repository, from what ``_REFS`` prints of them; UNREADABLE for one that git cannot read."""
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
    """Return what a database says of itself; in a transaction, as it was when that began."""
    ((migration,),) = session.ask("SELECT version FROM version")
    names = ", ".join(f"'{name}'" for name in MAIN_TABLES)
    there = session.ask(
        f"SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename IN ({names})"  # noqa: S608 - ours
    )
    counts = {name: session.ask(f'SELECT count(*) FROM "{name}"') for (name,) in there}  # noqa: S608
    return Content(int(migration), {name: int(count) for name, ((count,),) in counts.items()})


def refs(world: World, paths: HostPaths, folder: Path) -> dict[str, str]:
    """Return a digest of the refs of every repository in a folder like Gitea's; UNREADABLE for one that git cannot read."""
    (image,) = [each.image for each in world.containers.services(paths.project) if each.name == "gitea"]
    done = world.containers.run_script(image, _REFS, folder=folder, target="/data", user="1000:1000")
    if done.code:
        raise OpsError(f"the repositories cannot be listed: {done.output.strip()[-400:]}", "gitea doctor check")
    return refs_from(done.output)


def secret_key(paths: HostPaths) -> str:
    """Return a digest of Gitea's SECRET_KEY. It is 64 random characters: no one finds them by it."""
    return hashlib.sha256((paths.secrets / "gitea-secret-key").read_bytes()).hexdigest()


def versions(world: World, paths: HostPaths) -> dict[str, str]:
    """Return the versions of gitea, postgresql, restic and this suite."""
    said = {
        "gitea": world.containers.execute(paths.project, "gitea", ["gitea", "--version"], user="git").output,
        "postgresql": world.containers.execute(paths.project, "postgres", ["postgres", "--version"]).output,
        "restic": world.processes.run(["restic", "version"]).output,
    }
    numbers = {name: _VERSION.search(words) for name, words in said.items()}
    return {name: found[0] if found else "unknown" for name, found in numbers.items()} | {"suite": ops.__version__}
