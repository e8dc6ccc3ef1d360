"""Gitea's administrator account, and access tokens of it."""

from __future__ import annotations

import re
import secrets
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ops.config.compose_files import logs_command
from ops.config.paths import LOCALHOST, PROJECT
from ops.config.schema import Site
from ops.errors import OpsError, Unavailable
from ops.model import Report, Secret
from ops.secrets.store import secret_name
from ops.world import World
from ops.world.https import Answer

_TOKEN = re.compile(r"Access token was successfully created(?:\.\.\.|:) ([0-9a-f]{40})")


def ensure_admin(site: Site, world: World, *, password: Secret | None = None) -> Report:
    """Ensure that the site's administrator exists and can sign in with ``password`` (default: the one in Secrets Manager).

    A password on Gitea's command line would be visible in the process list. So the account is made with a random password,
    and the API sets the right one, with a token that is deleted at once. Raises OpsError when Gitea refuses, Unavailable
    when its database does not answer: nothing was changed then.
    """
    password = password or world.aws.secret(secret_name(site, "admin-password"))
    if _can_sign_in(site, world, password):
        return Report("accounts", changed=False, summary=f"administrator {site.gitea.admin_username} can sign in")
    token_name = f"ops-{secrets.token_hex(4)}"
    token = _token(site, world, token_name)
    _set_password(site, world, token, password)
    _end_token(site, world, token_name, password)
    return Report("accounts", changed=True, summary=f"administrator {site.gitea.admin_username} can sign in now")


@contextmanager
def token(site: Site, world: World) -> Iterator[Secret]:
    """Yield an access token of the administrator, and delete it after the block. A token that cannot be deleted is reported."""
    name = f"ops-{secrets.token_hex(4)}"
    made = _token(site, world, name)
    try:
        yield made
    finally:
        _end_token(site, world, name)


def database_answers(site: Site, world: World) -> bool:
    """Whether Gitea's database answers it: without one, Gitea answers 401 to the right password and the right token."""
    return world.https.request(site.domain, LOCALHOST, "GET", "/api/healthz").status == 200


def users_from(listing: str) -> frozenset[str]:
    """Return the login names in the output of `gitea admin user list`, a table whose second column is the name."""
    rows = [line.split() for line in listing.splitlines()[1:]]
    return frozenset(row[1] for row in rows if len(row) > 2 and row[0].isdigit())


def token_from(output: str) -> Secret:
    """Return the access token in the output of Gitea's command line; raises OpsError when it has none."""
    found = _TOKEN.search(output)
    if not found:
        raise OpsError("Gitea made no access token", f"look at {logs_command('gitea')}")
    return Secret(found.group(1))


def _can_sign_in(site: Site, world: World, password: Secret) -> bool:
    status = _call(site, world, "GET", "/api/v1/user", password=password).status
    if status == 401:
        _require_database(site, world)
        # The database may have been away for the first request alone.
        status = _call(site, world, "GET", "/api/v1/user", password=password).status
    if status == 401:
        _require_database(site, world)
    return status == 200


def _require_database(site: Site, world: World) -> None:
    if not database_answers(site, world):
        raise Unavailable(
            "Gitea answers 401 to the administrator, and its database does not answer: the password may be right",
            f"look at {logs_command('postgres')}, then run ops accounts ensure-admin again",
            left_as="nothing was changed",
        )


def _token(site: Site, world: World, name: str) -> Secret:
    user = site.gitea.admin_username
    if user not in users_from(_gitea(world, ["admin", "user", "list"])):
        command = ["admin", "user", "create", "--admin", "--username", user, "--email", site.gitea.admin_email]
        _gitea(world, [*command, "--random-password", "--must-change-password=false"])
    command = ["admin", "user", "generate-access-token", "--username", user, "--token-name", name, "--scopes", "all"]
    return token_from(_gitea(world, command))


def _set_password(site: Site, world: World, token: Secret, password: Secret) -> None:
    user = site.gitea.admin_username
    request = {
        "login_name": user,
        "source_id": 0,
        "password": password.reveal(),
        "must_change_password": False,
        "admin": True,
    }
    answer = _call(site, world, "PATCH", f"/api/v1/admin/users/{user}", token=token, document=request)
    if answer.status != 200:
        raise OpsError(f"Gitea answers {answer.status} when the password is set", f"look at {logs_command('gitea')}")


def _end_token(site: Site, world: World, name: str, password: Secret | None = None) -> None:
    """Delete a token, signed in with ``password`` (default: Secrets Manager's). A token that stays is reported."""
    user = site.gitea.admin_username
    try:
        password = password or world.aws.secret(secret_name(site, "admin-password"))
        answer = _call(site, world, "DELETE", f"/api/v1/users/{user}/tokens/{name}", password=password)
        why = "" if answer.status in (204, 404) else f"Gitea answers {answer.status}"
        remedy = "delete it in the settings of that account"
        if answer.status == 401 and not database_answers(site, world):
            why += ", and its database does not answer"
        elif answer.status == 401:
            remedy += ", and remove the account's second factor"
    except OpsError as error:
        why, remedy = error.message, "delete it in the settings of that account"
    if why:
        world.tell(f"the access token {name} of {user} was not deleted: {why}; {remedy}")


def _gitea(world: World, arguments: Sequence[str]) -> str:
    ran = world.containers.execute(PROJECT, "gitea", ["gitea", *arguments], user="git")
    if ran.code:
        raise OpsError(
            f"gitea {' '.join(arguments[:3])} failed: {ran.output.strip()}", f"look at {logs_command('gitea')}"
        )
    return ran.output


def _call(
    site: Site,
    world: World,
    method: str,
    path: str,
    *,
    password: Secret | None = None,
    token: Secret | None = None,
    document: object = None,
) -> Answer:
    if password:
        pair = f"{site.gitea.admin_username}:{password.reveal()}".encode()
        headers = {"Authorization": f"Basic {b64encode(pair).decode()}"}
    else:
        headers = {"Authorization": f"token {token.reveal()}"} if token else {}
    return world.https.request(site.domain, LOCALHOST, method, path, headers, document)
