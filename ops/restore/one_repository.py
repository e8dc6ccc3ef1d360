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
from ops.errors import Degraded, OpsError, Refused
from ops.model import Report
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
        """The replaced repository."""
        return self.root / "before"


def write_hooks(world: World, paths: HostPaths) -> None:
    """Write the repositories' hooks again: those of a backup have the paths of the Gitea that made it.

    Raises Degraded when Gitea cannot write them.
    """
    command = ["gitea", "admin", "regenerate", "hooks"]
    done = world.containers.execute(paths.project, "gitea", command, user="git")
    if done.code:
        raise Degraded(
            f"the repositories' hooks could not be written: {done.output.strip()[-400:]}",
            "run gitea admin regenerate hooks and gitea doctor check in the container of Gitea",
            left_as="everything is restored, but Gitea may not notice pushes",
        )


def restore_repository(world: World, paths: HostPaths, both: Repositories, chosen: Manifest, repository: str) -> Report:
    """Replace one bare repository with that of a backup. Its issues and settings in the database stay unchanged.

    Raises Refused if the backup or the site does not have it, or the fetched one differs from the manifest.
    """
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
    _fetch_repository(world, one, sources_of(chosen, both))
    for folder in (one.staged, *one.staged.parents):
        if folder == paths.live:
            break
        world.btrfs.own_like(one.live, folder)
    if contents.refs(world, paths, one.root).get(name) != chosen.repositories[name]:
        raise Refused(
            f"the fetched {repository} differs from the manifest of backup {chosen.identity}",
            "choose another backup: ops backup list",
            left_as="the site was not changed",
        )
    journal = world.journal(staging_of(paths).journal)
    journal.append({"step": "switch", "identity": chosen.identity, "repository": name})
    world.btrfs.rename(one.live, one.aside)
    world.btrfs.rename(one.staged, one.live)
    journal.close()
    write_hooks(world, paths)
    facts = {"identity": chosen.identity, "repository": repository}
    return Report(
        "restore", True, f"{repository} is restored from backup {chosen.identity}", facts, (f"kept aside: {one.aside}",)
    )


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
