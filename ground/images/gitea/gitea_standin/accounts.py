"""Users and their access tokens, stored in PostgreSQL."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field

from .credentials import ALGORITHM, Hashed, hash_password, hash_token, new_token, password_matches, token_matches
from .database import Database, Duplicate, Row

_NAME = re.compile(r"[A-Za-z0-9]+(?:[-._][A-Za-z0-9]+)*")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
# Names that are paths of Gitea itself.
_RESERVED = re.compile(
    "admin|api|assets|avatars|captcha|explore|ghost|install|issues|login|metrics|milestones|new|notifications|org|pulls|"
    "raw|repo|search|ssh_info|user|v2"
)


class AccountError(Exception):
    """An account cannot be made or changed as requested; the message is Gitea's."""


@dataclass(frozen=True)
class User:
    """One account; the password's hash is not in its repr."""

    id: int
    name: str
    email: str
    password: Hashed = field(repr=False)
    must_change_password: bool
    is_active: bool
    is_admin: bool
    full_name: str
    login_name: str
    created_unix: int


class WrongPasswordError(Exception):
    """No account has that name and password; the message says which of the two is wrong, as Gitea's does."""


@dataclass(frozen=True)
class Token:
    """A new access token, which is known only now."""

    id: int
    secret: str = field(repr=False)


@dataclass(frozen=True)
class NewUser:
    """The properties of an account to be made."""

    name: str
    email: str
    password: str = field(repr=False)
    is_admin: bool = False
    must_change_password: bool = True


def create_user(database: Database, new: NewUser) -> User:
    """Makes an account. Raises AccountError when its name or e-mail address is invalid or taken."""
    _check_name(new.name)
    if not _EMAIL.fullmatch(new.email):
        raise AccountError(f"e-mail invalid [email: {new.email}]")
    if find_user(database, new.name):
        raise AccountError(f"user already exists [name: {new.name}]")
    if database.row('SELECT 1 AS one FROM "user" WHERE email = %s', new.email.lower()):
        raise AccountError(f"e-mail already in use [email: {new.email}]")
    hashed, now = hash_password(new.password), int(time.time())
    try:
        row = database.insert(
            '"user"',
            lower_name=new.name.lower(),
            name=new.name,
            email=new.email.lower(),
            passwd=hashed.digest,
            passwd_hash_algo=ALGORITHM,
            salt=hashed.salt,
            must_change_password=new.must_change_password,
            is_admin=new.is_admin,
            created_unix=now,
            updated_unix=now,
        )
    except Duplicate as error:
        # Another request made the account between the checks and the insert.
        raise AccountError(f"user already exists [name: {new.name}]") from error
    return _user_from(row)


def find_user(database: Database, name: str) -> User | None:
    """The account with that name, case ignored."""
    row = database.row('SELECT * FROM "user" WHERE lower_name = %s', name.lower())
    return _user_from(row) if row else None


def find_user_by_login(database: Database, login: str) -> User | None:
    """The account with that name or e-mail address."""
    row = database.row('SELECT * FROM "user" WHERE lower_name = %s OR email = %s', login.lower(), login.lower())
    return _user_from(row) if row else None


def user_of_id(database: Database, number: int) -> User | None:
    """The account with that number."""
    row = database.row('SELECT * FROM "user" WHERE id = %s', number)
    return _user_from(row) if row else None


def all_users(database: Database) -> list[User]:
    """Every account, oldest first."""
    return [_user_from(row) for row in database.rows('SELECT * FROM "user" WHERE type = 0 ORDER BY id')]


def check_password(database: Database, login: str, password: str) -> User:
    """The account with that name or e-mail address. Raises WrongPasswordError, for an inactive account, too."""
    user = find_user_by_login(database, login)
    if user is None:
        # The same work as for an existing account: the time taken must not tell which names exist.
        hash_password(password, "0" * 32)
        raise WrongPasswordError(f"user does not exist [uid: 0, name: {login}]")
    if not password_matches(password, user.password):
        raise WrongPasswordError(f"user's password is invalid [uid: {user.id}, name: {user.name}]")
    if not user.is_active:
        raise WrongPasswordError(f"user is inactive [uid: {user.id}, name: {user.name}]")
    return user


