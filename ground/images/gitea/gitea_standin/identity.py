"""Finding out who asks: basic authentication, access tokens, sessions; and what a token's scopes allow."""

from __future__ import annotations

import base64
import binascii

from .accounts import User, check_password, find_token
from .context import SESSION_COOKIE, Identity, Instance
from .credentials import looks_like_token
from .database import Database
from .messages import HttpError, Request

_WRONG = "invalid username, password or token"
# First part of an API path to the category of scopes that guards it.
_CATEGORIES = {"admin": "admin", "user": "user", "users": "user", "repos": "repository"}


def identify(instance: Instance, request: Request) -> Identity | None:
    """Who asks; None for a stranger. Raises HttpError(401) for credentials that are wrong."""
    scheme, _, rest = request.header("Authorization").partition(" ")
    if scheme.lower() == "basic":
        return _from_basic(instance.database, rest)
    if scheme.lower() in {"token", "bearer"}:
        return _from_token(instance.database, rest.strip())
    user = instance.session_user(request.cookie(SESSION_COOKIE))
    return Identity(user, "session") if user else None


def allows(identity: Identity, method: str, path: str) -> bool:
    """Whether the scopes allow an API request; passwords and sessions allow everything."""
    if "all" in identity.scopes:
        return True
    category = _category(path)
    if f"write:{category}" in identity.scopes:
        return True
    return method in {"GET", "HEAD"} and f"read:{category}" in identity.scopes


def valid_scopes(scopes: list[str]) -> bool:
    """Whether all are scopes there are."""
    names = {*_CATEGORIES.values(), "issue", "organization", "package", "notification", "activitypub", "misc"}
    known = {"all", "public-only", *(f"{level}:{name}" for level in ("read", "write") for name in names)}
    return bool(scopes) and set(scopes) <= known


def _category(path: str) -> str:
    first, *rest = path.removeprefix("/api/v1/").split("/")
    if first == "user" and rest[:1] == ["repos"]:
        return "repository"
    return "issue" if "issues" in rest else _CATEGORIES.get(first, "misc")


def _from_basic(database: Database, encoded: str) -> Identity:
    try:
        login, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise _wrong() from error
    for candidate in (password, login):
        if looks_like_token(candidate) and (found := find_token(database, candidate)):
            return Identity(found[1], "token", found[0].scopes)
    return Identity(_checked(check_password(database, login, password)), "basic")


def _from_token(database: Database, secret: str) -> Identity:
    found = find_token(database, secret) if looks_like_token(secret) else None
    if found is None:
        raise _wrong()
    return Identity(found[1], "token", found[0].scopes)


def _checked(user: User | None) -> User:
    if user is None:
        raise _wrong()
    return user


def _wrong() -> HttpError:
    return HttpError(401, _WRONG, {"WWW-Authenticate": 'Basic realm="Gitea"'})
