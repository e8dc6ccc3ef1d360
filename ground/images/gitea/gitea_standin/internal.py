"""The internal API, for the gitea commands that run beside the server: ssh sessions, hooks, runner tokens."""

from __future__ import annotations

import hmac
import time
from collections.abc import Iterable

from werkzeug import Response
from werkzeug.exceptions import abort
from werkzeug.routing import Rule

from . import branches, repositories
from .accounts import User, user_of_id
from .context import Context, Handler, route
from .credentials import random_text
from .keys import find_key
from .release import Release
from .repositories import Repository, find, may_read, may_write
from .web import json_response

_AT = "/api/internal"


def routes(_release: Release) -> list[Rule]:
    """Every internal path; all require the internal token."""
    return [
        route("GET", f"{_AT}/serv/none/<int:key>", _trusted(greet)),
        route("POST", f"{_AT}/manager/flush-queues", _trusted(flush_queues)),
        route("GET", f"{_AT}/serv/command/<int:key>/<owner>/<repo>", _trusted(authorize)),
        route("POST", f"{_AT}/hook/pre-receive", _trusted(before_push)),
        route("POST", f"{_AT}/hook/post-receive", _trusted(after_push)),
        route("POST", f"{_AT}/actions/generate_actions_runner_token", _trusted(runner_token)),
    ]


def greet(context: Context) -> Response:
    """The owner and the title of a key."""
    title, user = _key_owner(context)
    return json_response({"user": user.name, "title": title})


def flush_queues(context: Context) -> Response:
    """204 when every push has been entered."""
    context.instance.pushes.flush()
    return Response(status=204)


def authorize(context: Context) -> Response:
    """The repository's path and the user, when that key may use the repository so; aborts with 401 or 404."""
    title, user = _key_owner(context)
    owner, name = context.path["owner"], context.path["repo"]
    write = context.request.args.get("mode") == "write"
    found = find(context.database, owner, name)
    if found is None:
        abort(404, f"Cannot find repository: {owner}/{name}")
    if not (may_write(found, user) if write else may_read(found, user)):
        who, verb = f"{user.id}:{user.name} with Key: {context.path['key']}:{title}", "write to" if write else "read"
        abort(401, f"User: {who} is not authorized to {verb} {owner}/{name}.")
    folder = repositories.path_of(context.settings, found)
    return json_response({"path": str(folder), "repo_id": found.id, "user_id": user.id})


def before_push(context: Context) -> Response:
    """204 when the user may push, else 403."""
    repository, user = _pushed(context)
    return Response(status=204) if may_write(repository, user) else abort(403, "User permission denied for writing.")


def after_push(context: Context) -> Response:
    """200 when the pushed branches have their rows, with the lines for the user; the rest waits in the queue."""
    repository, _ = _pushed(context)
    refs = {str(ref): str(old) for ref, old in context.request.document().get("refs", {}).items()}
    branches.write(context.database, context.settings, repository, refs)
    context.instance.pushes.put(repository.id, refs)
    return json_response({"lines": _lines(context, repository, refs)})


def runner_token(context: Context) -> Response:
    """The registration token of runners; the same one until it is used."""
    row = context.database.row("SELECT token FROM action_runner_token WHERE is_active ORDER BY id DESC LIMIT 1")
    if row is None:
        now = int(time.time())
        row = context.database.insert("action_runner_token", token=random_text(40), is_active=True, created=now)
    return json_response({"token": row["token"]})


def _lines(context: Context, repository: Repository, refs: Iterable[str]) -> list[str]:
    refs = list(refs)
    if not context.instance.release.since(1, 27):
        return [f". Processing {len(refs)} references", f"Processed {len(refs)} references in total"]
    lines = []
    for name in (ref.removeprefix("refs/heads/") for ref in refs if ref.startswith("refs/heads/")):
        if name != repository.default_branch:
            address = f"{context.settings.root_url}{repository.full_name}/pulls/new/{name}"
            lines += ["", f"Create a new pull request for '{name}':", f"  {address}", ""]
    return lines


def _trusted(handler: Handler) -> Handler:
    def guarded(context: Context) -> Response:
        given, wanted = context.request.headers.get("X-Gitea-Internal-Auth", ""), context.settings.internal_token
        if not hmac.compare_digest(given.encode(), f"Bearer {wanted}".encode()):
            abort(403, "Forbidden")
        return handler(context)

    return guarded


def _key_owner(context: Context) -> tuple[str, User]:
    number = context.path["key"]
    key = find_key(context.database, number)
    user = user_of_id(context.database, key.owner_id) if key else None
    if key is None or user is None or not user.is_active:
        abort(401, f"Cannot find key: {number}")
    return key.title, user


def _pushed(context: Context) -> tuple[Repository, User | None]:
    arguments = context.request.args
    repository = repositories.of_id(context.database, arguments.get("repo", 0, type=int))
    user = user_of_id(context.database, arguments.get("user", 0, type=int))
    return repository or abort(404, "Cannot find repository"), user
