"""The REST API below /api/v1: the routes and fields that this project reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeVar

from werkzeug import Response
from werkzeug.exceptions import abort
from werkzeug.routing import Rule

from . import accounts, issues, keys, repositories
from .accounts import AccountError, NewUser, User
from .context import Context, Handler, route
from .identity import allows, valid_scopes
from .issues import Issue
from .keys import PublicKey
from .repositories import Branch, NewRepository, Repository
from .web import json_response

Item = TypeVar("Item")
AT = "/api/v1"
REPO = f"{AT}/repos/<owner>/<repo>"
NOT_FOUND = "The target couldn't be found."
BRANCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")


def routes() -> list[Rule]:
    """Every path of the API."""
    return [
        route("GET", f"{AT}/version", _open(version)),
        route("GET", f"{AT}/user", signed_in(my_account)),
        route("POST", f"{AT}/user/repos", signed_in(create_repository)),
        route("GET", f"{AT}/user/keys", signed_in(list_keys)),
        route("POST", f"{AT}/user/keys", signed_in(add_key)),
        route("GET", f"{AT}/user/keys/<int:id>", signed_in(get_key)),
        route("DELETE", f"{AT}/user/keys/<int:id>", signed_in(remove_key)),
        route("GET", f"{AT}/users/<user>", _open(account)),
        route("POST", f"{AT}/users/<user>/tokens", signed_in(create_token)),
        route("DELETE", f"{AT}/users/<user>/tokens/<token>", signed_in(delete_token)),
        route("GET", f"{AT}/repos/search", _open(search_repositories)),
        route("GET", REPO, _open(get_repository)),
        route("DELETE", REPO, signed_in(delete_repository)),
        route("GET", f"{REPO}/branches", _open(list_branches)),
        route("GET", f"{REPO}/branches/<path:branch>", _open(get_branch)),
        route("GET", f"{REPO}/issues", _open(list_issues)),
        route("POST", f"{REPO}/issues", signed_in(create_issue)),
        route("GET", f"{REPO}/issues/<int:index>", _open(get_issue)),
        route("GET", f"{AT}/admin/users", for_administrators(list_users)),
        route("POST", f"{AT}/admin/users", for_administrators(create_user)),
        route("PATCH", f"{AT}/admin/users/<user>", for_administrators(edit_user)),
        route("DELETE", f"{AT}/admin/users/<user>", for_administrators(delete_user)),
    ]


def version(context: Context) -> Response:
    """The release."""
    return json_response({"version": context.instance.release.version})


def my_account(context: Context) -> Response:
    """The author's own account."""
    return json_response(_user_document(context, context.me))


def account(context: Context) -> Response:
    """Another account."""
    return json_response(_user_document(context, _user(context)))


def search_repositories(context: Context) -> Response:
    """Repositories by a part of their names."""
    found = repositories.search(context.database, context.user, context.request.args.get("q", "").strip())
    return json_response({"ok": True, "data": [_repository_document(context, each) for each in _page(context, found)]})


def create_repository(context: Context) -> Response:
    """201; 409 for a taken name, 422 for an invalid one."""
    document = context.request.document()
    branch = text_of(document, "default_branch") or "main"
    if not BRANCH.fullmatch(branch):
        abort(422, "[DefaultBranch]: GitRefName")
    private, auto_init = document.get("private") is True, document.get("auto_init") is True
    new = NewRepository(required(document, "name"), private, auto_init, branch)
    try:
        made = repositories.create(context.database, context.settings, context.me, new)
    except repositories.RepositoryExistsError:
        abort(409, "The repository with the same name already exists.")
    except repositories.BadNameError as error:
        abort(422, str(error))
    return json_response(_repository_document(context, made), 201)


def get_repository(context: Context) -> Response:
    """A repository; 404 without permission to read it."""
    return json_response(_repository_document(context, repository_of(context)))


def delete_repository(context: Context) -> Response:
    """204; 403 for users who may read it and do not own it."""
    repository = repository_of(context)
    if not repositories.may_write(repository, context.user):
        abort(403, "user should be an owner of the repo")
    repositories.delete(context.database, context.settings, repository)
    return Response(status=204)


def list_branches(context: Context) -> Response:
    """The branches with their newest commits."""
    found = repositories.branches(context.settings, repository_of(context))
    return json_response([_branch_document(each) for each in _page(context, found)])


def get_branch(context: Context) -> Response:
    """One branch."""
    found = {each.name: each for each in repositories.branches(context.settings, repository_of(context))}
    return json_response(_branch_document(found.get(context.path["branch"]) or abort(404, NOT_FOUND)))


