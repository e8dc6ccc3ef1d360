"""Destroy a site: its resources in AWS, and only on request its backups. A second run continues one that was cut off."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ops.backup import catalogue, manifest
from ops.config.gitea_settings import NAME_PREFIX, secrets_of
from ops.config.schema import Site
from ops.config.workspace import Workspace
from ops.deploy import infrastructure, mail_identity, orphaned_instance
from ops.errors import Refused
from ops.model import BucketContents, Confirm, Report
from ops.secrets.store import secret_name
from ops.world import World
from ops.world.lock import exclusive
from ops.world.terraform import resources_from, with_override

# Terraform merges this override into the resource's own lifecycle block, which prevents its destruction.
_OVERRIDE = """
resource "aws_ebs_volume" "data" {
  lifecycle {
    prevent_destroy = false
  }
}
"""
# These stay with the backups: their buckets, their replication, and the secrets, without which they cannot be read in full.
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
    """The operator's request: whether to delete the backups, too, and whether to go on without a verified backup."""

    with_backups: bool = False
    without_verified_backup: bool = False


@dataclass(frozen=True)
class Losses:
    """The losses of a destruction. ``locked_until`` is the end of the bucket's lock, None without a lock.

    ``newest_backup`` is the newest backup's id, "" without a backup. ``verified_backup`` is when that backup last passed a
    verification, None when it never did.
    """

    resources: int
    data_gib: int
    backups: BucketContents
    locked_until: datetime | None = None
    newest_backup: str = ""
    verified_backup: datetime | None = None


def destroy(site: Site, world: World, *, workspace: Workspace, request: DestroyRequest, confirm: Confirm) -> Report:
    """Destroy the site's infrastructure with its data, and its backups when ``request`` includes them.

    ``confirm`` is called with the site's name and the losses, and raises Refused when the operator does not agree. Raises
    Refused before any change when the newest backup is not verified, or when the backups to delete are locked.
    """
    bucket = infrastructure.state_bucket(site)
    if not world.aws.bucket_exists(bucket):
        return Report("destroy", changed=False, summary=f"{site.name} does not exist: nothing to do")
    with exclusive(workspace.lock, world.clock.now()), with_override(workspace.repository / "infra", _OVERRIDE) as root:
        terraform, variables = infrastructure.prepared(site, world, workspace, root)
        state = terraform.state()
        identity = mail_identity.not_ours(site, world, bucket, state)
        to_delete = _to_delete(state, identity)
        losses = _losses(site, world, len(to_delete))
        if problems := blockers(losses, request):
            raise Refused(
                "\n".join(problems), "fix each of these, then run ops destroy again", left_as="nothing was changed"
            )
        if not to_delete and not request.with_backups:
            # A destruction that was cut off here may have deleted the identity, which others may create now.
            mail_identity.forget_records(site, world, bucket)
            return Report("destroy", changed=False, summary=f"only the backups of {site.name} are left: nothing to do")
        orphaned_instance.require_none(state, world)
        confirm(site.name, (*in_words(site, losses, request), *mail_identity.in_words(state, identity)))
        if identity:
            mail_identity.forget(site, world, bucket, terraform, identity)
        if request.with_backups:
            _empty_backups(site, world)
            terraform.destroy(variables)
        else:
            terraform.destroy(variables, *(f"-target={each}" for each in to_delete))
            mail_identity.forget_records(site, world, bucket)
        _forget(site, world, workspace, request)
    return Report("destroy", changed=True, summary=_summary(site, request), facts={"resources": losses.resources})


def _to_delete(state: Mapping[str, Any], kept: Collection[str]) -> list[str]:
    """The addresses of the resources to destroy without --with-backups; ``kept`` stay, too."""
    return [each for each in resources_from(state) if not each.startswith(_BACKUPS) and each not in kept]


def blockers(losses: Losses, request: DestroyRequest) -> tuple[str, ...]:
    """Return each reason not to destroy the site, with its remedy."""
    problems = []
    if losses.resources and not losses.verified_backup and not request.without_verified_backup:
        newest = losses.newest_backup
        why = f"the newest backup, {newest}, is not verified" if newest else "this site has no backup"
        problems.append(
            f"{why}, and its data disk would be lost: run ops backup take and ops backup verify on the host first, "
            "or give --without-verified-backup"
        )
    if request.with_backups and losses.locked_until:
        problems.append(
            f"the backups are locked until {losses.locked_until:%Y-%m-%d %H:%M} UTC: leave out --with-backups, or wait until then"
        )
    return tuple(problems)


def in_words(site: Site, losses: Losses, request: DestroyRequest) -> tuple[str, ...]:
    """Return the lines on losses that the operator reads before confirming."""
    secrets = ", ".join(("the secrets that decrypt them", *secrets_of(site.gitea.settings)))
    stored = f"{losses.backups.versions} versions of backups, {losses.backups.size / 2**30:.1f} GiB"
    return (
        f"{losses.resources} resources in AWS are destroyed: host, network, records",
        f"lost: the data disk of {losses.data_gib} GiB with every repository, issue and account of {site.domain}",
        f"{'lost' if request.with_backups else 'kept'}: {stored} in {site.backup.bucket}, and {secrets}",
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
        world.aws_account.delete_secrets(secret_name(site, NAME_PREFIX))
        world.aws_account.empty(infrastructure.state_bucket(site), world.tell)
        world.aws_account.delete_bucket(infrastructure.state_bucket(site))
        shutil.rmtree(workspace.state / "bootstrap", ignore_errors=True)


def _summary(site: Site, request: DestroyRequest) -> str:
    if request.with_backups:
        return f"{site.name} and its backups are deleted"
    return f"{site.name} is deleted; its backups stay in {site.backup.bucket}, and `ops deploy` makes the site again beside them"
