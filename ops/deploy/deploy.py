"""Deploy a site: what must exist in AWS, then what the host must be, then whether it is well. Every step converges."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ops.config.schema import Site
from ops.config.workspace import Workspace
from ops.deploy import cost, preflight
from ops.deploy.host import host, material_of, require_way_in, update_pins
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
from ops.model import Confirm, Report
from ops.secrets import rotate
from ops.secrets.store import NAMES
from ops.stack import health
from ops.step_timer import StepTimer
from ops.world import World
from ops.world.lock import exclusive


def deploy(
    site: Site,
    world: World,
    *,
    workspace: Workspace,
    replace: Confirm | None = None,
    session_manager: bool = False,
) -> Report:
    """Make the site what its file says, from nothing or from whatever a broken-off run left.

    ``replace`` has Terraform put a new machine in the host's place, once it has agreed: it is given the site's name and
    what is lost, and raises Refused otherwise. With ``session_manager`` the host is reached that way, whoever may reach its
    port: for an operator whose new address its firewall is to be told of.

    Raises Refused for a precondition, the account's, this machine's or the host's; Locked when another deployment of the
    site is under way or the host itself updates or restores, Unavailable when something is out of reach, Degraded when the
    site is deployed but not well.
    """
    key = public_key(Path(site.host.ssh_key).expanduser())
    require_way_in(site, world, session_manager=session_manager)
    options = []
    if replace:
        replace(site.name, REPLACED)
        options = ["-replace=aws_instance.host"]
    with exclusive(workspace.lock, world.clock.now()):
        return _deploy(site, world, workspace, key, options, session_manager=session_manager)


REPLACED = (
    "the host is ended, and a new machine takes its place",
    "lost: its root disk, and all that is on it; the site is away for some minutes",
    "kept: the data disk with database and repositories, the address, the name, the backups",
)


def _deploy(
    site: Site, world: World, workspace: Workspace, key: str, options: Sequence[str], *, session_manager: bool
) -> Report:
    timer = StepTimer(world)
    with timer.step("images"):
        material = material_of(site, world, workspace)
        for line in material.waiting:
            world.tell(line)
    with timer.step("infrastructure"):
        outputs, built = apply_infrastructure(site, world, workspace, key, options)
    with timer.step("mail"):
        world.tell(rotate.ensure_smtp(site, world).summary)
    with timer.step("host"):
        if update_pins(site, world) != material.update_pins:
            world.tell("an update has proven another image meanwhile")
            material = material_of(site, world, workspace)
        played = host(site, world, workspace, outputs, material, session_manager=session_manager)
    address = site.host.address or outputs.public_address
    with timer.step("health"):
        wellness = health.health_from_outside(site, world, address=address)
    facts = {
        "address": address,
        "url": f"https://{site.domain}/",
        "images": {**material.pins, "OPS_IMAGE": f"{material.ops.reference}@{material.ops.identity}"},
        "seconds": timer.seconds,
        "infrastructure_changed": built,
        "host_changes": list(played.changed),
        "slowest_tasks": [list(each) for each in played.slowest],
        "health": wellness.facts,
    }
    if wellness.exit_code:
        raise Degraded(
            f"deployed, but {wellness.summary}\n" + "\n".join(wellness.lines), "mend what is red and deploy again"
        )
    changed = built or bool(played.changed)
    said = "is deployed and healthy" if changed else "is as it was: nothing was changed, and it is healthy"
    return Report("deploy", changed, f"https://{site.domain}/ {said}", facts, _story(timer))


def dry_run(site: Site, world: World, *, workspace: Workspace) -> Report:
    """Return what a deployment would make and change in AWS, and what the site costs a month; touches nothing.

    Raises Refused with every reason why the account cannot take a site that is not there yet.
    """
    variables = write_variables(site, workspace, public_key(Path(site.host.ssh_key).expanduser()))
    unknown: tuple[str, ...] = ()
    if world.aws.bucket_exists(state_bucket(site)):
        terraform = terraform_of(site, world, workspace)
        terraform.init(backend(site))
        changes = terraform.changes(variables)
    else:
        unknown = preflight.require(site, world, buckets=(state_bucket(site), site.backup.bucket))
        changes = first_changes(site, world, workspace, variables)
    charges = cost.monthly(site, secrets=len(NAMES))
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
    told = (*lines, *(f"not checked: {each}" for each in unknown), *cost.as_lines(charges))
    return Report("deploy", changed=False, summary=summary, facts=facts, lines=told)


def _story(timer: StepTimer) -> tuple[str, ...]:
    return tuple(f"{name}: {seconds} s" for name, seconds in timer.seconds.items())