def change_password(database: Database, user: User, password: str) -> None:
    """Sets the account's password."""
    hashed = hash_password(password)
    statement = 'UPDATE "user" SET passwd = %s, salt = %s, passwd_hash_algo = %s, updated_unix = %s WHERE id = %s'
    database.execute(statement, hashed.digest, hashed.salt, ALGORITHM, int(time.time()), user.id)


def edit_user(database: Database, user: User, **values: object) -> User:
    """Changes columns of an account, except those whose value is None; returns the changed account."""
    given = {"updated_unix": int(time.time()), **{name: value for name, value in values.items() if value is not None}}
    assignments = ", ".join(f"{name} = %s" for name in given)
    return _user_from(
        database.returned(f'UPDATE "user" SET {assignments} WHERE id = %s RETURNING *', *given.values(), user.id)  # noqa: S608 - names are the code's own
    )


def delete_user(database: Database, user: User) -> None:
    """Removes an account with its tokens and keys. Raises AccountError while it owns repositories."""
    if database.row("SELECT 1 AS one FROM repository WHERE owner_id = %s", user.id):
        raise AccountError(f"user still has ownership of repositories [uid: {user.id}]")
    with database.transaction() as connection:
        connection.execute("DELETE FROM access_token WHERE uid = %s", (user.id,))
        connection.execute("DELETE FROM public_key WHERE owner_id = %s", (user.id,))
        connection.execute('DELETE FROM "user" WHERE id = %s', (user.id,))


def create_token(database: Database, user: User, name: str, scopes: list[str]) -> Token:
    """Makes an access token; the database holds its hash alone. Raises AccountError for a taken name."""
    secret, now = new_token(), int(time.time())
    hashed = hash_token(secret)
    try:
        row = database.insert(
            "access_token",
            uid=user.id,
            name=name,
            token_hash=hashed.digest,
            token_salt=hashed.salt,
            token_last_eight=secret[-8:],
            scope=",".join(scopes),
            created_unix=now,
            updated_unix=now,
        )
    except Duplicate as error:
        raise AccountError("access token name has been used already") from error
    return Token(row["id"], secret)


def find_token(database: Database, secret: str) -> tuple[User, tuple[str, ...]] | None:
    """The owner and the scopes of an access token; None for an unknown token or an inactive owner."""
    for row in database.rows("SELECT * FROM access_token WHERE token_last_eight = %s", secret[-8:]):
        if token_matches(secret, Hashed(row["token_hash"], row["token_salt"])):
            user = user_of_id(database, row["uid"])
            return (user, tuple(row["scope"].split(","))) if user and user.is_active else None
    return None


def delete_token(database: Database, user: User, name_or_id: str) -> bool:
    """Removes the access token with that number or name; False when there is none."""
    number = int(name_or_id) if name_or_id.isdigit() else 0
    statement = "DELETE FROM access_token WHERE uid = %s AND (id = %s OR name = %s)"
    return database.execute(statement, user.id, number, name_or_id) > 0


def _check_name(name: str) -> None:
    if _RESERVED.fullmatch(name.lower()):
        raise AccountError(f"name is reserved [name: {name}]")
    if not _NAME.fullmatch(name) or len(name) > 40:
        raise AccountError(f"name is invalid [{name}]: must be valid alpha or numeric or dash(-_) or dot characters")


def _user_from(row: Row) -> User:
    plain = ("id", "name", "email", "must_change_password", "is_active", "is_admin", "full_name", "login_name")
    named = {name: row[name] for name in plain}
    return User(password=Hashed(row["passwd"], row["salt"]), created_unix=row["created_unix"] or 0, **named)
