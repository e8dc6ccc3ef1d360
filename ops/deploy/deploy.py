"""Deploy a site: the resources in AWS, then the host, then a health check. Every step can be repeated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ops.config import known_settings
from ops.config.gitea_settings import secrets_of
from ops.config.schema import Site
from ops.config.workspace import Workspace
from ops.deploy import cost, infrastructure, interruptions, preflight
from ops.deploy.host import host, material_of, require_session_manager, update_pins
from ops.deploy.infrastructure import (
    apply_infrastructure,
    backend,
    first_changes,
    public_key,
    state_bucket,
    terraform_of,
    write_variables,
)
from ops.errors import Degraded
from ops.images import pins
from ops.images.versions import release_from
from ops.model import Change, Confirm, Report
from ops.secrets import rotate, setting_secrets
from ops.secrets.store import NAMES, REPLICATED
from ops.stack import health
from ops.step_timer import StepTimer
from ops.world import World
from ops.world.lock import exclusive


def deploy(
    site: Site,
    world: World,
    *,
    workspace: Workspace,
    confirm: Confirm,
    replace_host: bool = False,
    session_manager: bool = False,
) -> Report:
    """Make the site match its file, whether it is new or an earlier run was cut off.

    ``confirm`` is called with the site's name and each resource that Terraform would replace, destroy or stop, before the
    first change in AWS; it raises Refused when the operator does not agree. ``replace_host`` replaces the host by a new
    machine, which ``confirm`` is asked for first. ``session_manager`` connects through Session Manager even though the ssh port is open
    to some addresses: an operator with a new address uses it to have the firewall opened for that address.

    Raises Refused for a failed precondition of the account, this machine or the host; Locked when another deployment of
    the site runs, or an update or a restore on the host; Unavailable when something is out of reach; Degraded when the
    site is deployed but unhealthy.
    """
    key = public_key(Path(site.host.ssh_key).expanduser())
    require_session_manager(site, world, session_manager=session_manager)
    setting_secrets.require(site, world)
    options, agreed = [], frozenset[str]()
    if replace_host:
        confirm(site.name, REPLACED)
        options, agreed = ["-replace=aws_instance.host"], interruptions.REPLACED_WITH_HOST

    def agree(changes: tuple[Change, ...]) -> None:
        if lines := interruptions.in_words(changes, agreed):
            confirm(site.name, lines)

    with exclusive(workspace.lock, world.clock.now()):
        return _deploy(site, world, workspace, key, options, agree=agree, session_manager=session_manager)


REPLACED = (
    "the host is terminated, and a new machine replaces it",
    "lost: its root disk with everything on it; the site is down for some minutes",
    "kept: the data disk with database and repositories, the IP address, the DNS name, the backups",
)


def _deploy(
    site: Site,
    world: World,
    workspace: Workspace,
    key: str,
    options: Sequence[str],
    *,
    agree: Callable[[tuple[Change, ...]], None],
    session_manager: bool,
) -> Report:
    timer = StepTimer(world)
    with timer.step("images"):
        material = material_of(site, world, workspace)
        for line in (*material.waiting, *_unknown_settings(site, material.pins)):
            world.tell(line)
    with timer.step("infrastructure"):
        outputs, built = apply_infrastructure(site, world, workspace, key, options, agree=agree)
    with timer.step("mail"):
        world.tell(rotate.ensure_smtp(site, world).summary)
    with timer.step("host"):
        if update_pins(site, world) != material.update_pins:
            world.tell("an update has pinned another image meanwhile")
            material = material_of(site, world, workspace)
        played = host(site, world, workspace, outputs, material, session_manager=session_manager)
    address = site.host.address or outputs.public_address
    with timer.step("health"):
        verdict = health.health_from_outside(site, world, address=address)
    facts = {
        "address": address,
        "url": f"https://{site.domain}/",
        "images": {**material.pins, "OPS_IMAGE": f"{material.ops.reference}@{material.ops.identity}"},
        "seconds": timer.seconds,
        "infrastructure_changed": built,
        "host_changes": list(played.changed),
        "slowest_tasks": [list(each) for each in played.slowest],
        "health": verdict.facts,
    }
    if verdict.exit_code:
        raise Degraded(
            f"deployed, but {verdict.summary}\n" + "\n".join(verdict.lines),
            "fix the failing probes, then run ops deploy again",
            left_as="the site is deployed",
        )
    changed = built or bool(played.changed)
    state = "is deployed and healthy" if changed else "is up to date and healthy: nothing was changed"
    return Report("deploy", changed, f"https://{site.domain}/ {state}", facts, _step_times(timer))


def dry_run(site: Site, world: World, *, workspace: Workspace) -> Report:
    """Return the changes that a deployment would make in AWS, and the monthly cost of the site; changes nothing.

    For a new site, raises Refused with every reason why the account cannot take it.
    """
    variables = write_variables(site, workspace, public_key(Path(site.host.ssh_key).expanduser()))
    unknown: tuple[str, ...] = ()
    if world.aws.bucket_exists(state_bucket(site)):
        terraform = terraform_of(site, world, workspace)
        terraform.init(backend(site))
        changes = infrastructure.changes(site, world, terraform, variables)
    else:
        unknown = preflight.require(site, world, buckets=(state_bucket(site), site.backup.bucket))
        changes = first_changes(site, world, workspace, variables)
    replicated = len(REPLICATED) if site.backup.replica_region else 0
    charges = cost.monthly(site, secrets=len(NAMES) + len(secrets_of(site.gitea.settings)) + replicated)
    lines = [
        f"{each.action:8} {each.address}" + "".join(f"\n{'':11}{one}" for one in each.differences) for each in changes
    ]
    facts = {
        "resources": [vars(each) for each in changes],
        "monthly_usd": {line.what: line.dollars for line in charges},
        "prices_of": cost.PRICES_OF,
        "not_checked": list(unknown),
    }
    summary = f"{len(changes)} resource(s) would change" if changes else "nothing to do in AWS"
    unknown_settings = _unknown_settings(site, pins.pinned(workspace.repository / "compose"))
    all_lines = (*lines, *unknown_settings, *(f"not checked: {each}" for each in unknown), *cost.as_lines(charges))
    return Report("deploy", changed=False, summary=summary, facts=facts, lines=all_lines)


def _unknown_settings(site: Site, images: Mapping[str, str]) -> tuple[str, ...]:
    """Return a warning for each setting that the version of Gitea in ``images`` does not document."""
    release = release_from(images["GITEA_IMAGE"].partition("@")[0].rpartition(":")[2])
    return known_settings.warnings(site.gitea.settings, release.numbers if release else None)


def _step_times(timer: StepTimer) -> tuple[str, ...]:
    return tuple(f"{name}: {seconds} s" for name, seconds in timer.seconds.items())
