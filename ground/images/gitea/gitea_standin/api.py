"""The REST API below /api/v1: the routes and fields that this project reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from werkzeug import Response
from werkzeug.exceptions import abort
from werkzeug.routing import Rule

from . import accounts, branches, documents, issues, keys, repositories
from .accounts import AccountError, NewUser, User
from .context import Context, Handler, route
from .identity import allows, valid_scopes
from .internal import runner_token
from .release import Release
from .repositories import NewRepository, Repository
from .web import json_response, missing

Item = TypeVar("Item")
AT = "/api/v1"
REPO = f"{AT}/repos/<owner>/<repo>"
BRANCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")
# Names in a request to edit an account, with their columns.
_EDITED = {"admin": "is_admin", "active": "is_active", "full_name": "full_name", "login_name": "login_name"}
_EDITED |= {"must_change_password": "must_change_password"}


def routes(release: Release) -> list[Rule]:
    """Every path of the API."""
    method, path = ("POST", "actions/runners") if release.since(1, 26) else ("GET", "runners")
    return [
        route("GET", f"{AT}/version", _open(version)),
        route("GET", f"{AT}/user", signed_in(my_account)),
        route("POST", f"{AT}/user/repos", signed_in(lambda context: create_repository(context, context.me))),
        route("POST", f"{AT}/orgs/<user>/repos", for_administrators(lambda each: create_repository(each, _user(each)))),
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
        route(method, f"{AT}/admin/{path}/registration-token", for_administrators(runner_token)),
    ]


def version(context: Context) -> Response:
    """The release."""
    return json_response({"version": context.instance.release.version})


def my_account(context: Context) -> Response:
    """The author's own account."""
    return json_response(documents.user(context, context.me))


def account(context: Context) -> Response:
    """Another account."""
    return json_response(documents.user(context, _user(context)))


def search_repositories(context: Context) -> Response:
    """Repositories by a part of their names."""
    found = repositories.search(context.database, context.user, context.request.args.get("q", "").strip())
    page = [documents.repository(context, each) for each in _page(context, found)]
    return _counted(context, {"ok": True, "data": page}, len(found))


def create_repository(context: Context, owner: User) -> Response:
    """201; 409 for a taken name, 422 for an invalid one."""
    document = context.request.document()
    branch = text_of(document, "default_branch") or "main"
    if not BRANCH.fullmatch(branch):
        abort(422, "[DefaultBranch]: GitRefName")
    private, auto_init = document.get("private") is True, document.get("auto_init") is True
    name, description = required(document, "name"), text_of(document, "description")
    new = NewRepository(name, private, auto_init, branch, description)
    try:
        made = repositories.create(context.database, context.settings, owner, new, context.me)
    except repositories.RepositoryExistsError:
        abort(409, "The repository with the same name already exists.")
    except repositories.BadNameError as error:
        abort(422, str(error))
    branches.write(context.database, context.settings, made)
    return json_response(documents.repository(context, made), 201)


def get_repository(context: Context) -> Response:
    """A repository; 404 without permission to read it."""
    return json_response(documents.repository(context, repository_of(context)))


def delete_repository(context: Context) -> Response:
    """204; 403 for users who may read it and do not own it."""
    repository = repository_of(context)
    if not repositories.may_write(repository, context.user):
        abort(403, "user should be an owner of the repo")
    repositories.delete(context.database, context.settings, repository)
    return Response(status=204)


def list_branches(context: Context) -> Response:
    """The branches with their newest commits; null for a repository that counts as empty."""
    repository = repository_of(context)
    if repository.is_empty:
        return _counted(context, None, 0)
    return _list(context, branches.listed(context.database, context.settings, repository), documents.branch, repository)


def get_branch(context: Context) -> Response:
    """One branch; 404 without its row, 500 for a row whose branch git does not have."""
    repository, name = repository_of(context), context.path["branch"]
    found = branches.find(context.database, context.settings, repository, name)
    return json_response(
        documents.branch(context, repository, found or missing(f"branch does not exist [name: {name}]"))
    )


def list_issues(context: Context) -> Response:
    """The issues, open ones unless `state` is given."""
    repository = repository_of(context)
    found = issues.of_repository(context.database, repository, context.request.args.get("state", "open"))
    return _list(context, found, documents.issue, repository)


