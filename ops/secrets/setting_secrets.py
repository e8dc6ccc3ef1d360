"""The secrets that settings of Gitea take their values from: an operator stores each one, Terraform knows none of them."""

from __future__ import annotations

from pathlib import Path

from ops.config.gitea_settings import secrets_of
from ops.config.schema import Site
from ops.errors import ConfigError, OpsError, Refused, Unavailable
from ops.model import Report, Secret
from ops.secrets import rotate, store
from ops.secrets.store import secret_name
from ops.world import World
from ops.world.aws import CURRENT
from ops.world.host_ops import HostOps
from ops.world.lock import exclusive

CONSEQUENCE = "Gitea is restarted with the new value of the setting"


def require(site: Site, world: World) -> None:
    """Raise Refused that names each secret of a setting which has no value, with the command that stores one."""
    missing = [name for name in secrets_of(site.gitea.settings) if not _has_value(world, secret_name(site, name))]
    if missing:
        commands = "; ".join(f"ops secrets set {name}" for name in missing)
        raise Refused(
            f"[gitea.settings] takes values from secrets that have none: {', '.join(missing)}",
            f"run {commands} with the value on standard input, then run ops deploy",
            left_as="nothing was changed",
        )


def require_named(site: Site, name: str) -> None:
    """Raise ConfigError unless a setting of the site takes its value from the secret."""
    names = secrets_of(site.gitea.settings)
    if name not in names:
        known = f"; the site file names {', '.join(names)}" if names else ""
        raise ConfigError(
            f"no setting in [gitea.settings] takes its value from {name}{known}",
            f'set a key to "secret:{name.partition("-")[2]}" in the site file, then run the command again',
        )


def set_value(site: Site, world: World, host: HostOps | None, *, name: str, value: Secret, lock: Path) -> Report:
    """Store the value of a setting's secret, and apply it on the host where it replaces another one.

    Without a value before, or without a ``host``, the next deployment gives it to Gitea. Raises ConfigError for a secret that
    no setting names, Refused for a value that app.ini cannot keep, and otherwise what ``rotate`` raises.
    """
    require_named(site, name)
    if not value.reveal():
        raise ConfigError("no value was given", "give the value on standard input, as one line")
    store.as_setting(value, name)
    full = secret_name(site, name)
    with exclusive(lock, world.clock.now()):
        world.aws.ensure_secret(full, site.name)
        if host is None or CURRENT not in world.aws.secret_stages(full):
            version = world.aws.put_pending_secret(full, value)
            world.aws.promote_secret(full, version)
            return Report("secrets", True, f"{name} is stored; ops deploy gives it to Gitea", {"name": name})
        rotate.apply_current(world, host)
        if world.aws.secret(full) == value:
            return Report("secrets", False, f"{name} has that value already", {"name": name})
        rotate.apply_new(site, world, host, name, value)
    return Report("secrets", True, f"{name} has the given value, which is in use", {"name": name})


def _has_value(world: World, full: str) -> bool:
    try:
        return CURRENT in world.aws.secret_stages(full)
    except Unavailable:
        raise
    except OpsError:
        # There is no such secret yet.
        return False
