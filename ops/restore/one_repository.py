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

_REPOSITORY = re.compile(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Single:
    """One repository of Gitea's data: where it is, and where it is fetched and kept aside, on the same subvolume."""

    data: Path
    name: str

    @property
    def live(self) -> Path:
        """The repository that people use."""
        return self.data / REPOSITORIES / self.name

    @property
    def root(self) -> Path:
        """A folder like Gitea's own, with nothing but this repository."""
        return self.data / ".restored"

    @property
    def staged(self) -> Path:
        """What was fetched and is not in its place yet."""
        return self.root / REPOSITORIES / self.name

    @property
    def aside(self) -> Path:
        """What was in its place before."""
        return self.root / "before"


def write_hooks(world: World, paths: HostPaths) -> None:
    """The hooks in a backup name Gitea's program and configuration where the Gitea of its time had them."""
    hooks = ["gitea", "admin", "regenerate", "hooks"]
    done = world.containers.execute(paths.project, "gitea", hooks, user="git")
    if done.code:
        raise Degraded(
            f"all is restored, but the repositories' hooks could not be written anew: {done.output.strip()[-400:]}",
            "Gitea may not notice pushes: gitea doctor check; gitea admin regenerate hooks",
        )


def restore_repository(world: World, paths: HostPaths, both: Repositories, chosen: Manifest, repository: str) -> Report:
    """Put one bare repository in the place of the one that is there. Its issues and settings in the database stay as they are."""
    name = f"{repository.lower()}.git"
    if not _REPOSITORY.fullmatch(repository) or name not in chosen.repositories:
        raise Refused(
            f"backup {chosen.identity} has no repository {repository}", "give it as OWNER/NAME; ops backup list"
        )
    single = Single(paths.live, name)
    if not single.live.is_dir():
        raise Refused(
            f"{repository} is not there: Gitea would not know what is restored",
            f"make an empty {repository}, then restore",
        )
    _fetch_repository(world, single, sources_of(chosen, both))
    for folder in (single.staged, *single.staged.parents):
        if folder == paths.live:
            break
        world.btrfs.own_like(single.live, folder)
    if contents.refs(world, paths, single.root).get(name) != chosen.repositories[name]:
        raise Refused(
            f"what was fetched of {repository} is not what the backup says",
            "nothing was touched; restore it out of another backup: ops backup list",
        )
    journal = world.journal(staging_of(paths).journal)
    journal.append({"step": "switch", "identity": chosen.identity, "repository": name})
    world.btrfs.rename(single.live, single.aside)
    world.btrfs.rename(single.staged, single.live)
    journal.close()
    write_hooks(world, paths)
    facts = {"identity": chosen.identity, "repository": repository}
    return Report(
        "restore", True, f"{repository} is that of {chosen.identity} again", facts, (f"kept aside: {single.aside}",)
    )


def _fetch_repository(world: World, single: Single, sources: Sequence[tuple[Restic, Mapping[str, str]]]) -> None:
    """Fetch one repository beside the one in use, from the bucket when this host's copy is damaged."""
    for source, snapshots in sources:
        world.btrfs.remove(single.root)
        kept = f"{folder_of(source, snapshots['data'])}/{REPOSITORIES}/{single.name}"
        try:
            source.restore(snapshots["data"], single.staged, include=kept)
        except OpsError as failed:
            if source is sources[-1][0] or not is_damage(failed):
                raise
            world.tell(f"this host's copy is damaged, {single.name} is fetched from the bucket: {failed.message}")
        else:
            return


def go_back_to(world: World, paths: HostPaths, single: Single) -> None:
    """Whatever of putting one repository in place was done, undo it."""
    if single.aside.exists():
        if single.live.exists():
            world.btrfs.rename(single.live, single.staged)
        world.btrfs.rename(single.aside, single.live)
    world.journal(staging_of(paths).journal).close()