def list_issues(context: Context) -> Response:
    """The issues, open ones unless `state` is given."""
    found = issues.of_repository(context.database, repository_of(context), context.request.args.get("state", "open"))
    return json_response([_issue_document(context, each) for each in _page(context, found)])


def create_issue(context: Context) -> Response:
    """201 with the new issue."""
    repository, document = repository_of(context), context.request.document()
    title, body = required(document, "title"), text_of(document, "body")
    issue = issues.create(context.database, repository, context.me, title, body)
    for label in document.get("labels") or []:
        context.database.insert("issue_label", issue_id=issue.id, label_id=int(label))
    return json_response(_issue_document(context, issue), 201)


def get_issue(context: Context) -> Response:
    """One issue by its number."""
    issue = issues.find(context.database, repository_of(context), context.path["index"])
    return json_response(_issue_document(context, issue)) if issue else abort(404, NOT_FOUND)


def add_key(context: Context) -> Response:
    """201; 422 for an invalid or known key."""
    document = context.request.document()
    title, text = required(document, "title"), required(document, "key")
    try:
        made = keys.add_key(context.database, context.me, title, text, context.settings.path)
    except keys.BadKeyError as error:
        abort(422, str(error))
    return json_response(_key_document(made), 201)


def list_keys(context: Context) -> Response:
    """The author's keys."""
    query = "SELECT id, name AS title, content AS key FROM public_key WHERE owner_id = %s ORDER BY id"
    return json_response(_page(context, context.database.rows(query, context.me.id)))


def get_key(context: Context) -> Response:
    """One key by its number."""
    key = keys.find_key(context.database, context.path["id"])
    return json_response(_key_document(key)) if key else abort(404, NOT_FOUND)


def remove_key(context: Context) -> Response:
    """204; 403 for another user's key."""
    key = keys.find_key(context.database, context.path["id"]) or abort(404, NOT_FOUND)
    if key.owner_id != context.me.id:
        abort(403, "You do not have access to this key")
    keys.delete_key(context.database, key, context.settings.path)
    return Response(status=204)


def create_token(context: Context) -> Response:
    """201 with the token, which is shown only here; 400 for a taken name or unknown scopes."""
    owner, document = _token_owner(context), context.request.document()
    scopes = document.get("scopes")
    if not isinstance(scopes, list) or not valid_scopes([str(scope) for scope in scopes]):
        abort(400, "access token must have a scope" if not scopes else "invalid access token scope provided")
    try:
        secret = accounts.create_token(context.database, owner, required(document, "name"), scopes)
    except AccountError as error:
        abort(400, str(error))
    return json_response({"sha1": secret}, 201)


def delete_token(context: Context) -> Response:
    """204; 404 for an unknown name or number."""
    if not accounts.delete_token(context.database, _token_owner(context), context.path["token"]):
        abort(404, NOT_FOUND)
    return Response(status=204)


def list_users(context: Context) -> Response:
    """All accounts, by name."""
    found = sorted(accounts.all_users(context.database), key=lambda user: user.name.lower())
    return json_response([_user_document(context, each) for each in _page(context, found)])


def create_user(context: Context) -> Response:
    """201; 422 for an invalid or taken name or address, 400 for a password that is too short."""
    document = context.request.document()
    new = NewUser(
        name=required(document, "username"),
        email=required(document, "email"),
        password=_long_enough(context, text_of(document, "password")),
        must_change_password=document.get("must_change_password") is not False,
    )
    try:
        made = accounts.create_user(context.database, new)
    except AccountError as error:
        abort(422, str(error))
    return json_response(_user_document(context, made), 201)


def edit_user(context: Context) -> Response:
    """200; 422 without `login_name` and `source_id`, which Gitea requires."""
    user, document = _user(context), context.request.document()
    required(document, "login_name")
    if not isinstance(document.get("source_id"), int):
        abort(422, "[SourceID]: Required")
    if password := text_of(document, "password"):
        accounts.change_password(context.database, user, _long_enough(context, password))
    admin, must_change = document.get("admin"), document.get("must_change_password", False if password else None)
    made = accounts.edit_user(context.database, user, is_admin=admin, must_change_password=must_change)
    return json_response(_user_document(context, made))


