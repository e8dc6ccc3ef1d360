"""What every handler gets: the instance, the request and its author."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from werkzeug import Response
from werkzeug.routing import Rule

from .accounts import User
from .database import Database
from .pushes import PushQueue
from .release import Release
from .settings import Settings
from .web import Request


@dataclass(frozen=True)
class Identity:
    """The author of a request, the method of authentication (basic, token or session) and the token's scopes."""

    user: User
    method: str
    scopes: tuple[str, ...] = ("all",)


@dataclass(frozen=True)
class Instance:
    """The running Gitea. Sessions are in memory, Gitea's default, so a restart ends them: secret to number of the user."""

    settings: Settings
    release: Release
    database: Database
    pushes: PushQueue
    sessions: dict[str, int] = field(default_factory=dict)
    stopping: threading.Event = field(default_factory=threading.Event)

    def begin_session(self, user: User) -> str:
        """The secret of a new session."""
        secret = secrets.token_hex(16)
        self.sessions[secret] = user.id
        return secret


@dataclass
class Context:
    """One request being handled; `path` holds the variable parts of the URL's path."""

    instance: Instance
    request: Request
    identity: Identity | None
    path: dict[str, Any]

    @property
    def user(self) -> User | None:
        """The author of the request; None for an anonymous one."""
        return self.identity.user if self.identity else None

    @property
    def me(self) -> User:
        """The author of a request whose route requires one."""
        assert self.identity, "the route lets anonymous requests through"
        return self.identity.user

    @property
    def settings(self) -> Settings:
        """The instance's settings."""
        return self.instance.settings

    @property
    def database(self) -> Database:
        """The instance's database."""
        return self.instance.database


Handler = Callable[[Context], Response]


def route(method: str, path: str, handler: Handler) -> Rule:
    """A route in werkzeug's notation: `<name>` is one part of the path."""
    return Rule(path, methods=[method], endpoint=handler)
