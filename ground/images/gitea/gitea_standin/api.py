"""The REST API below /api/v1, as far as this stand-in has it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeVar

from . import accounts, issues, keys, repositories
from .accounts import AccountError, NewUser, User
from .context import Context, Handler, Route, route
from .documents import branch_document, issue_document, key_document, repository_document, token_document, user_document
from .identity import allows, valid_scopes
from .messages import HttpError, Response, json_response
from .repositories import NewRepository, Repository

Item = TypeVar("Item")
_NOT_FOUND = "The target couldn't be found."
_BRANCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")


def routes() -> list[Route]:
    """Every path of the API."""
    at = "/api/v1"
    repo = f"{at}/repos/{{owner}}/{{repo}}"
    return [
        route("GET", f"{at}/version", version),
        route("GET", f"{at}/user", _signed(my_account)),
        route("GET", f"{at}/user/repos", _signed(my_repositories)),
        route("POST", f"{at}/user/repos", _signed(create_repository)),
        route("GET", f"{at}/user/keys", _signed(my_keys)),
        route("POST", f"{at}/user/keys", _signed(add_key)),
        route("DELETE", f"{at}/user/keys/{{id}}", _signed(remove_key)),
        route("GET", f"{at}/users/{{user}}", _open(account)),
        route("GET", f"{at}/users/{{user}}/repos", _open(repositories_of_user)),
        route("GET", f"{at}/users/{{user}}/tokens", _signed(list_tokens)),
        route("POST", f"{at}/users/{{user}}/tokens", _signed(create_token)),
        route("DELETE", f"{at}/users/{{user}}/tokens/{{token}}", _signed(delete_token)),
        route("GET", f"{at}/repos/search", _open(search_repositories)),
        route("GET", repo, _open(get_repository)),
        route("DELETE", repo, _signed(delete_repository)),
        route("GET", f"{repo}/branches", _open(list_branches)),
        route("GET", f"{repo}/branches/(?P<branch>.+)", _open(get_branch)),
        route("GET", f"{repo}/issues", _open(list_issues)),
        route("POST", f"{repo}/issues", _signed(create_issue)),
        route("GET", f"{repo}/issues/{{index}}", _open(get_issue)),
        route("GET", f"{at}/admin/users", _admin(list_users)),
        route("POST", f"{at}/admin/users", _admin(create_user)),
        route("PATCH", f"{at}/admin/users/{{user}}", _admin(edit_user)),
        route("DELETE", f"{at}/admin/users/{{user}}", _admin(delete_user)),
    ]


def version(context: Context) -> Response:
    """The release; strangers see it too."""
    return json_response({"version": context.instance.release.version})


def my_account(context: Context) -> Response:
    """The account of the one who asks."""
    return json_response(user_document(context, _me(context)))


def account(context: Context) -> Response:
    """Another account."""
    return json_response(user_document(context, _user_in_path(context)))


def my_repositories(context: Context) -> Response:
    """The repositories of the one who asks."""
    found = repositories.search(context.database, _me(context), owner_id=_me(context).id)
    return _listed([repository_document(context, each) for each in _page(context, found)], len(found))


def repositories_of_user(context: Context) -> Response:
    """Another account's repositories, as far as they are to be seen."""
    found = repositories.search(context.database, context.user, owner_id=_user_in_path(context).id)
    return _listed([repository_document(context, each) for each in _page(context, found)], len(found))


def search_repositories(context: Context) -> Response:
    """Repositories by a part of their names."""
    found = repositories.search(context.database, context.user, context.request.query.get("q", "").strip())
    data = [repository_document(context, each) for each in _page(context, found)]
    return json_response({"ok": True, "data": data}, 200, {"X-Total-Count": str(len(found))})


def create_repository(context: Context) -> Response:
    """201; 409 where the name is taken, 422 where it is none."""
    document = context.request.document()
    branch = _text(document, "default_branch") or context.settings.default_branch
    if not _BRANCH.fullmatch(branch):
        raise HttpError(422, "[DefaultBranch]: GitRefName")
    wish = NewRepository(
        _required(document, "name"),
        _text(document, "description"),
        document.get("private") is True,
        document.get("auto_init") is True,
        branch,
    )
    try:
        made = repositories.create(context.database, context.settings, _me(context), wish)
    except repositories.RepositoryExistsError as error:
        raise HttpError(409, "The repository with the same name already exists.") from error
    except repositories.BadNameError as error:
        raise HttpError(422, str(error)) from error
    return json_response(repository_document(context, made), 201)


def get_repository(context: Context) -> Response:
    """A repository; 404 for those who may not see it."""
    return json_response(repository_document(context, _repository_in_path(context)))


