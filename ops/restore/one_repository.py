"""Restore one repository and leave the rest of the site alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.backup import contents
from ops.backup.manifest import Manifest
from ops.backup.repositories import REPOSITORIES, Repositories
from ops.config.paths import HostPaths
from ops.config.schema import Site
from ops.errors import Degraded, OpsError, Refused
from ops.model import Report
from ops.restore import repository_rows
from ops.restore.staging import is_damage, sources_of, staging_of
from ops.world import World
from ops.world.restic import Restic, folder_of

_NAME = re.compile(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class SingleRepository:
    """The paths of one repository: live, staged and set aside, all on the same subvolume."""

    data: Path
    name: str

    @property
    def live(self) -> Path:
        """The repository in use."""
        return self.data / REPOSITORIES / self.name

    @property
    def root(self) -> Path:
        """A folder laid out like Gitea's own that contains only this repository."""
        return self.data / ".restored"

    @property
    def staged(self) -> Path:
        """The fetched repository, before the switch."""
        return self.root / REPOSITORIES / self.name

    @property
    def aside(self) -> Path:
        """The replaced repository, until it is moved out of Gitea's data."""
        return self.root / "before"


def write_hooks(world: World, paths: HostPaths) -> None:
    """Write the repositories' hooks again: those of a backup have the paths of the Gitea that made it.

    Raises Degraded when Gitea cannot write them.
    """
    _regenerate(world, paths, "hooks", "the repositories' hooks", "Gitea may not notice pushes")


def write_keys(world: World, paths: HostPaths) -> None:
    """Write sshd's authorized_keys again from the database: the file of the data may be of another moment.

    Raises Degraded when Gitea cannot write it.
    """
    _regenerate(world, paths, "keys", "the ssh keys", "a deleted key may open the site, and a new one may not")


def _regenerate(world: World, paths: HostPaths, name: str, what: str, risk: str) -> None:
    command = ["gitea", "admin", "regenerate", name]
    done = world.containers.execute(paths.project, "gitea", command, user="git")
    if done.code:
        raise Degraded(
            f"{what} could not be written: {done.output.strip()[-400:]}",
            f"run {' '.join(command)} in the container of Gitea",
            left_as=f"everything is restored, but {risk}",
        )


def require_repository(paths: HostPaths, chosen: Manifest, repository: str) -> SingleRepository:
    """Return the paths of a repository; raises Refused if the backup or the site does not have it."""
    name = f"{repository.lower()}.git"
    if not _NAME.fullmatch(repository) or name not in chosen.repositories:
        raise Refused(
            f"backup {chosen.identity} has no repository {repository}",
            "give it as OWNER/NAME, or choose another backup: ops backup list",
            left_as="nothing was changed",
        )
    one = SingleRepository(paths.live, name)
    if not one.live.is_dir():
        raise Refused(
            f"{repository} does not exist on the site, so Gitea would not show the restored repository",
            f"create an empty {repository} in Gitea, then restore",
            left_as="nothing was changed",
        )
    return one


def restore_repository(
    site: Site, world: World, paths: HostPaths, both: Repositories, chosen: Manifest, repository: str
) -> Report:
    """Replace one bare repository with that of a backup, and bring its branches, tags and releases in the database in line.

    Its issues and settings in the database stay unchanged. Raises Refused if the backup or the site does not have it, or
    the fetched one differs from the manifest.
    """
    one = require_repository(paths, chosen, repository)
    _fetch_repository(world, one, sources_of(chosen, both))
    for folder in (one.staged, *one.staged.parents):
        if folder == paths.live:
            break
        world.btrfs.own_like(one.live, folder)
    if contents.refs(world, paths, one.root).get(one.name) != chosen.repositories[one.name]:
        raise Refused(
            f"the fetched {repository} differs from the manifest of backup {chosen.identity}",
            "choose another backup: ops backup list",
            left_as="the site was not changed",
        )
    journal = world.journal(staging_of(paths).journal)
    journal.append({"step": "switch", "identity": chosen.identity, "repository": one.name})
    world.btrfs.rename(one.live, one.aside)
    world.btrfs.rename(one.staged, one.live)
    journal.close()
    move_out(world, paths)
    write_hooks(world, paths)
    changes = repository_rows.align(site, world, paths, repository)
    facts = {"identity": chosen.identity, "repository": repository, "rows": list(changes)}
    lines = (*changes, f"kept aside until the next restore: {staging_of(paths).repository}")
    return Report("restore", True, f"{repository} is restored from backup {chosen.identity}", facts, lines)


def move_out(world: World, paths: HostPaths) -> None:
    """Move the replaced repository out of Gitea's data, where every later backup would store it, and remove what was fetched.

    The switch itself needs it there: a rename is only atomic within a subvolume. Does nothing if there is none.
    """
    one, staging = SingleRepository(paths.live, ""), staging_of(paths)
    if one.aside.exists():
        staging.folder.mkdir(mode=0o700, exist_ok=True)
        world.btrfs.remove(staging.repository)
        world.btrfs.move(one.aside, staging.repository)
    world.btrfs.remove(one.root)


def _fetch_repository(world: World, one: SingleRepository, sources: Sequence[tuple[Restic, Mapping[str, str]]]) -> None:
    """Fetch one repository beside the one in use, from the bucket if this host's copy is damaged."""
    for source, snapshots in sources:
        world.btrfs.remove(one.root)
        path = f"{folder_of(source, snapshots['data'])}/{REPOSITORIES}/{one.name}"
        try:
            source.restore(snapshots["data"], one.staged, include=path)
        except OpsError as failed:
            if source is sources[-1][0] or not is_damage(failed):
                raise
            world.tell(f"this host's copy is damaged, fetching {one.name} from the bucket: {failed.message}")
        else:
            return


def swap_back_repository(world: World, paths: HostPaths, one: SingleRepository) -> None:
    """Undo the switch of one repository, however far it came."""
    if one.aside.exists():
        if one.live.exists():
            world.btrfs.rename(one.live, one.staged)
        world.btrfs.rename(one.aside, one.live)
    world.journal(staging_of(paths).journal).close()
