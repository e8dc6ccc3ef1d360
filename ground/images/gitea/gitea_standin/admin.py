"""The administrative commands: users, tokens, hooks, keys."""

from __future__ import annotations

import argparse
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

    def add_boolean(self, flag: str) -> None:
        """Accepts --flag and --flag=false, like Go's flag parser."""
        self.add_argument(flag, nargs="?", const=True, type=_boolean)


def _boolean(text: str) -> bool:
    if text.lower() in {"true", "1", "t"}:
        return True
    if text.lower() in {"false", "0", "f"}:
        return False
    raise argparse.ArgumentTypeError(f"invalid boolean value {text!r}")


@contextmanager
def _opened() -> Iterator[tuple[Settings, Database]]:
    settings = load()
    try:
        yield settings, Database(settings.database)
    except (DatabaseError, AccountError) as error:
        raise CommandError(str(error)) from error


def create(arguments: list[str]) -> int:
    """Gitea admin user create. Raises CommandError."""
    parser = _Parser(prog="gitea admin user create", allow_abbrev=False)
    for flag in ("--username", "--email"):
        parser.add_argument(flag, required=True)
    parser.add_argument("--password")
    for flag in ("--admin", "--random-password", "--access-token", "--must-change-password"):
        parser.add_boolean(flag)
    parser.add_argument("--access-token-name", default="gitea-admin")
    parser.add_argument("--access-token-scopes", default="all")
    options = parser.parse_args(arguments)
    if options.password and options.random_password:
        raise CommandError("cannot set both -random-password and -password flags")
    if not (options.password or options.random_password):
        raise CommandError("must set either password or random-password flag")
    with _opened() as (_, database):
        _create(database, options)
    return 0


def _create(database: Database, options: argparse.Namespace) -> None:
    name, password = options.username, options.password or random_text(12)
    if options.random_password:
        print(f"generated random password is '{password}'")
    must_change = options.must_change_password
    if must_change is None:
        # As in Gitea, the first account of an instance keeps its password.
        must_change = bool(accounts.all_users(database))
    try:
        user = accounts.create_user(database, NewUser(name, options.email, password, bool(options.admin), must_change))
        if options.access_token:
            scopes = options.access_token_scopes.split(",")
            made = accounts.create_token(database, user, options.access_token_name, scopes)
            print(f"Access token was successfully created... {made.secret}")
    except AccountError as error:
        raise CommandError(f"CreateUser: {error}") from error
    print(f"New user '{name}' has been successfully created!")


def change_password(arguments: list[str]) -> int:
    """Gitea admin user change-password. Raises CommandError."""
    parser = _Parser(prog="gitea admin user change-password", allow_abbrev=False)
    for flag in ("--username", "--password"):
        parser.add_argument(flag, required=True)
    parser.add_boolean("--must-change-password")
    options = parser.parse_args(arguments)
    with _opened() as (_, database):
        user = _user(database, options.username)
        accounts.change_password(database, user, options.password)
        accounts.edit_user(database, user, must_change_password=options.must_change_password is not False)
    print(f"{user.name}'s password has been successfully updated!")
    return 0


def _user(database: Database, name: str) -> accounts.User:
    found = accounts.find_user(database, name)
    if found is None:
        raise CommandError(f"user does not exist [uid: 0, name: {name}]")
    return found


def list_users(arguments: list[str]) -> int:
    """Gitea admin user list: a table. Raises CommandError."""
    parser = _Parser(prog="gitea admin user list", allow_abbrev=False)
    parser.add_boolean("--admin")
    admins_alone = parser.parse_args(arguments).admin
    rows = [["ID", "Username", "Email", "IsActive", "IsAdmin", "2FA"][: 4 if admins_alone else 6]]
    with _opened() as (_, database):
        for user in accounts.all_users(database):
            if user.is_admin or not admins_alone:
                flags = [str(flag).lower() for flag in (user.is_active, user.is_admin, False)]
                rows.append([str(user.id), user.name, user.email, *flags][: len(rows[0])])
    # Like Go's tabwriter: cells at least five wide, one blank between them.
    widths = [max(5, *(len(cell) + 1 for cell in column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def generate_access_token(arguments: list[str]) -> int:
    """Gitea admin user generate-access-token. Raises CommandError."""
    parser = _Parser(prog="gitea admin user generate-access-token", allow_abbrev=False)
    parser.add_argument("--username", required=True)
    parser.add_argument("--token-name", default="gitea-admin")
    parser.add_argument("--scopes", default="all")
    parser.add_boolean("--raw")
    options = parser.parse_args(arguments)
    with _opened() as (_, database):
        user = _user(database, options.username)
        made = accounts.create_token(database, user, options.token_name, options.scopes.split(","))
    print(made.secret if options.raw else f"Access token was successfully created: {made.secret}")
    return 0


def list_sources(_arguments: list[str]) -> int:
    """Gitea admin auth list: the head of the table; the stand-in has no authentication sources. Raises CommandError."""
    with _opened():
        print("ID\tName\tType\tEnabled")
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
