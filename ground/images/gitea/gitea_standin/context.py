"""What every handler has at hand: the instance, the request, and who asks."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from .accounts import User, user_of_id
from .database import Database
from .messages import Request, Response
from .release import Release
from .settings import Settings

SESSION_COOKIE = "i_like_gitea"


@dataclass(frozen=True)
class Identity:
    """Who asks, how that was shown (basic, token or session), and what a token allows."""

    user: User
    method: str
    scopes: tuple[str, ...] = ("all",)


class Sessions:
    """Signed-in browsers; kept in memory, as Gitea does by default: a restart signs everybody out."""

    def __init__(self) -> None:
        self._users: dict[str, int] = {}
        self._lock = threading.Lock()

    def begin(self, user: User) -> str:
        """A new session's secret."""
        secret = secrets.token_hex(16)
        with self._lock:
            self._users[secret] = user.id
        return secret

    def end(self, secret: str) -> None:
        """Signs a browser out."""
        with self._lock:
            self._users.pop(secret, None)

    def user_id(self, secret: str) -> int | None:
        """Whose session this is."""
        return self._users.get(secret)


@dataclass
class Instance:
    """The running Gitea."""

    settings: Settings
    release: Release
    database: Database
    sessions: Sessions = field(default_factory=Sessions)
    stopping: threading.Event = field(default_factory=threading.Event)

    def session_user(self, secret: str) -> User | None:
        """The account signed in with that secret."""
        number = self.sessions.user_id(secret) if secret else None
        return user_of_id(self.database, number) if number else None


@dataclass
class Context:
    """One request in hand."""

    instance: Instance
    request: Request
    identity: Identity | None
    parts: dict[str, str]

    @property
    def user(self) -> User | None:
        """Who asks; None for a stranger."""
        return self.identity.user if self.identity else None

    @property
    def settings(self) -> Settings:
        """The instance's settings."""
        return self.instance.settings

    @property
    def database(self) -> Database:
        """The instance's database."""
        return self.instance.database


Handler = Callable[[Context], Response]


@dataclass(frozen=True)
class Route:
    """A method, a path with {names}, and who answers."""

    method: str
    pattern: re.Pattern[str]
    handler: Handler


def route(method: str, path: str, handler: Handler) -> Route:
    """A route for `path`; {name} stands for one part of it."""
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)
    return Route(method, re.compile(pattern), handler)
