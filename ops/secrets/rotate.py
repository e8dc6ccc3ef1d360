"""Rotate a secret of the site. The old value stays valid until the new one is in use, wherever a run is cut off.

The new value is stored beside the current one (AWSPENDING), applied on the host, and only then made the current one. Until
then the host's own `ops secrets apply` restores the old value; afterwards nothing needs to be restored.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
import secrets as randomness
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ops.config.gitea_settings import NAME_PREFIX
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

# What a rotation interrupts; the operator reads it before confirming.
CONSEQUENCES: Mapping[str, str] = {
    "admin-password": "the administrator signs in with the new password; nothing is restarted",
    "database-password": "Gitea is restarted",
    "gitea-internal-token": "Gitea is restarted",
    "gitea-jwt-secret": "Gitea is restarted; OAuth2 tokens that it has issued become invalid, and their owners sign in again",
    "metrics-token": "Gitea is restarted; a client that reads /metrics needs the new token",
    "grafana-password": "Grafana is restarted, and who looks at it signs in again",
    "monitoring-password": "nothing is restarted but the PostgreSQL exporter",
    SMTP: "Gitea is restarted; a mail to the contact tests the new key",
}
_FIXED = {
    "gitea-secret-key": (
        "Gitea encrypts columns of its database with it (two-factor secrets, passwords of mirrors and of authentication "
        "sources, Actions secrets) and cannot encrypt them again: they would be lost"
    ),
    "restic-password": "every backup in both repositories is encrypted with it",
}
# Secrets that a backup depends on, and that a new site takes over from a lost one; the operator reads the consequence before confirming.
ADOPTED: Mapping[str, str] = {
    "gitea-secret-key": "Gitea is restarted, and cannot read what it encrypted with its present key",
    "restic-password": "backups are read and made with this password; backups made with the present one cannot be read",
}
# Its form: IAM API reference, "AccessKey".
_ACCESS_KEY = re.compile(r"[A-Z0-9]{16,128}")
_LETTERS = string.ascii_letters + string.digits
# IAM is eventually consistent: a key is valid everywhere within seconds, seldom a minute (IAM user guide, "Troubleshoot IAM").
_PROPAGATION_SECONDS, _PAUSE_SECONDS = 90, 3


@dataclass(frozen=True)
class MadeKey:
    """A key made in this run, and the mail credentials derived from it."""

    identity: str
    credentials: SmtpCredentials


def rotate(site: Site, world: World, host: HostOps, *, name: str, lock: Path) -> Report:
    """Give a secret a new value of the same form and apply it on the host.

    Raises ConfigError for an unknown name, Refused for a secret that must not change, RolledBack when the host is back on
    the current value, Stranded when it could not go back, and Unavailable when the host was out of reach from the start.
    """
    require_rotatable(name)
    if name == SMTP:
        return rotate_smtp(site, world, host, lock=lock)
    with exclusive(lock, world.clock.now()):
        apply_current(world, host)
        value = value_like(world.aws.secret(secret_name(site, name)))
        apply_new(site, world, host, name, value)
    return Report("secrets", True, f"{name} has a new value, which is in use", {"name": name})


def require_rotatable(name: str) -> None:
    """Raise Refused for a secret that must keep its value, ConfigError for one that the site does not have."""
    if name in _FIXED:
        raise Refused(
            f"{name} cannot be rotated: {_FIXED[name]}",
            f"choose another secret: {', '.join(CONSEQUENCES)}",
            left_as="nothing was changed",
        )
    if name.startswith(NAME_PREFIX):
        raise Refused(
            f"{name} is the value of a setting of Gitea, which another system has, too",
            f"run ops secrets set {name} with the new value on standard input",
            left_as="nothing was changed",
        )
    if not name:
        raise ConfigError("no secret was named", f"name one of {', '.join(CONSEQUENCES)}")
    if name not in CONSEQUENCES:
        raise ConfigError(f"{name} is not a secret of the site", f"choose one of {', '.join(CONSEQUENCES)}")


def adopt(site: Site, world: World, host: HostOps, *, name: str, value: Secret, lock: Path) -> Report:
    """Give the site a secret of a lost site, so that the lost site's backups can be read and restored.

    Raises ConfigError for an unknown name or an invalid value, Refused for a secret that no backup needs, and otherwise
    what ``rotate`` raises.
    """
    require_adoptable(name)
    if value.reveal().split() != [value.reveal()]:
        raise ConfigError("the value is not a secret of one word", "give the secret on standard input, as one line")
    with exclusive(lock, world.clock.now()):
        apply_current(world, host)
        if world.aws.secret(secret_name(site, name)) == value:
            return Report("secrets", False, f"{name} has that value already", {"name": name})
        apply_new(site, world, host, name, value)
    return Report("secrets", True, f"{name} has the given value, which is in use", {"name": name})


def require_adoptable(name: str) -> None:
    """Raise Refused for a secret that no backup needs, ConfigError for one that the site does not have."""
    if name in ADOPTED:
        return
    if name in CONSEQUENCES:
        raise Refused(
            f"no backup depends on {name}: the value of a lost site is of no use",
            f"run ops secrets rotate {name} to change it",
            left_as="nothing was changed",
        )
    raise ConfigError(f"{name} is not a secret of the site", f"choose one of {', '.join(ADOPTED)}")


def value_like(value: Secret) -> Secret:
    """Return a random value of the same length, of letters and digits as Terraform makes them."""
    return Secret("".join(randomness.choice(_LETTERS) for _ in value.reveal()))


def rotate_smtp(site: Site, world: World, host: HostOps, *, lock: Path) -> Report:
    """Make a new IAM key, test it with a mail, apply it on the host, then delete the old key.

    Raises what ``rotate`` raises, and Degraded when the new key is in use but the old key could not be deleted.
    """
    with exclusive(lock, world.clock.now()):
        apply_current(world, host)
        current = _current_credentials(site, world)
        made = _new_key(site, world, current)
        try:
            _send_test_mail(site, world, made.credentials)
        except OpsError as error:
            _delete_key(site, world, made.identity)
            raise RolledBack(
                f"no mail can be sent with the new key: {error.message}",
                error.hint,
                left_as="the old key is in use",
            ) from error
        apply_new(site, world, host, SMTP, document_of(made.credentials))
        _retire(
            site,
            world,
            [key.identity for key in world.aws.access_keys(mail_user(site)) if key.identity != made.identity],
        )
    return Report(
        "secrets", True, f"mail is sent with the new key {made.identity}", {"name": SMTP, "key": made.identity}
    )


def ensure_smtp(site: Site, world: World) -> Report:
    """Make the site's SMTP credentials when it has none, or when AWS no longer accepts their key.

    Raises Refused for credentials whose user name is not an access key of IAM: an operator stored those of another
    server, and they are kept. A test mail that cannot be sent is not an error: SES may not have verified the domain of a new site yet.
    """
    current = _current_credentials(site, world)
    if current and AccessKey(current.username, active=True) in world.aws.access_keys(mail_user(site)):
        return Report("secrets", False, "SMTP credentials exist")
    if current and not _ACCESS_KEY.fullmatch(current.username):
        raise Refused(
            f"the secret {SMTP} has the credentials of {current.username}, which is not an access key of IAM",
            "run ops secrets rotate-smtp to replace them by a key for SES",
            left_as="the secret is unchanged",
        )
    made = _new_key(site, world, current)
    version = world.aws.put_pending_secret(secret_name(site, SMTP), document_of(made.credentials))
    world.aws.promote_secret(secret_name(site, SMTP), version)
    try:
        _send_test_mail(site, world, made.credentials)
    except OpsError as error:
        world.tell(f"no mail can be sent yet: {error.message}; test it with ops notify")
    return Report("secrets", True, f"SMTP credentials were made: key {made.identity}", {"key": made.identity})


def smtp_password(key: Secret, region: str) -> Secret:
    """Return the SMTP password derived from an IAM secret key in a region.

    The algorithm: SES developer guide, "Obtaining Amazon SES SMTP credentials by converting existing AWS credentials".
    """
    signature = f"AWS4{key.reveal()}".encode()
    for part in ("11111111", region, "ses", "aws4_request", "SendRawEmail"):
        signature = hmac.digest(signature, part.encode(), "sha256")
    return Secret(base64.b64encode(b"\x04" + signature).decode())


def plan_leftovers(keys: Iterable[AccessKey], current: str) -> tuple[str, ...]:
    """Return the keys to delete before a new one is made: all but the current one, since their secrets are not stored.

    AWS allows two keys per user. A run that was cut off may have left a second.
    """
    return tuple(key.identity for key in keys if key.identity != current)


def mail_user(site: Site) -> str:
    """Return the IAM user whose keys send mail; infra/mail.tf makes it, without a key."""
    return f"{site.name}-mail"


def document_of(credentials: SmtpCredentials) -> Secret:
    """Return the credentials as the JSON document of their secret."""
    return Secret(json.dumps({"username": credentials.username, "password": credentials.password.reveal()}))


def apply_current(world: World, host: HostOps) -> None:
    """Have the host apply the current secrets: a run that was cut off may have left another value in use."""
    world.tell("host: applying the current secrets")
    host.ops("secrets", "apply")


def _current_credentials(site: Site, world: World) -> SmtpCredentials | None:
    name = secret_name(site, SMTP)
    if CURRENT not in world.aws.secret_stages(name):
        return None
    document = world.aws.secret(name)
    try:
        return store.credentials_from(document)
    except Refused as error:
        world.tell(f"{error.message}: it is replaced, and AWS keeps it as the previous version")
        return None


def _new_key(site: Site, world: World, current: SmtpCredentials | None) -> MadeKey:
    user = mail_user(site)
    for identity in plan_leftovers(world.aws.access_keys(user), current.username if current else ""):
        world.tell(f"deleting key {identity}, left by a run that was cut off")
        world.aws.delete_access_key(user, identity)
    identity, key = world.aws.make_access_key(user)
    world.tell(f"made key {identity}")
    return MadeKey(identity, SmtpCredentials(identity, smtp_password(key, site.aws.region)))


def _send_test_mail(site: Site, world: World, credentials: SmtpCredentials) -> None:
    deadline = world.clock.monotonic() + _PROPAGATION_SECONDS
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
            world.tell("the mail server does not accept the key yet")
            world.clock.sleep(_PAUSE_SECONDS)
        else:
            return


def apply_new(site: Site, world: World, host: HostOps, name: str, value: Secret) -> None:
    """Store a value as pending, have the host apply it, and make it the current one; raises what ``rotate`` raises."""
    version = world.aws.put_pending_secret(secret_name(site, name), value)
    try:
        world.tell(f"host: applying the new value of {name}")
        host.ops("secrets", "apply", "--pending", name)
        world.aws.promote_secret(secret_name(site, name), version)
    except OpsError as error:
        _go_back(world, host, name, error)
        raise RolledBack(
            f"{name}: {error.message}", error.hint, left_as="the host is back on the current value"
        ) from error
    except KeyboardInterrupt as interrupt:
        _go_back(world, host, name, interrupt)
        raise


def _go_back(world: World, host: HostOps, name: str, reason: BaseException) -> None:
    world.tell("host: going back to the current secrets")
    try:
        host.ops("secrets", "apply")
    except OpsError as error:
        raise Stranded(
            f"{name}: {reason}; and the host did not go back: {error.message}",
            "run ops secrets apply on the host, or run the rotation again",
            left_as="no value is lost: the host has the current value or the new one",
        ) from reason


def _delete_key(site: Site, world: World, identity: str) -> None:
    try:
        world.aws.delete_access_key(mail_user(site), identity)
    except OpsError as error:
        world.tell(f"key {identity} was not deleted, the next run deletes it: {error.message}")


def _retire(site: Site, world: World, identities: Iterable[str]) -> None:
    for identity in identities:
        try:
            world.aws.delete_access_key(mail_user(site), identity)
        except OpsError as error:
            raise Degraded(
                f"the old key {identity} could not be deleted: {error.message}",
                "run ops secrets rotate-smtp again, which deletes it",
                left_as="the new key is in use",
            ) from error
