"""Gitea's app.ini has the site's secrets, or a check fails: Gitea itself starts without them and says nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ops.errors import Degraded
from ops.stack import accounts, health, secrets_in_use
from tests.support import fakes
from tests.support.fake_restore_host import FakeRestoreHost

SECRETS = {"gitea-secret-key": "k", "gitea-internal-token": "token", "gitea-jwt-secret": "jwt"}
INI = (
    "APP_NAME = 100% Gitea\n[security]\nINSTALL_LOCK = true\nSECRET_KEY = k\nINTERNAL_TOKEN = `token`\n"
    "[oauth2]\nJWT_SECRET = jwt\n"
)
NAMES = tuple(SECRETS)


def write(data: Path, secrets: Path, ini: str = INI) -> None:
    (data / "gitea/conf").mkdir(parents=True, exist_ok=True)
    (data / "gitea/conf/app.ini").write_text(ini)
    secrets.mkdir(exist_ok=True)
    for name, value in SECRETS.items():
        (secrets / name).write_text(f"{value}\n")


@pytest.mark.parametrize(
    ("ini", "missing"),
    [
        (INI, ()),
        # The public constant that Gitea uses instead does not stand in app.ini.
        (INI.replace("SECRET_KEY = k", "SECRET_KEY ="), NAMES[:1]),
        (INI.replace("SECRET_KEY = k\n", ""), NAMES[:1]),
        # Gitea makes a token and writes it.
        (INI.replace("`token`", "made-by-gitea"), NAMES[1:2]),
        (INI.replace("JWT_SECRET = jwt", "JWT_SECRET = other"), NAMES[2:]),
        ("", NAMES),
    ],
)
def test_a_secret_that_app_ini_does_not_have_is_named(tmp_path: Path, ini: str, missing: tuple[str, ...]) -> None:
    write(tmp_path / "data", tmp_path / "secrets", ini)
    assert secrets_in_use.not_in_use(tmp_path / "data", tmp_path / "secrets") == missing


@pytest.mark.parametrize("content", [None, ""])
def test_a_secret_that_cannot_be_read_is_not_in_use_whatever_app_ini_has(tmp_path: Path, content: str | None) -> None:
    write(tmp_path / "data", tmp_path / "secrets", INI.replace("SECRET_KEY = k", "SECRET_KEY ="))
    file = tmp_path / "secrets/gitea-secret-key"
    file.unlink() if content is None else file.write_text(content)
    assert secrets_in_use.not_in_use(tmp_path / "data", tmp_path / "secrets") == NAMES[:1]


def test_before_the_first_start_there_is_nothing_to_compare(tmp_path: Path) -> None:
    assert secrets_in_use.not_in_use(tmp_path, tmp_path) == ()


def test_the_health_of_a_site_whose_gitea_ignored_a_secret_is_red(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "DATA", tmp_path / "data")
    monkeypatch.setattr(health, "SECRETS", tmp_path / "secrets")
    world: Any = fakes.FakeWorld()
    assert health._settings(fakes.site(), world) == []
    write(tmp_path / "data", tmp_path / "secrets")
    probe, _ = health._settings(fakes.site(), world)
    assert (probe.name, probe.healthy, probe.seen) == ("secrets of Gitea", True, "in use")
    write(tmp_path / "data", tmp_path / "secrets", INI.replace("SECRET_KEY = k", "SECRET_KEY ="))
    probe, _ = health._settings(fakes.site(), world)
    assert (probe.healthy, probe.seen) == (False, "Gitea does not use gitea-secret-key")


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        ("PASSWORD = imap's", ()),
        ('PASSWORD = """\'imap\'"""', ("setting-imap",)),
        ("PASSWORD =", ("setting-imap",)),
        ("", ("setting-imap",)),
    ],
)
def test_a_setting_s_secret_that_app_ini_does_not_have_is_named(
    tmp_path: Path, line: str, missing: tuple[str, ...]
) -> None:
    write(tmp_path / "data", tmp_path / "secrets", f"{INI}[email.incoming]\n{line}\n")
    (tmp_path / "secrets/setting-imap").write_text("imap's")
    settings = {"email.incoming": {"PASSWORD": "secret:imap", "USERNAME": "gitea"}}
    assert secrets_in_use.not_in_use(tmp_path / "data", tmp_path / "secrets", settings) == missing


def test_a_damaged_app_ini_has_no_secret(tmp_path: Path) -> None:
    write(tmp_path / "data", tmp_path / "secrets", f'{INI}[ui]\nA = """begin\n')
    assert secrets_in_use.not_in_use(tmp_path / "data", tmp_path / "secrets") == NAMES


@pytest.mark.parametrize("ignored", [True, False])
def test_a_restore_after_which_gitea_ignores_a_secret_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ignored: bool
) -> None:
    host = FakeRestoreHost(directory=tmp_path)
    start = host.start

    def starts(project: str, service: str) -> None:
        start(project, service)
        write(host.paths.live, host.paths.secrets, INI.replace("SECRET_KEY = k", "SECRET_KEY =") if ignored else INI)

    monkeypatch.setattr(host, "start", starts)
    monkeypatch.setattr(accounts, "ensure_admin", lambda site, world: None)
    run: Any = host.ops
    if ignored:
        with pytest.raises(Degraded, match="without these secrets of it: gitea-secret-key"):
            run()
    else:
        assert run().changed
    assert (host.content(), host.running) == ("then", True)
