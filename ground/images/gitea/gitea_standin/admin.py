"""The commands for whoever runs the instance: users, tokens, hooks, keys, secrets."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from . import accounts, hooks, keys, repositories
from .accounts import AccountError, NewUser
from .credentials import random_text
from .database import Database, DatabaseError
from .errors import CommandError
from .settings import Settings, load


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raises CommandError instead of ending the process."""
        raise CommandError(message)


@contextmanager
def _opened() -> Iterator[tuple[Settings, Database]]:
    settings = load()
    try:
        yield settings, Database(settings.database)
    except DatabaseError as error:
        raise CommandError(str(error)) from error


def _parser(name: str) -> _Parser:
    return _Parser(prog=f"gitea {name}", allow_abbrev=False)


def _add_truth(parser: _Parser, flag: str, default: bool | None = None) -> None:
    # --flag and --flag=false both, as Go's flag parser takes them.
    parser.add_argument(flag, nargs="?", const=True, default=default, type=_truth)


def _truth(text: str) -> bool:
    if text.lower() in {"true", "1", "t"}:
        return True
    if text.lower() in {"false", "0", "f"}:
        return False
    raise argparse.ArgumentTypeError(f"invalid boolean value {text!r}")


def create(arguments: list[str]) -> int:
    """Gitea admin user create. Raises CommandError."""
    parser = _parser("admin user create")
    for flag in ("--username", "--name", "--email", "--password"):
        parser.add_argument(flag)
    for flag in ("--admin", "--random-password", "--access-token", "--restricted", "--must-change-password"):
        _add_truth(parser, flag)
    parser.add_argument("--random-password-length", type=int, default=12)
    parser.add_argument("--fullname", default="")
    parser.add_argument("--access-token-name", default="gitea-admin")
    parser.add_argument("--access-token-scopes", default="all")
    wish = parser.parse_args(arguments)
    _check_create(wish)
    with _opened() as (_, database):
        _create(database, wish)
    return 0


def _check_create(wish: argparse.Namespace) -> None:
    if not (wish.username or wish.name):
        raise CommandError("one of --name or --username flags must be set")
    if not wish.email:
        raise CommandError("email is not set")
    if wish.password and wish.random_password:
        raise CommandError("cannot set both -random-password and -password flags")
    if not (wish.password or wish.random_password):
        raise CommandError("must set either password or random-password flag")


def _create(database: Database, wish: argparse.Namespace) -> None:
    password = wish.password or random_text(wish.random_password_length)
    if wish.random_password:
        print(f"generated random password is '{password}'")
    must_change = wish.must_change_password
    if must_change is None:
        # The first account of an instance is spared, as in Gitea.
        must_change = accounts.count_users(database) > 0
    name = wish.username or wish.name
    new = NewUser(name, wish.email, password, wish.fullname, bool(wish.admin), bool(wish.restricted), must_change)
    try:
        user = accounts.create_user(database, new)
        if wish.access_token:
            scopes = tuple(wish.access_token_scopes.split(","))
            _, secret = accounts.create_token(database, user, wish.access_token_name, scopes)
            print(f"Access token was successfully created... {secret}")
    except AccountError as error:
        raise CommandError(f"CreateUser: {error}") from error
    print(f"New user '{name}' has been successfully created!")


def list_users(arguments: list[str]) -> int:
    """Gitea admin user list: a table. Raises CommandError."""
    parser = _parser("admin user list")
    _add_truth(parser, "--admin")
    only_admins = bool(parser.parse_args(arguments).admin)
    rows = [["ID", "Username", "Email", "IsActive"] + ([] if only_admins else ["IsAdmin", "2FA"])]
    with _opened() as (_, database):
        for user in accounts.all_users(database):
            row = [str(user.id), user.name, user.email, _word(user.is_active)]
            if not only_admins or user.is_admin:
                rows.append(row + ([] if only_admins else [_word(user.is_admin), _word(False)]))
    print(_table(rows))
    return 0


def _word(value: bool) -> str:
    return "true" if value else "false"


def _table(rows: list[list[str]]) -> str:
    # Go's tabwriter: cells at least five wide, one blank between them, the last one as it is.
    widths = [max(5, *(len(row[column]) + 1 for row in rows)) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        padded = [cell.ljust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)]
        lines.append("".join(padded) + row[-1])
    return "\n".join(lines)


def change_password(arguments: list[str]) -> int:
    """Gitea admin user change-password. Raises CommandError."""
    parser = _parser("admin user change-password")
    parser.add_argument("--username", "-u", required=True)
    parser.add_argument("--password", "-p", required=True)
    _add_truth(parser, "--must-change-password", True)
    wish = parser.parse_args(arguments)
    with _opened() as (settings, database):
        if len(wish.password) < settings.min_password_length:
            raise CommandError(
                f"password is not long enough, needs to be at least {settings.min_password_length} characters"
            )
        accounts.change_password(database, _user(database, wish.username), wish.password, wish.must_change_password)
    print(f"{wish.username}'s password has been successfully updated!")
    return 0


def generate_access_token(arguments: list[str]) -> int:
    """Gitea admin user generate-access-token. Raises CommandError."""
    parser = _parser("admin user generate-access-token")
    parser.add_argument("--username", "-u", required=True)
    parser.add_argument("--token-name", "-t", default="gitea-admin")
    parser.add_argument("--scopes", default="all")
    _add_truth(parser, "--raw")
    wish = parser.parse_args(arguments)
    with _opened() as (_, database):
        user = _user(database, wish.username)
        try:
            _, secret = accounts.create_token(database, user, wish.token_name, tuple(wish.scopes.split(",")))
        except AccountError as error:
            raise CommandError(str(error)) from error
    print(secret if wish.raw else f"Access token was successfully created: {secret}")
    return 0


def regenerate_hooks(_arguments: list[str]) -> int:
    """Gitea admin regenerate hooks: the hook files of every repository. Raises CommandError."""
    with _opened() as (settings, database):
        for repository in repositories.everything(database):
            hooks.write(repositories.path_of(settings, repository), settings.path)
    return 0


def regenerate_keys(_arguments: list[str]) -> int:
    """Gitea admin regenerate keys: authorized_keys from the database. Raises CommandError."""
    with _opened() as (settings, database):
        keys.rewrite_authorized_keys(database, settings.path)
    return 0


def generate_secret(arguments: list[str]) -> int:
    """Gitea generate secret SECRET_KEY|INTERNAL_TOKEN|JWT_SECRET. Raises CommandError."""
    makers = {
        "SECRET_KEY": lambda: random_text(64),
        "INTERNAL_TOKEN": lambda: secrets.token_urlsafe(64),
        "JWT_SECRET": lambda: secrets.token_urlsafe(32),
    }
    if not arguments or arguments[0] not in makers:
        raise CommandError(f"one of {', '.join(makers)} is needed")
    print(makers[arguments[0]]())
    return 0


def _user(database: Database, name: str) -> accounts.User:
    user = accounts.find_user(database, name)
    if user is None:
        raise CommandError(f"user does not exist [uid: 0, name: {name}]")
    return user
