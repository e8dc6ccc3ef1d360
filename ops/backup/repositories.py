"""The two restic repositories of a site: on the host, and in the bucket."""

from __future__ import annotations

from dataclasses import dataclass

from ops.config.paths import HostPaths
from ops.config.schema import Site
from ops.world import World
from ops.world.restic import Restic

DUMP = "gitea.dump"
REPOSITORIES = "git/repositories"
# In the bucket: restic's repository, and the locks of the runs that use it.
REMOTE = "restic/"
LOCKS = f"{REMOTE}locks/"


@dataclass(frozen=True)
class Repositories:
    """The two repositories: on this host, and in the bucket."""

    local: Restic
    remote: Restic


def repositories(site: Site, world: World, paths: HostPaths, *, locks_reads: bool = False) -> Repositories:
    """Return both repositories of a site. They may not exist yet.

    Reading takes no lock, so that a stale one is not in its way. With ``locks_reads`` it does: for a verb whose findings are
    recorded, because data that a prune removes meanwhile looks like damage.
    """
    password = paths.secrets / "restic-password"
    return Repositories(
        world.restic(str(paths.local), password_file=password, cache=paths.cache, locks_reads=locks_reads),
        world.restic(remote_address(site), password_file=password, cache=paths.cache, locks_reads=locks_reads),
    )


def remote_address(site: Site) -> str:
    """Return restic's name for the repository in the bucket."""
    endpoint = site.aws.endpoint_url or f"https://s3.{site.aws.region}.amazonaws.com"
    return f"s3:{endpoint}/{site.backup.bucket}/{REMOTE.rstrip('/')}"
