"""Users and their access tokens, as PostgreSQL keeps them."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field

from .credentials import ALGORITHM, Hashed, hash_password, hash_token, new_token, password_matches, token_matches
from .database import Database, Duplicate, Row

_NAME = re.compile(r"[A-Za-z0-9]+(?:[-._][A-Za-z0-9]+)*")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
# Names that are paths of Gitea's own.
_RESERVED = frozenset(
    {
        "admin",
        "api",
        "assets",
        "avatars",
        "captcha",
        "explore",
        "ghost",
        "install",
        "issues",
        "login",
        "metrics",
        "milestones",
        "new",
        "notifications",
        "org",
        "pulls",
        "raw",
        "repo",
        "search",
        "ssh_info",
        "user",
        "v2",
    }
)


class AccountError(Exception):
    """An account cannot be made or changed as wished; the message is for the person who wished it."""


@dataclass(frozen=True)
class User:
    """One account; the password's hash stays out of its repr."""

    id: int
    name: str
    full_name: str
    email: str
    password: Hashed = field(repr=False)
    must_change_password: bool
    is_active: bool
    is_admin: bool
    is_restricted: bool
    prohibit_login: bool
    created_unix: int
    last_login_unix: int

    @property
    def may_sign_in(self) -> bool:
        """Whether this account is open."""
        return self.is_active and not self.prohibit_login


@dataclass(frozen=True)
class NewUser:
    """What an account is made from."""

    name: str
    email: str
    password: str = field(repr=False)
    full_name: str = ""
    is_admin: bool = False
    is_restricted: bool = False
    must_change_password: bool = True


@dataclass(frozen=True)
class Token:
    """An access token as it is kept: its name, its scopes, how it ends; never the token itself."""

    id: int
    user_id: int
    name: str
    last_eight: str
    scopes: tuple[str, ...]


def create_user(database: Database, wish: NewUser) -> User:
    """Makes an account. Raises AccountError when name or e-mail address are wrong or taken."""
    _check_name(wish.name)
    if not _EMAIL.fullmatch(wish.email):
        raise AccountError(f"e-mail invalid [email: {wish.email}]")
    _check_free(database, wish)
    hashed, now = hash_password(wish.password), int(time.time())
    try:
        row = database.returned(
            'INSERT INTO "user" (lower_name, name, full_name, email, passwd, passwd_hash_algo, salt, '
            "must_change_password, is_admin, is_restricted, created_unix, updated_unix) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING *",
            wish.name.lower(),
            wish.name,
            wish.full_name,
            wish.email.lower(),
            hashed.digest,
            ALGORITHM,
            hashed.salt,
            wish.must_change_password,
            wish.is_admin,
            wish.is_restricted,
            now,
            now,
        )
    except Duplicate as error:
        # Another request was faster between the look and the insert.
        raise AccountError(f"user already exists [name: {wish.name}]") from error
    return _user_from(row)


def find_user(database: Database, name: str) -> User | None:
    """The account of that name, whatever its capitals."""
    row = database.row('SELECT * FROM "user" WHERE lower_name = %s', name.lower())
    return _user_from(row) if row else None


def find_user_by_login(database: Database, login: str) -> User | None:
    """The account of that name or e-mail address."""
    row = database.row('SELECT * FROM "user" WHERE lower_name = %s OR email = %s', login.lower(), login.lower())
    return _user_from(row) if row else None


def user_of_id(database: Database, number: int) -> User | None:
    """The account of that number."""
    row = database.row('SELECT * FROM "user" WHERE id = %s', number)
    return _user_from(row) if row else None


def all_users(database: Database) -> list[User]:
    """Every account, oldest first."""
    return [_user_from(row) for row in database.rows('SELECT * FROM "user" ORDER BY id')]


def count_users(database: Database) -> int:
    """The number of accounts."""
    row = database.row('SELECT count(*) AS n FROM "user"')
    return int(row["n"]) if row else 0


def check_password(database: Database, login: str, password: str) -> User | None:
    """The account with that name or address, when the password is its own and it may sign in."""
    user = find_user_by_login(database, login)
    if user is None:
        # The same work as for an account that exists: the time taken must not tell which names do.
        hash_password(password, "0" * 32)
        return None
    return user if password_matches(password, user.password) and user.may_sign_in else None


def change_password(database: Database, user: User, password: str, must_change: bool) -> None:
    """Gives the account a new password."""
    hashed = hash_password(password)
    database.execute(
        'UPDATE "user" SET passwd = %s, salt = %s, passwd_hash_algo = %s, must_change_password = %s, '
        "updated_unix = %s WHERE id = %s",
        hashed.digest,
        hashed.salt,
        ALGORITHM,
        must_change,
        int(time.time()),
        user.id,
    )