def create_issue(context: Context) -> Response:
    """201 with the new issue."""
    repository, document = repository_of(context), context.request.document()
    title, body = required(document, "title"), text_of(document, "body")
    issue = issues.create(context.database, repository, context.me, title, body)
    for label in document.get("labels") or []:
        context.database.insert("issue_label", issue_id=issue.id, label_id=int(label))
    return json_response(documents.issue(context, repository, issue), 201)


def get_issue(context: Context) -> Response:
    """One issue by its number."""
    repository = repository_of(context)
    issue = issues.find(context.database, repository, context.path["index"]) or missing()
    return json_response(documents.issue(context, repository, issue))


def add_key(context: Context) -> Response:
    """201; 422 for an invalid or known key."""
    document = context.request.document()
    title, text = required(document, "title"), required(document, "key")
    try:
        made = keys.add_key(context.database, context.me, title, text, context.settings.path)
    except keys.BadKeyError as error:
        abort(422, str(error))
    return json_response(documents.key(context, made), 201)


def list_keys(context: Context) -> Response:
    """The author's keys."""
    found = keys.keys_of(context.database, context.me)
    return _counted(context, [documents.key(context, each) for each in _page(context, found)], len(found))


def get_key(context: Context) -> Response:
    """One key by its number."""
    key = keys.find_key(context.database, context.path["id"])
    return json_response(documents.key(context, key)) if key else missing()


def remove_key(context: Context) -> Response:
    """204; 403 for another user's key."""
    key = keys.find_key(context.database, context.path["id"]) or missing()
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
    name = required(document, "name")
    try:
        made = accounts.create_token(context.database, owner, name, scopes)
    except AccountError as error:
        abort(400, str(error))
    return json_response(documents.token(context, made, name, scopes), 201)


def delete_token(context: Context) -> Response:
    """204; 404 for an unknown name or number."""
    if not accounts.delete_token(context.database, _token_owner(context), context.path["token"]):
        missing()
    return Response(status=204)


def list_users(context: Context) -> Response:
    """All accounts, by name."""
    found = sorted(accounts.all_users(context.database), key=lambda user: user.name.lower())
    return _counted(context, [documents.user(context, each) for each in _page(context, found)], len(found))


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
    return json_response(documents.user(context, made), 201)


def edit_user(context: Context) -> Response:
    """200; 422 without `login_name` and `source_id`, which Gitea requires."""
    user, document = _user(context), context.request.document()
    required(document, "login_name")
    if not isinstance(document.get("source_id"), int):
        abort(422, "[SourceID]: Required")
    if password := text_of(document, "password"):
        accounts.change_password(context.database, user, _long_enough(context, password))
    values = {column: document.get(name) for name, column in _EDITED.items()}
    if password and values["must_change_password"] is None:
        values["must_change_password"] = False
    return json_response(documents.user(context, accounts.edit_user(context.database, user, **values)))


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
        # The two slashes are Gitea's, and so is the missing `url`.
        text = f"You must change your password. Change it at: {context.settings.root_url}/user/change_password"
        abort(json_response({"message": text}, 403))
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
        missing()
    return found


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
    size, page = _size_and_page(context)
    return items[(page - 1) * size : page * size]


def _list(
    context: Context, found: Sequence[Item], document: Callable[[Context, Repository, Item], Any], of: Repository
) -> Response:
    return _counted(context, [document(context, of, each) for each in _page(context, found)], len(found))


def _counted(context: Context, content: object, total: int) -> Response:
    """A page of a list, with the number of all and the addresses of the next and the last page."""
    response, (size, page) = json_response(content), _size_and_page(context)
    response.headers["X-Total-Count"] = str(total)
    last, request = -(-total // size), context.request
    address = f"{context.settings.root_url.rstrip('/')}{request.path}?limit={size}&page="
    if page < last:
        response.headers["Link"] = f'<{address}{page + 1}>; rel="next",<{address}{last}>; rel="last"'
    return response


def _size_and_page(context: Context) -> tuple[int, int]:
    arguments = context.request.args
    size, page = arguments.get("limit", 0, type=int), arguments.get("page", 1, type=int)
    return min(50, size) if size > 0 else 30, max(1, page)
