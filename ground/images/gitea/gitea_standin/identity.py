"""Authentication (basic, access tokens, sessions), and what a token's scopes allow."""

from __future__ import annotations

from typing import NoReturn

from werkzeug.datastructures import Authorization

from .accounts import WrongPasswordError, check_password, find_token, user_of_id
from .context import Identity, Instance
from .credentials import looks_like_token
from .database import Database, DatabaseError
from .headers import SESSION_COOKIE
from .release import Release
from .web import Request, challenge

_WRONG = "invalid username, password or token"
# First part of an API path to the category of scopes that guards it.
_CATEGORIES = {"admin": "admin", "user": "user", "users": "user", "repos": "repository"}
_CATEGORIES |= {"orgs": "organization", "packages": "package"}


def identify(instance: Instance, request: Request) -> Identity | None:
    """The author of the request; None for an anonymous one. Aborts with 401 for wrong credentials."""
    try:
        return _identified(instance, request)
    except DatabaseError as error:
        # As Gitea does: without its database, it takes every password and token for a wrong one.
        if "Authorization" in request.headers:
            _refuse(instance.release, str(error))
        return None


def _refuse(release: Release, reason: str) -> NoReturn:
    # From 1.26 on, every reason reads alike.
    challenge(_WRONG if release.since(1, 26) else reason)


def _identified(instance: Instance, request: Request) -> Identity | None:
    given, database = request.authorization, instance.database
    if request.headers.get("Authorization", "").lower().startswith("basic "):
        return _from_pair(instance, given)
    if given and given.type in {"token", "bearer"}:
        found = _from_token(database, given.token or "")
        return found or _refuse(instance.release, "user does not exist [uid: 0, name: ]")
    number = instance.sessions.get(request.cookies.get(SESSION_COOKIE, ""))
    user = user_of_id(database, number) if number else None
    return Identity(user, "session") if user else None


def _from_pair(instance: Instance, given: Authorization | None) -> Identity:
    login, password = (given.username or "", given.password or "") if given else ("", "")
    try:
        return _from_basic(instance.database, login, password)
    except WrongPasswordError as error:
        _refuse(instance.release, str(error))


def allows(identity: Identity, method: str, path: str) -> bool:
    """Whether the scopes allow an API request; passwords and sessions allow everything."""
    category = _category(path)
    if {"all", f"write:{category}"} & set(identity.scopes):
        return True
    return method in {"GET", "HEAD"} and f"read:{category}" in identity.scopes


def valid_scopes(scopes: list[str]) -> bool:
    """Whether Gitea knows every one of the scopes."""
    names = {*_CATEGORIES.values(), "issue", "notification", "activitypub", "misc"}
    known = {"all", "public-only", *(f"{level}:{name}" for level in ("read", "write") for name in names)}
    return bool(scopes) and set(scopes) <= known


def _category(path: str) -> str:
    first, *rest = path.removeprefix("/api/v1/").split("/")
    if first == "user" and rest[:1] == ["repos"]:
        return "repository"
    return "issue" if "issues" in rest else _CATEGORIES.get(first, "misc")


def _from_basic(database: Database, login: str, password: str) -> Identity:
    # git and scripts send a token as either half of the pair.
    for candidate in (password, login):
        if found := _from_token(database, candidate):
            return found
    return Identity(check_password(database, login, password), "basic")


def _from_token(database: Database, secret: str) -> Identity | None:
    found = find_token(database, secret) if looks_like_token(secret) else None
    return Identity(found[0], "token", found[1]) if found else None
