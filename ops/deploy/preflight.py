"""The check that an AWS account can take a site, before anything is made in it."""

from __future__ import annotations

from ops.config.schema import Site
from ops.deploy import mail_identity
from ops.errors import Refused
from ops.model import AccountFacts
from ops.world import World


def require(site: Site, world: World, *, buckets: tuple[str, ...]) -> tuple[str, ...]:
    """Raise Refused with every reason why the account cannot take the site; return the checks that were not possible.

    ``buckets`` are the names that must be free. Nothing is changed.
    """
    facts = world.aws_account.facts(
        name=site.name,
        domain=site.domain,
        zone=site.zone,
        instance_type=site.host.instance_type,
        buckets=buckets,
        mail_domains=mail_identity.candidates(site),
    )
    world.tell(f"pre-flight: {facts.identity}")
    problems = blockers(site, facts)
    if problems:
        listed = "\n".join(f"  {each}" for each in problems)
        raise Refused(
            f"the account cannot take the site: {len(problems)} problem(s)\n{listed}",
            "fix each problem as its line says, then run ops deploy again",
            left_as="nothing was changed",
        )
    return facts.unknown


def blockers(site: Site, facts: AccountFacts) -> tuple[str, ...]:
    """Return each problem with its remedy. An unknown fact is not a problem."""
    found = (
        (
            facts.region_open is False,
            f"aws.region = {site.aws.region} is not open to this account: enable it in the console, or give another region",
        ),
        (
            facts.zone_found is False,
            f"zone = {site.zone} is not a public hosted zone of this account: make it in Route 53 and delegate it",
        ),
        (
            facts.vcpus_wanted is not None and facts.vcpus_free is not None and facts.vcpus_free < facts.vcpus_wanted,
            f"host.instance_type = {site.host.instance_type} needs {facts.vcpus_wanted} vCPUs and the quota leaves "
            f"{facts.vcpus_free}: ask Service Quotas for more (EC2, L-1216C47A)",
        ),
        (bool(facts.machine), f"host.instance_type = {site.host.instance_type} {facts.machine}: give another"),
        (
            bool(facts.records),
            f"{', '.join(facts.records)} exists already, and a deployment would overwrite it: remove it, or give another domain",
        ),
        (
            facts.addresses_free is not None and facts.addresses_free < 1,
            "the quota of Elastic IPs is used up: release one, or ask Service Quotas for more (EC2, L-0263D0A3)",
        ),
        (
            facts.mail_to_anyone is False,
            "SES is in its sandbox and sends only to verified addresses: request production access in the SES console",
        ),
    )
    identity = mail_identity.problem(site, facts.mail_identities) if facts.mail_identities is not None else ""
    settings = [problem for applies, problem in (*found, (bool(identity), identity)) if applies]
    return (*settings, *_taken_names(site, facts))


def _taken_names(site: Site, facts: AccountFacts) -> list[str]:
    buckets = [
        f"bucket {bucket} {'exists already' if owner == 'ours' else 'belongs to another account'}: "
        f"give backup.bucket another name"
        for bucket, owner in facts.buckets.items()
        if owner != "free"
    ]
    namesakes = [
        f"name = {site.name} is in use in this account by {each}: give the site another name, or remove that resource"
        for each in facts.namesakes
    ]
    return buckets + namesakes
