"""The SES identity of the sender's domain: one per account and region, which other senders of the domain may share.

Creating an existing identity takes it over without an error, and its deletion stops the mail of every sender of the domain. So
`ops` creates an identity only where none exists, records in the state bucket that it did, and deletes only such an identity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ops.config.schema import Site
from ops.errors import Refused
from ops.model import Change
from ops.world import World
from ops.world.terraform import Terraform, identities_from, resources_from

# The identity, its settings, and the records that belong to it.
_RESOURCES = (
    "aws_ses_domain_identity.site",
    "aws_ses_domain_dkim.site",
    "aws_ses_domain_mail_from.site",
    "aws_route53_record.dkim",
    "aws_route53_record.bounces",
    "aws_route53_record.dmarc",
)


def candidates(site: Site) -> tuple[str, ...]:
    """Return the domains whose identity verifies the sender: its own, and each above it up to the zone."""
    labels = site.mail.domain.split(".")
    above = len(labels) - site.zone.count(".")
    return tuple(".".join(labels[start:]) for start in range(above))


def problem(site: Site, existing: Iterable[str]) -> str:
    """Return why SES's ``existing`` identities do not fit a site that has created none, with the remedy, or ""."""
    domain = site.mail.domain
    if site.mail.manage_identity and domain in existing:
        return (
            f"SES has an identity for {domain} that this site did not create, and other senders may use it: give mail.sender "
            f"an address at {site.domain}, or set mail.manage_identity = false, which leaves the identity as it is"
        )
    if not site.mail.manage_identity and site.mail.uses_ses and not set(candidates(site)) & set(existing):
        return (
            f"mail.manage_identity is false, and SES in {site.aws.region} has no identity for {' or '.join(candidates(site))}: "
            "verify one in SES, or leave the key out"
        )
    return ""


def to_forget(site: Site, world: World, bucket: str, state: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the resources that have to leave Terraform's state before a deployment, so that Terraform does not delete them.

    ``bucket`` is the state bucket. Raises Refused when the deployment would take over an identity of others. Nothing is
    changed.
    """
    recorded = identities_from(state, "aws_ses_domain_identity")
    if not site.mail.manage_identity:
        return _addresses(state)
    if site.mail.domain in recorded:
        return ()
    if not _is_ours(site, world, bucket, site.mail.domain):
        existing = world.aws_account.mail_identities((site.mail.domain,))
        if found := problem(site, existing):
            raise Refused(
                found, "change mail in the site file, then run ops deploy again", left_as="nothing was changed"
            )
    return not_ours(site, world, bucket, state)


def prepare(site: Site, world: World, bucket: str, terraform: Terraform) -> Mapping[str, Any]:
    """Make Terraform's state fit for a deployment and return it; raises as ``to_forget`` does."""
    state = terraform.state()
    if addresses := to_forget(site, world, bucket, state):
        forget(site, world, bucket, terraform, addresses)
        state = terraform.state()
    recorded = identities_from(state, "aws_ses_domain_identity")
    if site.mail.manage_identity and site.mail.domain not in recorded:
        # Before the identity exists: a run that is cut off has created what the record says.
        world.aws.write_object(bucket, _key(site, site.mail.domain), b"created by ops deploy\n")
    return state


def not_ours(site: Site, world: World, bucket: str, state: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the resources in the state that belong to an identity that the site has no record of creating."""
    recorded = identities_from(state, "aws_ses_domain_identity")
    ours = site.mail.manage_identity and all(_is_ours(site, world, bucket, domain) for domain in recorded)
    return () if ours else _addresses(state)


def forget(site: Site, world: World, bucket: str, terraform: Terraform, addresses: Iterable[str]) -> None:
    """Remove resources from the state, and the record that the site created the identity; in AWS they stay."""
    for address in addresses:
        world.tell(f"terraform: {address}: left as it is in AWS, and not managed any more")
    terraform.forget(*addresses)
    forget_records(site, world, bucket)


def forget_records(site: Site, world: World, bucket: str) -> None:
    """Remove every record of an identity that the site created."""
    for key in world.aws.objects(bucket, _key(site, "")):
        world.aws.hide_object(bucket, key)


def as_planned(changes: Iterable[Change], addresses: Iterable[str]) -> tuple[Change, ...]:
    """Return the changes of a plan as they are once ``addresses`` are no longer in the state."""
    forgotten, actions = set(addresses), {"destroy": "forget", "replace": "create"}
    return tuple(
        replace(each, action=actions.get(each.action, each.action), differences=())
        if each.address in forgotten
        else each
        for each in changes
    )


def in_words(state: Mapping[str, Any], kept: Iterable[str]) -> tuple[str, ...]:
    """Return the line on the identity that the operator reads before a destruction."""
    recorded = sorted(identities_from(state, "aws_ses_domain_identity"))
    if not recorded:
        return ()
    if any(kept):
        return (f"kept: the SES identity {recorded[0]} with its records: there is no record that this site created it",)
    return (f"lost: the SES identity {recorded[0]}, by which SES sends mail of this domain",)


def _addresses(state: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(each for each in resources_from(state) if each.partition("[")[0] in _RESOURCES)


def _is_ours(site: Site, world: World, bucket: str, domain: str) -> bool:
    return _key(site, domain) in world.aws.objects(bucket, _key(site, domain))


def _key(site: Site, domain: str) -> str:
    return f"{site.name}/mail-identities/{domain}"