_EDITABLE = frozenset(
    {
        "full_name",
        "email",
        "is_active",
        "is_admin",
        "is_restricted",
        "prohibit_login",
        "must_change_password",
        "last_login_unix",
    }
)


def edit_user(database: Database, user: User, **changes: object) -> User:
    """Changes columns of an account; the account as it is then. Raises AccountError for an address in use."""
    if not set(changes) <= _EDITABLE:
        raise ValueError(f"not to be edited: {set(changes) - _EDITABLE}")
    assignments = "".join(f"{column} = %s, " for column in changes)
    try:
        row = database.row(
            f'UPDATE "user" SET {assignments}updated_unix = %s WHERE id = %s RETURNING *',  # noqa: S608 - our columns
            *changes.values(),
            int(time.time()),
            user.id,
        )
    except Duplicate as error:
        raise AccountError(f"e-mail already in use [email: {changes.get('email')}]") from error
    return _user_from(row) if row else user


def delete_user(database: Database, user: User) -> None:
    """Removes an account with its tokens and keys. Raises AccountError while it owns repositories."""
    if database.row("SELECT 1 AS one FROM repository WHERE owner_id = %s", user.id):
        raise AccountError(f"user still has ownership of repositories [uid: {user.id}]")
    with database.transaction() as connection:
        connection.execute("DELETE FROM access_token WHERE uid = %s", (user.id,))
        connection.execute("DELETE FROM public_key WHERE owner_id = %s", (user.id,))
        connection.execute('DELETE FROM "user" WHERE id = %s', (user.id,))


def create_token(database: Database, user: User, name: str, scopes: tuple[str, ...]) -> tuple[Token, str]:
    """Makes an access token: how it is kept, and the token, which is never seen again. Raises AccountError."""
    secret, now = new_token(), int(time.time())
    hashed = hash_token(secret)
    try:
        row = database.returned(
            "INSERT INTO access_token (uid, name, token_hash, token_salt, token_last_eight, scope, created_unix, "
            "updated_unix) VALUES (%s, %s, %s, %s, %s, %s, %s, %s) RETURNING *",
            user.id,
            name,
            hashed.digest,
            hashed.salt,
            secret[-8:],
            ",".join(scopes),
            now,
            now,
        )
    except Duplicate as error:
        raise AccountError("access token name has been used already") from error
    return _token_from(row), secret


def find_token(database: Database, secret: str) -> tuple[Token, User] | None:
    """The token and whose it is, when it is known and its owner may sign in."""
    for row in database.rows("SELECT * FROM access_token WHERE token_last_eight = %s", secret[-8:]):
        if token_matches(secret, Hashed(row["token_hash"], row["token_salt"])):
            user = user_of_id(database, row["uid"])
            return (_token_from(row), user) if user and user.may_sign_in else None
    return None


def tokens_of(database: Database, user: User) -> list[Token]:
    """The account's access tokens."""
    rows = database.rows("SELECT * FROM access_token WHERE uid = %s ORDER BY id", user.id)
    return [_token_from(row) for row in rows]


def delete_token(database: Database, user: User, name_or_id: str) -> bool:
    """Removes an access token by its number or its name; whether there was one."""
    number = int(name_or_id) if name_or_id.isdigit() else 0
    statement = "DELETE FROM access_token WHERE uid = %s AND (id = %s OR name = %s)"
    return database.execute(statement, user.id, number, name_or_id) > 0


def _check_name(name: str) -> None:
    if name.lower() in _RESERVED:
        raise AccountError(f"name is reserved [name: {name}]")
    if not _NAME.fullmatch(name) or len(name) > 40:
        raise AccountError(f"name is invalid [{name}]: must be valid alpha or numeric or dash(-_) or dot characters")


def _check_free(database: Database, wish: NewUser) -> None:
    if find_user(database, wish.name):
        raise AccountError(f"user already exists [name: {wish.name}]")
    if database.row('SELECT 1 AS one FROM "user" WHERE email = %s', wish.email.lower()):
        raise AccountError(f"e-mail already in use [email: {wish.email}]")


def _user_from(row: Row) -> User:
    plain = (
        "id",
        "name",
        "full_name",
        "email",
        "must_change_password",
        "is_active",
        "is_admin",
        "is_restricted",
        "prohibit_login",
        "created_unix",
        "last_login_unix",
    )
    return User(password=Hashed(row["passwd"], row["salt"]), **{name: row[name] for name in plain})


def _token_from(row: Row) -> Token:
    return Token(row["id"], row["uid"], row["name"], row["token_last_eight"], tuple(row["scope"].split(",")))