def delete_repository(context: Context) -> Response:
    """204; 403 for those who see it and do not own it."""
    repository = _repository_in_path(context)
    if not repositories.may_write(repository, context.user):
        raise HttpError(403, "user should be an owner of the repo")
    repositories.delete(context.database, context.settings, repository)
    return Response(204)


def list_branches(context: Context) -> Response:
    """The branches with the commits they point to."""
    found = repositories.branches(context.settings, _repository_in_path(context))
    return _listed([branch_document(each) for each in _page(context, found)], len(found))


def get_branch(context: Context) -> Response:
    """One branch."""
    for branch in repositories.branches(context.settings, _repository_in_path(context)):
        if branch.name == context.parts["branch"]:
            return json_response(branch_document(branch))
    raise HttpError(404, _NOT_FOUND)


def list_issues(context: Context) -> Response:
    """The issues, open ones unless `state` says otherwise."""
    repository = _repository_in_path(context)
    found = issues.of_repository(context.database, repository, context.request.query.get("state", "open"))
    data = [issue_document(context, repository, each) for each in _page(context, found)]
    return _listed(data, len(found))


def create_issue(context: Context) -> Response:
    """201 with the new issue."""
    repository, document = _repository_in_path(context), context.request.document()
    made = issues.create(
        context.database,
        repository,
        _me(context),
        _required(document, "title"),
        _text(document, "body"),
        closed=document.get("closed") is True,
    )
    return json_response(issue_document(context, repository, made), 201)


def get_issue(context: Context) -> Response:
    """One issue by its number."""
    repository, index = _repository_in_path(context), context.parts["index"]
    issue = issues.find(context.database, repository, int(index)) if index.isdigit() else None
    if issue is None:
        raise HttpError(404, _NOT_FOUND)
    return json_response(issue_document(context, repository, issue))


def my_keys(context: Context) -> Response:
    """The ssh keys of the one who asks."""
    found = keys.keys_of(context.database, _me(context))
    return _listed([key_document(context, _me(context), each) for each in _page(context, found)], len(found))


def add_key(context: Context) -> Response:
    """201; 422 for a key that is none or is known."""
    document = context.request.document()
    title, text = _required(document, "title"), _required(document, "key")
    try:
        made = keys.add_key(context.database, _me(context), title, text, context.settings.path)
    except keys.BadKeyError as error:
        raise HttpError(422, str(error)) from error
    return json_response(key_document(context, _me(context), made), 201)


def remove_key(context: Context) -> Response:
    """204; 403 for somebody else's key."""
    number = context.parts["id"]
    key = keys.find_key(context.database, int(number)) if number.isdigit() else None
    if key is None:
        raise HttpError(404, _NOT_FOUND)
    if key.owner_id != _me(context).id:
        raise HttpError(403, "You do not have access to this key")
    keys.delete_key(context.database, key, context.settings.path)
    return Response(204)


def list_tokens(context: Context) -> Response:
    """The access tokens, without themselves."""
    found = accounts.tokens_of(context.database, _token_owner(context))
    return _listed([token_document(each) for each in _page(context, found)], len(found))


def create_token(context: Context) -> Response:
    """201 with the token, this once; 400 for a name in use or for scopes there are not."""
    owner, document = _token_owner(context), context.request.document()
    scopes = document.get("scopes")
    if not isinstance(scopes, list) or not valid_scopes([str(scope) for scope in scopes]):
        raise HttpError(400, "access token must have a scope" if not scopes else "invalid access token scope provided")
    try:
        made, secret = accounts.create_token(context.database, owner, _required(document, "name"), tuple(scopes))
    except AccountError as error:
        raise HttpError(400, str(error)) from error
    return json_response(token_document(made, secret), 201)


def delete_token(context: Context) -> Response:
    """204; 404 where there is none of that name or number."""
    if not accounts.delete_token(context.database, _token_owner(context), context.parts["token"]):
        raise HttpError(404, _NOT_FOUND)
    return Response(204)


def list_users(context: Context) -> Response:
    """All accounts, by name."""
    found = sorted(accounts.all_users(context.database), key=lambda user: user.name.lower())
    return _listed([user_document(context, each) for each in _page(context, found)], len(found))


def create_user(context: Context) -> Response:
    """201; 422 for a name or address that is wrong or taken, 400 for a password that is too short."""
    document = context.request.document()
    wish = NewUser(
        name=_required(document, "username"),
        email=_required(document, "email"),
        password=_long_enough(context, _text(document, "password")),
        full_name=_text(document, "full_name"),
        is_restricted=document.get("restricted") is True,
        must_change_password=document.get("must_change_password") is not False,
    )
    try:
        made = accounts.create_user(context.database, wish)
    except AccountError as error:
        raise HttpError(422, str(error)) from error
    return json_response(user_document(context, made), 201)


