"""End a site: what is in AWS goes, and the backups with it only when that is said. Run again, it goes on where it stopped."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import datetime

from ops.backup import catalogue, manifest
from ops.config.schema import Site
from ops.config.workspace import Workspace
from ops.deploy import infrastructure, orphaned_instance
from ops.errors import Refused
from ops.model import BucketContents, Confirm, Report
from ops.world import World
from ops.world.lock import exclusive
from ops.world.terraform import resources_from, with_override

# What refuses to be destroyed otherwise; an override merges into the resource's own lifecycle block.
_LIFTED = """
resource "aws_ebs_volume" "data" {
  lifecycle {
    prevent_destroy = false
  }
}
"""
# What stays when the backups stay: their buckets, what copies them, and the secrets, without which they cannot be read whole.
_BACKUPS = (
    "module.backup.",
    "module.replica",
    "module.secrets.",
    "aws_s3_bucket_replication_configuration.",
    "aws_iam_role.replication",
    "aws_iam_role_policy.replication",
)


@dataclass(frozen=True)
class DestroyRequest:
    """What is asked for: whether the backups go, too, and whether the data may go without a backup that was verified."""

    with_backups: bool = False
    without_verified_backup: bool = False


@dataclass(frozen=True)
class Losses:
    """What there is to lose. ``locked_until`` is None when no lock holds.

    ``newest_backup`` is its name, "" when there is none, and ``verified_backup`` when that very one was last verified.
    """

    resources: int
    data_gib: int
    backups: BucketContents
    locked_until: datetime | None = None
    newest_backup: str = ""
    verified_backup: datetime | None = None


def destroy(site: Site, world: World, *, workspace: Workspace, request: DestroyRequest, confirm: Confirm) -> Report:
    """Destroy the site's infrastructure with its data, and leave its backups unless ``request`` says otherwise.

    ``confirm`` is given the site's name and what is lost, and raises Refused when that is not wanted. Raises Refused, too,
    while the newest backup is not verified or the backups that are to go are locked; then nothing was touched.
    """
    bucket = infrastructure.state_bucket(site)
    if not world.aws.bucket_exists(bucket):
        return Report("destroy", changed=False, summary=f"{site.name} is not there: nothing to do")
    with exclusive(workspace.lock, world.clock.now()), with_override(workspace.repository / "infra", _LIFTED) as root:
        terraform, variables = infrastructure.prepared(site, world, workspace, root)
        state = terraform.state()
        doomed = [each for each in resources_from(state) if not each.startswith(_BACKUPS)]
        losses = _losses(site, world, len(doomed))
        if problems := blockers(losses, request):
            raise Refused("\n".join(problems), "nothing was touched")
        if not doomed and not request.with_backups:
            return Report("destroy", changed=False, summary=f"{site.name} has nothing left but its backups")
        orphaned_instance.refuse(state, world)
        confirm(site.name, in_words(site, losses, request))
        if request.with_backups:
            _empty_backups(site, world)
            terraform.destroy(variables)
        else:
            terraform.destroy(variables, *(f"-target={each}" for each in doomed))
        _forget(site, world, workspace, request)
    return Report("destroy", changed=True, summary=_ended(site, request), facts={"resources": losses.resources})


def blockers(losses: Losses, request: DestroyRequest) -> tuple[str, ...]:
    """Return each reason not to destroy, with what would remove it."""
    problems = []
    if losses.resources and not losses.verified_backup and not request.without_verified_backup:
        newest = losses.newest_backup
        why = f"the newest backup, {newest}, is not verified" if newest else "there is no backup of this site"
        problems.append(
            f"{why}, and its data disk goes: ops backup take and ops backup verify on the host first, "
            "or say --without-verified-backup"
        )
    if request.with_backups and losses.locked_until:
        problems.append(
            f"the backups are locked until {losses.locked_until:%Y-%m-%d %H:%M} UTC: leave out --with-backups, or come back after that"
        )
    return tuple(problems)


def in_words(site: Site, losses: Losses, request: DestroyRequest) -> tuple[str, ...]:
    """Return what is lost and what is kept, as a person has to read it before agreeing."""
    stored = f"{losses.backups.versions} versions of backups, {losses.backups.size / 2**30:.1f} GiB"
    return (
        f"{losses.resources} resources in AWS are destroyed: host, network, records",
        f"lost: the data disk of {losses.data_gib} GiB with every repository, issue and account of {site.domain}",
        f"{'lost' if request.with_backups else 'kept'}: {stored} in {site.backup.bucket}, and the secrets that they are read with",
    )


def _losses(site: Site, world: World, resources: int) -> Losses:
    contents = world.aws_account.contents(site.backup.bucket)
    ends = contents.locked_until
    locked = ends if ends and ends > world.clock.now() else None
    return Losses(resources, site.host.data_gib, contents, locked, *_newest_backup(site, world))


def _newest_backup(site: Site, world: World) -> tuple[str, datetime | None]:
    moments = catalogue.moments(site, world) if world.aws.bucket_exists(site.backup.bucket) else ()
    if not moments:
        return "", None
    newest = manifest.identity_of(moments[-1])
    passed = [each.began for each in catalogue.verifications(site, world) if each.passed and each.identity == newest]
    return newest, max(passed, default=None)


def _empty_backups(site: Site, world: World) -> None:
    for bucket in [site.backup.bucket, *([infrastructure.replica_bucket(site)] if site.backup.replica_region else [])]:
        world.aws_account.empty(bucket, world.tell)


def _forget(site: Site, world: World, workspace: Workspace, request: DestroyRequest) -> None:
    for path in (workspace.outputs, workspace.known_hosts):
        path.unlink(missing_ok=True)
    if request.with_backups:
        world.aws_account.empty(infrastructure.state_bucket(site), world.tell)
        world.aws_account.delete_bucket(infrastructure.state_bucket(site))
        shutil.rmtree(workspace.state / "bootstrap", ignore_errors=True)


def _ended(site: Site, request: DestroyRequest) -> str:
    if request.with_backups:
        return f"{site.name} is gone, and its backups with it"
    return f"{site.name} is gone; its backups stay in {site.backup.bucket}, and `ops deploy` makes the site anew beside them"
