"""The function that runs each verb."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ops.backup import status, take, unlock, verify
from ops.cli import place, standard_input
from ops.cli.place import Place
from ops.config import known_settings, load, local_files
from ops.config.checks import is_host
from ops.config.gitea_settings import NAME_PREFIX
from ops.config.workspace import Workspace, state_of
from ops.errors import ConfigError, Refused
from ops.model import Report, Secret
from ops.restore import drill, restore
from ops.restore import plan as restore_plan
from ops.secrets import store
from ops.stack import accounts, apply_secrets, certs, dashboards, handover, health, notify, restart
from ops.stack.handover import HAPROXY, HandoverStack
from ops.update import available, change_settings, history, plan, rollback, update
from ops.wal import stream
from ops.world import World
from ops.world.host_ops import HostOps

REPOSITORY = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gitea-suite"


def _world(arguments: argparse.Namespace) -> World:
    if not arguments.site:
        raise ConfigError("no site file was given", "pass --site sites/production.toml, or set OPS_SITE")
    site = load.load(Path(arguments.site))
    local_files.require(site)
    return World(site, tell=tell)


def tell(line: str) -> None:
    """Print a line of progress to standard error."""
    print(line, file=sys.stderr, flush=True)


def run_site(arguments: argparse.Namespace) -> Report:
    """Check the site file and print what it describes."""
    site = _world(arguments).site
    return Report(
        "site",
        changed=False,
        summary=f"{site.name}: https://{site.domain}/ in {site.aws.region}",
        facts={"name": site.name},
        lines=known_settings.warnings(site.gitea.settings),
    )


def run_deploy(arguments: argparse.Namespace) -> Report:
    """Deploy the site, or report what a deployment would change."""
    # Ansible is installed on the deploying machine, but not in the ops image on the host.
    from ops.deploy import deploy, drift

    world, workspace = _workspace(arguments)
    if arguments.dry_run:
        return deploy.dry_run(world.site, world, workspace=workspace)
    if arguments.check:
        return drift.check(world.site, world, workspace=workspace)
    return deploy.deploy(
        world.site,
        world,
        workspace=workspace,
        confirm=_confirm(arguments),
        replace_host=arguments.replace_host,
        session_manager=arguments.session_manager,
    )


def run_destroy(arguments: argparse.Namespace) -> Report:
    """Destroy the site."""
    from ops.deploy import destroy

    world, workspace = _workspace(arguments)
    request = destroy.DestroyRequest(arguments.with_backups, arguments.without_verified_backup)
    return destroy.destroy(world.site, world, workspace=workspace, request=request, confirm=_confirm(arguments))


def _workspace(arguments: argparse.Namespace) -> tuple[World, Workspace]:
    world = _world(arguments)
    workspace = Workspace(REPOSITORY, state_of(Path(arguments.site).resolve(), world.site.name), CACHE)
    workspace.require_sound()
    return world, workspace


def _confirm(arguments: argparse.Namespace) -> Callable[[str, Sequence[str]], None]:
    """Return the function that asks the operator to type the site's name; --yes skips the question."""

    def ask(name: str, losses: Sequence[str]) -> None:
        for line in losses:
            tell(line)
        if arguments.yes:
            return
        if not sys.stdin.isatty():
            raise Refused(
                "this needs a confirmation, and there is no terminal",
                "pass --yes to agree beforehand",
                left_as="nothing was changed",
            )
        print(f"To continue, type the site's name ({name}): ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip() != name:
            raise Refused(
                "the confirmation is not the site's name",
                f"run the command again and type {name}",
                left_as="nothing was changed",
            )

    return ask


def run_health(arguments: argparse.Namespace) -> Report:
    """Probe the site, from its host or from outside."""
    world = _world(arguments)
    if arguments.address:
        if not is_host(arguments.address):
            raise ConfigError(
                f"{arguments.address!r} is not an address", "give a host name or an IPv4 address with --address"
            )
        return health.health_from_outside(world.site, world, address=arguments.address)
    return health.health(world.site, world)


def run_certs(arguments: argparse.Namespace) -> Report:
    """Issue or renew the certificate."""
    world = _world(arguments)
    return certs.renew(world.site, world)


def run_nginx(arguments: argparse.Namespace) -> Report:
    """Replace the running nginx without a failed request."""
    world = _world(arguments)
    return handover.replace(world.site, world)


def run_haproxy(arguments: argparse.Namespace) -> Report:
    """Replace the running HAProxy without a failed request."""
    world = _world(arguments)
    return handover.replace(world.site, world, stack=HandoverStack(service=HAPROXY))


def run_stack(arguments: argparse.Namespace) -> Report:
    """Recreate or stop Gitea while requests wait."""
    world = _world(arguments)
    if arguments.action == "stop":
        return restart.stop(world.site, world)
    return restart.recreate(world.site, world, [name for name in arguments.services.split(",") if name])


def run_backup(arguments: argparse.Namespace) -> Report:
    """Run one of the backup verbs."""
    if arguments.action in {"prune", "rewind"}:
        return _run_operator_backup(arguments)
    world = _world(arguments)
    verbs = {
        "list": status.backups,
        "verify": verify.verify,
        "status": status.status,
        "stream": stream.stream,
        "unlock": unlock.unlock,
    }
    if arguments.action in verbs:
        return verbs[arguments.action](world.site, world)
    return take.take(world.site, world, allow_empty_disk=arguments.allow_empty_disk)


def _run_operator_backup(arguments: argparse.Namespace) -> Report:
    # Only on the deploying machine, like deploy.
    from ops.backup import prune, rewind

    world, workspace = _workspace(arguments)
    confirm = _confirm(arguments)
    if arguments.action == "prune":
        return prune.prune(world.site, world, workspace=workspace, confirm=confirm, dry_run=arguments.dry_run)
    return rewind.rewind(
        world.site, world, workspace=workspace, at=arguments.at, confirm=confirm, dry_run=arguments.dry_run
    )


def run_restore(arguments: argparse.Namespace) -> Report:
    """Restore a backup, or run the restore drill."""
    world = _world(arguments)
    if arguments.resume:
        return restore.resume(world.site, world)
    if arguments.drill:
        return drill.drill(world.site, world, when_due=arguments.when_due, accept=arguments.accept)
    request = restore_plan.RestoreRequest(
        arguments.backup,
        arguments.at,
        arguments.repository,
        arguments.dry_run,
        arguments.from_wal,
        arguments.newest_database,
        arguments.full_copy,
    )
    if arguments.export_secret_key:
        return restore.keep_secret_key(world.site, world, request=request)
    return restore.restore(world.site, world, request=request, confirm=_confirm(arguments))


def run_update(arguments: argparse.Namespace) -> Report:
    """Update services, or report on updates."""
    world = _world(arguments)
    if arguments.check:
        return available.check(world.site, world)
    if arguments.resume:
        return rollback.resume(world.site, world)
    if arguments.service == "history":
        return history.history(world.site, world)
    # An automatic update has no operator to ask: the site file is the consent.
    arguments.yes = arguments.yes or arguments.automatic
    request = plan.UpdateRequest(
        arguments.service,
        arguments.to,
        arguments.automatic,
        arguments.dry_run,
        arguments.without_drill,
        tuple(arguments.accept_loss),
    )
    return update.update(world.site, world, request=request, confirm=_confirm(arguments))


def run_rollback(arguments: argparse.Namespace) -> Report:
    """Roll back the last update."""
    world = _world(arguments)
    return rollback.rollback(world.site, world, confirm=_confirm(arguments), dry_run=arguments.dry_run)


def run_dashboards(arguments: argparse.Namespace) -> Report:
    """Say where Grafana listens on the host; on the deploying machine, open a tunnel to it."""
    if place.here() is Place.HOST:
        world = _world(arguments)
        return dashboards.address(world.site, world)
    # Only on the deploying machine, like deploy.
    from ops.deploy import dashboards as tunnel
    from ops.deploy import host as deploy_host

    world, workspace = _workspace(arguments)
    deploy_host.require_session_manager(world.site, world)
    host = HostOps(deploy_host.connection_of(world.site, workspace), world.processes)
    return tunnel.open_tunnel(world.site, world, host, port=arguments.port, minutes=arguments.minutes)


def run_secrets(arguments: argparse.Namespace) -> Report:
    """Fetch, apply, set or rotate secrets."""
    if arguments.action in {"rotate", "rotate-smtp", "set"}:
        return _rotate(arguments)
    world = _world(arguments)
    if arguments.action == "fetch":
        return store.fetch(world.site, world)
    return apply_secrets.apply(world.site, world, pending=arguments.pending)


def _rotate(arguments: argparse.Namespace) -> Report:
    # Only on the deploying machine, like deploy.
    from ops.deploy import host as deploy_host
    from ops.secrets import rotate

    name = store.SMTP if arguments.action == "rotate-smtp" else arguments.name
    is_set = arguments.action == "set"
    if is_set and name.startswith(NAME_PREFIX):
        return _set_setting(arguments)
    (rotate.require_adoptable if is_set else rotate.require_rotatable)(name)
    world, workspace = _workspace(arguments)
    host = HostOps(deploy_host.connection_of(world.site, workspace), world.processes)
    if is_set:
        value = Secret(standard_input.one_line(f"the value of {name}"))
        _confirm(arguments)(world.site.name, [rotate.ADOPTED[name]])
        return rotate.adopt(world.site, world, host, name=name, value=value, lock=workspace.lock)
    _confirm(arguments)(world.site.name, [rotate.CONSEQUENCES[name]])
    return rotate.rotate(world.site, world, host, name=name, lock=workspace.lock)


def _set_setting(arguments: argparse.Namespace) -> Report:
    from ops.deploy import host as deploy_host
    from ops.secrets import setting_secrets

    world, workspace = _workspace(arguments)
    setting_secrets.require_named(world.site, arguments.name)
    value = Secret(standard_input.one_line(f"the value of {arguments.name}"))
    host = None
    if workspace.outputs.is_file():
        host = HostOps(deploy_host.connection_of(world.site, workspace), world.processes)
        _confirm(arguments)(world.site.name, [setting_secrets.CONSEQUENCE])
    return setting_secrets.set_value(world.site, world, host, name=arguments.name, value=value, lock=workspace.lock)


def run_settings(arguments: argparse.Namespace) -> Report:
    """Apply or check the settings of Gitea."""
    world = _world(arguments)
    if arguments.action == "apply":
        return change_settings.apply(world.site, world, dry_run=arguments.dry_run)
    verbs = {"check": change_settings.check, "resume": change_settings.resume}
    return verbs[arguments.action](world.site, world)


def run_accounts(arguments: argparse.Namespace) -> Report:
    """Ensure that the administrator can sign in."""
    world = _world(arguments)
    return accounts.ensure_admin(world.site, world)


def run_notify(arguments: argparse.Namespace) -> Report:
    """Mail a text from standard input to the site's contact."""
    world = _world(arguments)
    return notify.notify(world.site, world, subject=arguments.subject, text=standard_input.end())


def run_gate(arguments: argparse.Namespace) -> Report:
    """Run a stage, print the status of the gate or promote a tree."""
    # Only in a checkout, like deploy.
    from ops.gate import runner

    context = runner.GateContext.of(REPOSITORY, tell)
    if arguments.action == "run":
        return runner.run(context, stage=arguments.stage, options=arguments.options)
    if arguments.action == "promote":
        return runner.promote(context, version=arguments.version)
    return runner.status(context)
