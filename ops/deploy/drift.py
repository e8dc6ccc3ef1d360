"""Drift of a site from its file: Terraform's plan and Ansible's check mode in one report. Nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ops.config.schema import Site
from ops.config.workspace import Workspace
from ops.deploy import host, infrastructure, security_groups
from ops.errors import Refused
from ops.model import Change, Report
from ops.world import World


def check(site: Site, world: World, *, workspace: Workspace) -> Report:
    """Compare AWS and the host with the site file. When they differ, the report has exit code 3 and names each difference.

    Raises Refused for a site that was never deployed, Unavailable when something is out of reach.
    """
    if not world.aws.bucket_exists(infrastructure.state_bucket(site)):
        raise Refused(f"{site.name} is not deployed: it has no Terraform state", "run ops deploy")
    host.require_session_manager(site, world)
    terraform, variables = infrastructure.prepared(site, world, workspace)
    world.tell("== infrastructure: compare")
    changes = infrastructure.changes(site, world, terraform, variables)
    foreign = security_groups.foreign_rules(terraform, world)
    world.tell("== host: compare")
    outputs = infrastructure.outputs_from(terraform.outputs())
    material = host.material_of(site, world, workspace)
    altered = host.host(site, world, workspace, outputs, material, check=True).changed
    bucket = infrastructure.state_bucket(site)
    return report_from(changes, foreign, altered, {bucket: world.aws_account.missing_settings(bucket)})


def report_from(
    changes: Sequence[Change],
    foreign: Mapping[tuple[str, str], str],
    altered: Sequence[str],
    missing_settings: Mapping[str, Sequence[str]] | None = None,
) -> Report:
    """Return the report of the differences: resources, rules made by hand, tasks of the host, settings that buckets lack."""
    aws = [_in_words(each) for each in changes]
    aws += [f"{group}: a rule that is not ours: {words}" for (group, _), words in foreign.items()]
    aws += [f"bucket {bucket}: {each} is off" for bucket, found in (missing_settings or {}).items() for each in found]
    count = len(aws) + len(altered)
    lines = [*(f"AWS   {each}" for each in aws), *(f"host  {each}" for each in altered)]
    summary = (
        "no drift: the site matches its file" if not count else f"{count} difference(s); run ops deploy to remove them"
    )
    facts = {"infrastructure": aws, "host": list(altered)}
    return Report(
        "deploy", changed=False, summary=summary, facts=facts, lines=tuple(lines), exit_code=3 if count else 0
    )


def _in_words(change: Change) -> str:
    about = f": {', '.join(change.differences)}" if change.differences else ""
    return f"{change.action} {change.address}{about}"
