"""Give a secret of the site a new value. The old one stays good until the new one is in use, wherever a run is cut off.

The new value is kept beside the current one (AWSPENDING), put into use on the host, and only then made the current one:
until that moment the way back is the host's own `ops secrets apply`, and after it there is none to be needed.
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets as randomness
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ops.config.schema import Site
from ops.errors import ConfigError, Degraded, OpsError, Refused, RolledBack, Stranded
from ops.model import AccessKey, Report, Secret, SmtpCredentials
from ops.secrets import store
from ops.secrets.store import SMTP, secret_name
from ops.world import World
from ops.world.aws import CURRENT
from ops.world.host_ops import HostOps
from ops.world.lock import exclusive
from ops.world.mail import CredentialsRefused

# What the operator is told before: what a rotation interrupts.
CONSEQUENCES: Mapping[str, str] = {
    "admin-password": "the administrator signs in with the new password; nothing is restarted",
    "database-password": "Gitea is restarted",
    "gitea-internal-token": "Gitea is restarted",
    "gitea-jwt-secret": "Gitea is restarted; OAuth2 tokens that it has issued are void, and their owners sign in again",
    "metrics-token": "Gitea is restarted; whoever reads /metrics needs the new token",
    SMTP: "Gitea is restarted; a mail to the contact proves the new key",
}
_REFUSED = {
    "gitea-secret-key": (
        "Gitea encrypts columns of its database with it (two-factor secrets, passwords of mirrors and of authentication "
        "sources, Actions secrets) and cannot encrypt them anew: they would be lost"
    ),
    "restic-password": "every backup in both repositories is encrypted with it",
}
# What a backup was made with, and a site that is made anew has to be told: what the operator is told before.
ADOPTED: Mapping[str, str] = {
    "gitea-secret-key": "Gitea is restarted, and cannot read what it encrypted under the key that it has now",
    "restic-password": "backups are read and made with this password; what was backed up with the present one cannot be read",
}
_LETTERS = string.ascii_letters + string.digits
# IAM is eventually consistent: a key is known everywhere within seconds, seldom a minute (IAM user guide, "Troubleshoot IAM").
_SPREADING_SECONDS, _PAUSE_SECONDS = 90, 3


@dataclass(frozen=True)
class MadeKey:
    """A key made in this run, and the mail credentials that follow from it."""

    identity: str
    credentials: SmtpCredentials


def rotate(site: Site, world: World, host: HostOps, *, name: str, lock: Path) -> Report:
    """Give one secret a new value of the same form and have the host use it.

    Raises ConfigError for an unknown name, Refused for one that must not change, RolledBack when the host is back on the
    value that was current, Stranded when it could not go back, and Unavailable when nothing was begun.
    """
    require_rotatable(name)
    if name == SMTP:
        return rotate_smtp(site, world, host, lock=lock)
    with exclusive(lock, world.clock.now()):
        _begin_from_what_is_current(world, host)
        value = value_like(world.aws.secret(secret_name(site, name)))
        _put_into_use(site, world, host, name, value)
    return Report("secrets", True, f"{name} has a new value, which is in use", {"name": name})


def require_rotatable(name: str) -> None:
    """Raise Refused for a secret that must keep its value, ConfigError for one that the site does not have."""
    if name in _REFUSED:
        raise Refused(f"{name} cannot be rotated: {_REFUSED[name]}", f"rotate one of {', '.join(CONSEQUENCES)}")
    if name not in CONSEQUENCES:
        raise ConfigError(f"{name} is no secret of the site", f"name one of {', '.join(CONSEQUENCES)}")


def adopt(site: Site, world: World, host: HostOps, *, name: str, value: Secret, lock: Path) -> Report:
    """Have the site use a value that a lost site had, so that the backups of that one can be read and restored.

    Raises ConfigError for an unknown name or what cannot be a value, Refused for a secret that no backup needs, and
    otherwise as ``rotate`` does.
    """
    require_adoptable(name)
    if value.reveal().split() != [value.reveal()]:
        raise ConfigError("what was given is not a secret of one word", "give it on standard input, as one line")
    with exclusive(lock, world.clock.now()):
        _begin_from_what_is_current(world, host)
        if world.aws.secret(secret_name(site, name)) == value:
            return Report("secrets", False, f"{name} has that value already", {"name": name})
        _put_into_use(site, world, host, name, value)
    return Report("secrets", True, f"{name} has the value that was given, which is in use", {"name": name})


def require_adoptable(name: str) -> None:
    """Raise Refused for a secret that no backup needs, ConfigError for one that the site does not have."""
    if name in ADOPTED:
        return
    if name in CONSEQUENCES:
        raise Refused(f"{name} is of this site alone: no backup needs its old value", f"ops secrets rotate {name}")
    raise ConfigError(f"{name} is no secret of the site", f"name one of {', '.join(ADOPTED)}")


def value_like(value: Secret) -> Secret:
    """Return a random value as long as the one given, of letters and digits as Terraform makes them."""
    return Secret("".join(randomness.choice(_LETTERS) for _ in value.reveal()))


def rotate_smtp(site: Site, world: World, host: HostOps, *, lock: Path) -> Report:
    """Make a new IAM key, prove by a mail that it is good for sending, have the host use it, then delete the old one.

    Raises as ``rotate`` does, and Degraded when all is done except that the old key is still there.
    """
    with exclusive(lock, world.clock.now()):
        _begin_from_what_is_current(world, host)
        current = _current_credentials(site, world)
        made = _new_key(site, world, current)
        try:
            _prove(site, world, made.credentials)
        except OpsError as error:
            _forget(site, world, made.identity)
            raise RolledBack(
                f"the new key is not good for sending, the old one stays in use: {error.message}", error.hint
            ) from error
        _put_into_use(site, world, host, SMTP, document_of(made.credentials))
        _retire(
            site,
            world,
            [key.identity for key in world.aws.access_keys(mail_user(site)) if key.identity != made.identity],
        )
    return Report(
        "secrets", True, f"mail is sent with the new key {made.identity}", {"name": SMTP, "key": made.identity}
    )


def ensure_smtp(site: Site, world: World) -> Report:
    """Make the site's SMTP credentials if there are none, or none that AWS still knows.

    A mail that cannot be sent yet is no failure here: SES may not have verified the domain of a site that is being made.
    """
    current = _current_credentials(site, world)
    if current and AccessKey(current.username, active=True) in world.aws.access_keys(mail_user(site)):
        return Report("secrets", False, "SMTP credentials are there")
    made = _new_key(site, world, current)
    version = world.aws.put_pending_secret(secret_name(site, SMTP), document_of(made.credentials))
    world.aws.promote_secret(secret_name(site, SMTP), version)
    try:
        _prove(site, world, made.credentials)
    except OpsError as error:
        world.tell(f"no mail can be sent yet: {error.message}; try: ops notify")
    return Report("secrets", True, f"SMTP credentials were made: key {made.identity}", {"key": made.identity})


def smtp_password(key: Secret, region: str) -> Secret:
    """Return the SMTP password that follows from an IAM secret key in a region.

    The algorithm: SES developer guide, "Obtaining Amazon SES SMTP credentials by converting existing AWS credentials".
    """
    signature = f"AWS4{key.reveal()}".encode()
    for part in ("11111111", region, "ses", "aws4_request", "SendRawEmail"):
        signature = hmac.digest(signature, part.encode(), "sha256")
    return Secret(base64.b64encode(b"\x04" + signature).decode())


def plan_leftovers(keys: Iterable[AccessKey], current: str) -> tuple[str, ...]:
    """Return the keys to delete before one is made: all but the current one, for no one can know their secrets.

    AWS lets a user have two. A broken-off run may have left a second.
    """
    return tuple(key.identity for key in keys if key.identity != current)


def mail_user(site: Site) -> str:
    """Return the IAM user that mail is sent as; infra/mail.tf makes it, without a key."""
    return f"{site.name}-mail"


def document_of(credentials: SmtpCredentials) -> Secret:
    """Return the credentials as the secret keeps them."""
    return Secret(json.dumps({"username": credentials.username, "password": credentials.password.reveal()}))


def _begin_from_what_is_current(world: World, host: HostOps) -> None:
    world.tell("asking the host to use what is current")
    host.ops("secrets", "apply")


def _current_credentials(site: Site, world: World) -> SmtpCredentials | None:
    name = secret_name(site, SMTP)
    return store.credentials_from(world.aws.secret(name)) if CURRENT in world.aws.secret_stages(name) else None


def _new_key(site: Site, world: World, current: SmtpCredentials | None) -> MadeKey:
    user = mail_user(site)
    for identity in plan_leftovers(world.aws.access_keys(user), current.username if current else ""):
        world.tell(f"deleting key {identity}, which a broken-off run left")
        world.aws.delete_access_key(user, identity)
    identity, key = world.aws.make_access_key(user)
    world.tell(f"made key {identity}")
    return MadeKey(identity, SmtpCredentials(identity, smtp_password(key, site.aws.region)))


def _prove(site: Site, world: World, credentials: SmtpCredentials) -> None:
    deadline = world.clock.monotonic() + _SPREADING_SECONDS
    while True:
        try:
            world.mail.send(
                credentials,
                sender=site.mail.sender,
                recipient=site.contact,
                subject=f"[{site.name}] mail is sent with a new key",
                text=f"Mail of https://{site.domain}/ is sent with the key {credentials.username} from now on.\n",
            )
        except CredentialsRefused:
            if world.clock.monotonic() >= deadline:
                raise
            world.tell("the mail server does not know the key yet")
            world.clock.sleep(_PAUSE_SECONDS)
        else:
            return


def _put_into_use(site: Site, world: World, host: HostOps, name: str, value: Secret) -> None:
    version = world.aws.put_pending_secret(secret_name(site, name), value)
    try:
        world.tell(f"asking the host to use the new value of {name}")
        host.ops("secrets", "apply", "--pending", name)
        world.aws.promote_secret(secret_name(site, name), version)
    except OpsError as error:
        _go_back(world, host, name, error)
        raise RolledBack(f"{name}: {error.message}; the host is back on the current value", error.hint) from error
    except KeyboardInterrupt as interrupt:
        _go_back(world, host, name, interrupt)
        raise


def _go_back(world: World, host: HostOps, name: str, reason: BaseException) -> None:
    world.tell("asking the host to go back to what is current")
    try:
        host.ops("secrets", "apply")
    except OpsError as error:
        raise Stranded(
            f"{name}: {reason}; and the host did not go back: {error.message}. No value is lost: the host has the current "
            "one or the one that was to follow",
            "ops secrets apply on the host, or the rotation once more",
        ) from reason


def _forget(site: Site, world: World, identity: str) -> None:
    try:
        world.aws.delete_access_key(mail_user(site), identity)
    except OpsError as error:
        world.tell(f"key {identity} is left for the next run to delete: {error.message}")


def _retire(site: Site, world: World, identities: Iterable[str]) -> None:
    for identity in identities:
        try:
            world.aws.delete_access_key(mail_user(site), identity)
        except OpsError as error:
            raise Degraded(
                f"the new key is in use, but the old key {identity} is still there: {error.message}",
                "ops secrets rotate-smtp deletes it",
            ) from error
