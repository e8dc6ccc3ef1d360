"""The internal API, for the gitea commands that run beside the server: ssh sessions, hooks, runner tokens."""

from __future__ import annotations

import hmac
import time

from . import repositories
from .accounts import User, user_of_id
from .context import Context, Handler, Route, route
from .credentials import random_text
from .keys import find_key
from .messages import HttpError, Response, json_response
from .repositories import Repository, find, may_read, may_write


def routes() -> list[Route]:
    """Every internal path; all want the internal token."""
    at = "/api/internal"
    return [
        route("GET", f"{at}/serv/none/{{key}}", _trusted(who)),
        route("GET", f"{at}/serv/command/{{key}}/{{owner}}/{{repo}}", _trusted(admit)),
        route("POST", f"{at}/hook/pre-receive", _trusted(before_push)),
        route("POST", f"{at}/hook/post-receive", _trusted(after_push)),
        route("POST", f"{at}/actions/generate_actions_runner_token", _trusted(runner_token)),
    ]


def who(context: Context) -> Response:
    """Whose key it is."""
    title, user = _key_owner(context)
    return json_response({"user": user.name, "title": title})


def admit(context: Context) -> Response:
    """Where a repository lies and who comes, when that key may use it so. Raises HttpError."""
    title, user = _key_owner(context)
    owner, name = context.parts["owner"], context.parts["repo"]
    write = context.request.query.get("mode") == "write"
    found = find(context.database, owner, name)
    if found is None:
        raise HttpError(404, f"Cannot find repository: {owner}/{name}")
    if not (may_write(found, user) if write else may_read(found, user)):
        verb = "write to" if write else "read"
        raise HttpError(
            401,
            f"User: {user.id}:{user.name} with Key: {context.parts['key']}:{title} "
            f"is not authorized to {verb} {owner}/{name}.",
        )
    folder = repositories.path_of(context.settings, found)
    return json_response({"path": str(folder), "repo_id": found.id, "user_id": user.id, "user": user.name})


def before_push(context: Context) -> Response:
    """204 when the pusher may write. Raises HttpError."""
    repository, user = _pushed(context)
    if not may_write(repository, user):
        raise HttpError(403, "User permission denied for writing.")
    return Response(204)


def after_push(context: Context) -> Response:
    """204; the repository's row knows of the push then."""
    repository, _ = _pushed(context)
    refs = [str(ref) for ref in context.request.document().get("refs", [])]
    repositories.note_push(context.database, context.settings, repository, refs)
    return Response(204)


def runner_token(context: Context) -> Response:
    """The token runners register with; the same one until it is used."""
    row = context.database.row("SELECT token FROM action_runner_token WHERE is_active ORDER BY id DESC LIMIT 1")
    if row is None:
        row = context.database.returned(
            "INSERT INTO action_runner_token (token, is_active, created) VALUES (%s, true, %s) RETURNING token",
            random_text(40),
            int(time.time()),
        )
    return json_response({"token": row["token"]})


def _trusted(handler: Handler) -> Handler:
    def guarded(context: Context) -> Response:
        wanted = f"Bearer {context.settings.internal_token}"
        if not hmac.compare_digest(context.request.header("X-Gitea-Internal-Auth"), wanted):
            raise HttpError(403, "Forbidden")
        return handler(context)

    return guarded


def _key_owner(context: Context) -> tuple[str, User]:
    number = context.parts["key"]
    key = find_key(context.database, int(number)) if number.isdigit() else None
    user = user_of_id(context.database, key.owner_id) if key else None
    if key is None or user is None or not user.may_sign_in:
        raise HttpError(401, f"Cannot find key: {number}")
    return key.title, user


def _pushed(context: Context) -> tuple[Repository, User | None]:
    query = context.request.query
    repository = repositories.of_id(context.database, int(query.get("repo", "0")))
    if repository is None:
        raise HttpError(404, "Cannot find repository")
    return repository, user_of_id(context.database, int(query.get("user", "0")))