def delete_user(context: Context) -> Response:
    """204; 422 for the author's own account, and for owners of repositories unless `purge` is true."""
    user = _user(context)
    if user.id == context.me.id:
        abort(422, "you cannot delete yourself")
    if context.request.args.get("purge") == "true":
        repositories.delete_all_of(context.database, context.settings, user)
    try:
        accounts.delete_user(context.database, user)
    except AccountError as error:
        abort(422, str(error))
    keys.rewrite_authorized_keys(context.database, context.settings.path)
    return Response(status=204)


def signed_in(handler: Handler) -> Handler:
    """The handler behind a 401 for anonymous requests."""
    return _open(lambda context: handler(context) if context.user else abort(401, "token is required"))


def for_administrators(handler: Handler) -> Handler:
    """The handler behind a 401 for anonymous requests and a 403 for accounts other than administrators."""

    def guarded(context: Context) -> Response:
        return handler(context) if context.me.is_admin else abort(403, "user should be the site admin")

    return signed_in(guarded)


def _open(handler: Handler) -> Handler:
    def guarded(context: Context) -> Response:
        _check_author(context)
        return handler(context)

    return guarded


def _check_author(context: Context) -> None:
    identity, request = context.identity, context.request
    if identity and identity.user.must_change_password:
        page = f"{context.settings.root_url}user/change_password"
        abort(403, f"You must change your password. Change it at: {page}")
    if identity and not allows(identity, request.method, request.path):
        abort(403, "token does not have at least one of required scope(s)")


def _user(context: Context) -> User:
    name = context.path["user"]
    return accounts.find_user(context.database, name) or abort(404, f"user redirect does not exist [name: {name}]")


def _token_owner(context: Context) -> User:
    # Gitea issues tokens for a password alone: a token must not issue others.
    if context.identity is None or context.identity.method != "basic":
        abort(401, "auth required")
    owner = _user(context)
    if owner.id != context.me.id and not context.me.is_admin:
        abort(403, "doer should be the site admin or be same as the contextUser")
    return owner


def repository_of(context: Context) -> Repository:
    """The repository in the path; aborts with 404 without permission to read it."""
    found = repositories.find(context.database, context.path["owner"], context.path["repo"])
    if found is None or not repositories.may_read(found, context.user):
        abort(404, NOT_FOUND)
    return found


def _user_document(context: Context, user: User) -> dict[str, Any]:
    # Only administrators and the user see the private part.
    private = context.user is not None and (context.user.is_admin or context.user.id == user.id)
    return {"login": user.name, "is_admin": user.is_admin and private}


def _repository_document(context: Context, repository: Repository) -> dict[str, Any]:
    settings, name = context.settings, repository.full_name
    port = "" if settings.ssh_port == 22 else f":{settings.ssh_port}"
    short = f"git@{settings.ssh_domain}:{name}.git"
    return {
        "name": repository.name,
        "full_name": name,
        "empty": repository.is_empty,
        "private": repository.is_private,
        "default_branch": repository.default_branch,
        "html_url": f"{settings.root_url}{name}",
        "clone_url": f"{settings.root_url}{name}.git",
        "ssh_url": f"ssh://git@{settings.ssh_domain}{port}/{name}.git" if port else short,
    }


def _branch_document(branch: Branch) -> dict[str, Any]:
    return {"name": branch.name, "commit": {"id": branch.commit}}


def _issue_document(context: Context, issue: Issue) -> dict[str, Any]:
    query = "SELECT label.* FROM label JOIN issue_label ON label.id = label_id WHERE issue_id = %s ORDER BY label.id"
    labels = context.database.rows(query, issue.id)
    return {"number": issue.index, "title": issue.title, "body": issue.body, "labels": labels}


def _key_document(key: PublicKey) -> dict[str, Any]:
    return {"id": key.id, "title": key.title, "key": key.content}


def text_of(document: dict[str, Any], name: str) -> str:
    """The text of that name, "" for none."""
    value = document.get(name)
    return value if isinstance(value, str) else ""


def required(document: dict[str, Any], name: str) -> str:
    """The text of that name; aborts with 422 without one."""
    label = "".join(part.capitalize() for part in name.split("_"))
    return text_of(document, name).strip() or abort(422, f"[{label}]: Required")


def _long_enough(context: Context, password: str) -> str:
    return password if len(password) >= context.settings.min_password_length else abort(400, "PasswordIsRequired")


def _page(context: Context, items: Sequence[Item]) -> Sequence[Item]:
    arguments = context.request.args
    size, page = arguments.get("limit", 0, type=int), arguments.get("page", 1, type=int)
    size, page = min(50, size) if size > 0 else 30, max(1, page)
    return items[(page - 1) * size : page * size]
