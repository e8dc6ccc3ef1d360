"""The administrator account is made without its password on any command line."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from ops.errors import OpsError, Unavailable
from ops.stack import accounts
from ops.world.containers import Ran
from ops.world.https import Answer
from tests.support import fakes

PASSWORD = "the-password-in-secrets-manager"
TOKEN = "0123456789abcdef0123456789abcdef01234567"


class Gitea:
    """A Gitea with users, passwords and tokens."""

    def __init__(self) -> None:
        self.passwords: dict[str, str] = {}
        self.tokens: set[str] = set()
        # For how many more requests the database is away: Gitea answers 401 to the right password then.
        self.away = 0

    def command(self, argv: Sequence[str]) -> Ran:
        if "list" in argv:
            rows = [f"{number}  {name}  {name}@x  true  true  false" for number, name in enumerate(self.passwords, 1)]
            return Ran(0, "\n".join(["ID  Username  Email  IsActive  IsAdmin  2FA", *rows]))
        user = argv[list(argv).index("--username") + 1]
        if "create" in argv:
            self.passwords[user] = "random"
            return Ran(0, f"generated random password is 'random'\nNew user '{user}' has been successfully created!")
        self.tokens.add(argv[list(argv).index("--token-name") + 1])
        return Ran(0, f"Access token was successfully created: {TOKEN}")

    def handle(self, method: str, path: str, headers: Mapping[str, str], document: Any) -> Answer:
        if self.away > 0:
            self.away -= 1
            return Answer(424 if path == "/api/healthz" else 401)
        if path == "/api/healthz":
            return Answer(200)
        kind, _, value = headers.get("Authorization", "").partition(" ")
        user, password = base64.b64decode(value).decode().split(":") if kind == "Basic" else ("", "")
        signed_in = (kind == "token" and value == TOKEN and bool(self.tokens)) or (
            bool(user) and self.passwords.get(user) == password
        )
        if not signed_in:
            return Answer(401)
        if method == "PATCH":
            self.passwords[path.rsplit("/", 1)[1]] = document["password"]
        if method == "DELETE":
            self.tokens.discard(path.rsplit("/", 1)[1])
            return Answer(204)
        return Answer(200)


def _world(gitea: Gitea) -> fakes.FakeWorld:
    return fakes.FakeWorld(
        aws=fakes.FakeAws({"test/admin-password": PASSWORD}),
        containers=fakes.FakeContainers(answers={"gitea": gitea.command}),
        https=fakes.FakeHttps(gitea.handle),
    )


def _ensure(world: fakes.FakeWorld) -> bool:
    return accounts.ensure_admin(fakes.site(), world).changed  # type: ignore[arg-type]


def test_the_administrator_is_made_with_the_password_from_secrets_manager_and_no_token_stays() -> None:
    gitea = Gitea()
    assert _ensure(_world(gitea)) is True
    assert gitea.passwords == {"keeper": PASSWORD}
    assert gitea.tokens == set()


def test_a_token_that_gitea_does_not_delete_is_reported() -> None:
    gitea = Gitea()
    world = _world(gitea)

    def with_second_factor(method: str, path: str, headers: Mapping[str, str], document: Any) -> Answer:
        return Answer(401) if method == "DELETE" else gitea.handle(method, path, headers, document)

    world.https = fakes.FakeHttps(with_second_factor)
    _ensure(world)
    (left,) = gitea.tokens
    (line,) = [each for each in world.progress if left in each]
    assert "was not deleted: Gitea answers 401" in line


def test_a_401_with_the_database_away_does_not_count_as_a_wrong_password() -> None:
    gitea = Gitea()
    gitea.passwords["keeper"] = PASSWORD
    gitea.away = 2
    world = _world(gitea)
    with pytest.raises(Unavailable, match="401 to the administrator, and its database does not answer"):
        _ensure(world)
    assert world.containers.executed == []
    assert gitea.passwords == {"keeper": PASSWORD}


def test_a_right_password_is_not_set_again_because_the_database_was_away_for_one_request() -> None:
    gitea = Gitea()
    gitea.passwords["keeper"] = PASSWORD
    gitea.away = 1
    world = _world(gitea)
    assert _ensure(world) is False
    assert world.containers.executed == []


def test_a_token_that_stays_because_the_database_is_away_does_not_blame_the_second_factor() -> None:
    gitea = Gitea()
    world = _world(gitea)

    def without_database(method: str, path: str, headers: Mapping[str, str], document: Any) -> Answer:
        if method == "DELETE":
            gitea.away = 10
        return gitea.handle(method, path, headers, document)

    world.https = fakes.FakeHttps(without_database)
    _ensure(world)
    (line,) = [each for each in world.progress if "was not deleted" in each]
    assert "its database does not answer" in line
    assert "second factor" not in line


def test_a_second_run_changes_nothing() -> None:
    gitea = Gitea()
    _ensure(_world(gitea))
    again = _world(gitea)
    assert _ensure(again) is False
    assert again.containers.executed == []


def test_an_administrator_with_another_password_gets_the_one_from_secrets_manager() -> None:
    gitea = Gitea()
    gitea.passwords["keeper"] = "someone changed it"
    assert _ensure(_world(gitea)) is True
    assert gitea.passwords == {"keeper": PASSWORD}


def test_the_next_run_completes_one_cut_off_after_the_account_was_made() -> None:
    gitea = Gitea()
    world = _world(gitea)
    world.https = fakes.FakeHttps(lambda *_: Answer(503))
    with pytest.raises(OpsError, match="503"):
        _ensure(world)
    assert _ensure(_world(gitea)) is True
    assert gitea.passwords == {"keeper": PASSWORD}


def test_no_command_line_has_the_password_or_runs_as_root() -> None:
    world = _world(Gitea())
    _ensure(world)
    assert world.containers.executed
    assert all(PASSWORD not in " ".join(argv) and user == "git" for _, argv, user in world.containers.executed)


def test_an_error_quotes_the_output_of_gitea() -> None:
    world = _world(Gitea())
    world.containers.answers["gitea"] = lambda argv: Ran(1, "Command error: name is reserved")
    with pytest.raises(OpsError, match="name is reserved"):
        _ensure(world)


def test_output_without_a_token_is_an_error() -> None:
    with pytest.raises(OpsError, match="no access token"):
        accounts.token_from("something else")