_EDITABLE = {
    "full_name": "full_name",
    "email": "email",
    "active": "is_active",
    "admin": "is_admin",
    "restricted": "is_restricted",
    "prohibit_login": "prohibit_login",
}


def edit_user(context: Context) -> Response:
    """200; `login_name` and `source_id` are required, as in Gitea."""
    user, document = _user_in_path(context), context.request.document()
    _required(document, "login_name")
    if not isinstance(document.get("source_id"), int):
        raise HttpError(422, "[SourceID]: Required")
    changes = {column: document[name] for name, column in _EDITABLE.items() if document.get(name) is not None}
    if isinstance(document.get("must_change_password"), bool):
        changes["must_change_password"] = document["must_change_password"]
    if password := _text(document, "password"):
        must_change = document.get("must_change_password") is True
        accounts.change_password(context.database, user, _long_enough(context, password), must_change)
    try:
        return json_response(user_document(context, accounts.edit_user(context.database, user, **changes)))
    except AccountError as error:
        raise HttpError(400, str(error)) from error


def delete_user(context: Context) -> Response:
    """204; 422 for oneself, and for owners of repositories unless `purge` is asked for."""
    user = _user_in_path(context)
    if user.id == _me(context).id:
        raise HttpError(422, "you cannot delete yourself")
    if context.request.query.get("purge") == "true":
        repositories.delete_all_of(context.database, context.settings, user)
    try:
        accounts.delete_user(context.database, user)
    except AccountError as error:
        raise HttpError(422, str(error)) from error
    keys.rewrite_authorized_keys(context.database, context.settings.path)
    return Response(204)


def _open(handler: Handler) -> Handler:
    def guarded(context: Context) -> Response:
        _check_doer(context)
        if context.user is None and context.settings.require_sign_in:
            raise HttpError(403, "Only signed in user is allowed to call APIs.")
        return handler(context)

    return guarded


def _signed(handler: Handler) -> Handler:
    def guarded(context: Context) -> Response:
        if context.user is None:
            raise HttpError(401, "token is required")
        _check_doer(context)
        return handler(context)

    return guarded


def _admin(handler: Handler) -> Handler:
    def guarded(context: Context) -> Response:
        if not _me(context).is_admin:
            raise HttpError(403, "user should be the site admin")
        return handler(context)

    return _signed(guarded)


def _check_doer(context: Context) -> None:
    identity, request = context.identity, context.request
    if identity is None:
        return
    if identity.user.must_change_password:
        page = f"{context.settings.root_url}user/change_password"
        raise HttpError(403, f"You must change your password. Change it at: {page}")
    if not allows(identity, request.method, request.path):
        raise HttpError(403, "token does not have at least one of required scope(s)")


def _me(context: Context) -> User:
    if context.user is None:
        raise HttpError(401, "token is required")
    return context.user


def _user_in_path(context: Context) -> User:
    user = accounts.find_user(context.database, context.parts["user"])
    if user is None:
        raise HttpError(404, f"user redirect does not exist [name: {context.parts['user']}]")
    return user


def _token_owner(context: Context) -> User:
    # Gitea hands out tokens for a password alone: a token must not breed others.
    if context.identity is None or context.identity.method != "basic":
        raise HttpError(401, "auth required")
    owner = _user_in_path(context)
    if owner.id != _me(context).id and not _me(context).is_admin:
        raise HttpError(403, "doer should be the site admin or be same as the contextUser")
    return owner


def _repository_in_path(context: Context) -> Repository:
    found = repositories.find(context.database, context.parts["owner"], context.parts["repo"])
    if found is None or not repositories.may_read(found, context.user):
        raise HttpError(404, _NOT_FOUND)
    return found


def _text(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    return value if isinstance(value, str) else ""


def _required(document: dict[str, Any], name: str) -> str:
    value = _text(document, name).strip()
    if not value:
        raise HttpError(422, f"[{''.join(part.capitalize() for part in name.split('_'))}]: Required")
    return value


def _long_enough(context: Context, password: str) -> str:
    if len(password) < context.settings.min_password_length:
        raise HttpError(400, "PasswordIsRequired")
    return password


def _page(context: Context, items: Sequence[Item]) -> Sequence[Item]:
    query = context.request.query
    size = min(50, int(query["limit"])) if query.get("limit", "").isdigit() and query["limit"] != "0" else 30
    page = max(1, int(query["page"])) if query.get("page", "").isdigit() else 1
    return items[(page - 1) * size : page * size]


def _listed(data: list[dict[str, Any]], total: int) -> Response:
    return json_response(data, 200, {"X-Total-Count": str(total)})
