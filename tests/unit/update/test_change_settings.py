"""A change of Gitea's settings either works or is taken back, wherever its process is killed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ops.config import app_ini, settings_file
from ops.config.load import site_from
from ops.config.schema import Site
from ops.config.setting_variables import decoded
from ops.errors import Locked, OpsError, Refused, RolledBack, Stranded
from ops.model import Report, Secret
from ops.stack import gitea_settings
from ops.stack.secrets_in_use import INI
from ops.update import change_settings
from ops.world.containers import Ran
from ops.world.lock import exclusive
from ops.world.process import Finished
from tests.support import fakes
from tests.support.fake_host import Bucket, FakeHost, Killed

SIGNED_IN = {"service": {"REQUIRE_SIGNIN_VIEW": True}}
# Gitea ends, answers 500 after its start, or does not write the setting.
CRASHES = {"cache": {"ADAPTER": "redis", "HOST": "redis://127.0.0.1:1"}}
SOURS = {"ui": {"SOUR": True}}
IGNORED = {"ui": {"IGNORED": True}}
WITH_SECRET = {"email.incoming": {"PASSWORD": "secret:imap"}}


class Secrets(Bucket):
    """Secrets Manager; a setting's secret may be missing, and its value may be what Gitea logs."""

    imap: str = "imap's password"

    def secret(self, name: str, stage: str = "") -> Secret:
        if name.endswith("setting-imap"):
            if not self.imap:
                raise OpsError(f"secret {name}: AWS says ResourceNotFoundException")
            return Secret(self.imap)
        return Secret(json.dumps({"username": "u", "password": "p"}) if "smtp" in name else "p")


class Host(FakeHost):
    """A host whose Gitea is made from the settings' file, and writes app.ini as its start does."""

    given: dict[str, str]
    watched: int = 30
    # Whether PostgreSQL's container has to be made again, too, as after a deployment that was interrupted.
    database_changed: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.aws: Any = Secrets(self)
        (self.compose / settings_file.FILE).write_text(self.text({}))
        self.given = self._file()
        self._write_ini()

    @staticmethod
    def text(settings: Mapping[str, Any], title: str = "Gitea") -> str:
        return settings_file.compose_file(fakes.site_with_settings(settings, title=title), "SECRETS")

    def with_settings(self, settings: Mapping[str, Any], title: str = "Gitea") -> Site:
        document = fakes.site_document(update={"watch_seconds": self.watched, "healthy_minutes": 1})
        gitea = {**document["gitea"], "title": title, "settings": settings}
        return site_from(document | {"gitea": gitea})

    def apply(self, settings: Mapping[str, Any], *, dry_run: bool = False, title: str = "Gitea") -> Report:
        world: Any = self
        site = self.with_settings(settings, title)
        return change_settings.apply(site, world, dry_run=dry_run, paths=self.paths, compose=self.compose)

    def resume_settings(self) -> Report:
        world: Any = self
        return change_settings.resume(self.with_settings({}), world, paths=self.paths, compose=self.compose)

    def ini(self) -> dict[tuple[str, str], str]:
        return app_ini.parse((self.paths.live / INI).read_text())

    def wanted(self, settings: Mapping[str, Any]) -> str:
        return settings_file.compose_file(fakes.site_with_settings(settings), str(self.paths.secrets))

    # Gitea.
    def _file(self) -> dict[str, str]:
        document = json.loads((self.compose / settings_file.FILE).read_text())
        return {name: value.replace("$$", "$") for name, value in document["services"]["gitea"]["environment"].items()}

    def compose_create(self, service: str) -> None:
        super().compose_create(service)
        if service == "gitea" and self.given != self._file():
            self.given, self.stack["gitea"].state = self._file(), "created"
        if service == "gitea" and self.database_changed:
            # Compose stops a dependency, makes its container again, and does not start it.
            self.database_changed, self.stack["postgres"].state = False, "created"

    def _begin_gitea(self) -> None:
        super()._begin_gitea()
        self._write_ini()
        if self.given.get("GITEA__cache__ADAPTER") == "redis":
            self.stack["gitea"].state = "exited"

    def _write_ini(self) -> None:
        found = self.ini() if (self.paths.live / INI).exists() else {}
        record = self.paths.live / gitea_settings.SET_BEFORE
        before = {tuple(line.split(" ")) for line in (record.read_text().split("\n") if record.exists() else [])}
        found = {each: value for each, value in found.items() if each not in before}
        for name, value in self.given.items():
            setting = decoded(name)
            if setting and setting[1] != "IGNORED":
                file = self.paths.secrets / Path(value).name
                found[setting[:2]] = app_ini.kept(file.read_text() if setting[2] else value) or ""
        record.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"[{section}]\n{key} = {app_ini.written(value)}\n" for (section, key), value in found.items()]
        (self.paths.live / INI).write_text("".join(lines))
        record.write_text(f"{self.given.get(settings_file.RECORD, '')}\n")

    def _status(self, path: str) -> int:
        sour = "GITEA__ui__SOUR" in self.given and self.clock.monotonic() - self.stack["gitea"].since > 10
        return 500 if sour else super()._status(path)

    def execute(self, project: str, service: str, argv: Sequence[str], **more: Any) -> Ran:
        if list(argv) == ["env", "-0"]:
            self.name(project, service)
            return Ran(0, "\0".join(f"{name}={value}" for name, value in self.given.items()))
        return super().execute(project, service, argv, **more)

    def run(self, argv: Sequence[str], environment: Mapping[str, str] | None = None, **more: Any) -> Finished:
        if "logs" in argv:
            return Finished(0, "a [I] start\nx routers/init.go [F] cache.Init failed: imap's password refused\n")
        return super().run(argv, environment, **more)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    fakes.own_secrets(monkeypatch)
    made = Host(directory=tmp_path)
    (made.compose / settings_file.FILE).write_text(made.wanted({}))
    return made


def restarts(host: Host) -> list[str]:
    """Return the services that were stopped or started."""
    return [each for each in host.actions if each.split()[0] in {"stop", "start"}]


def assert_as_before(host: Host, settings: Mapping[str, Any] | None = None) -> None:
    """Assert that Gitea serves with the settings of before, and that no change is under way."""
    assert host.serves()
    assert (host.compose / settings_file.FILE).read_text() == host.wanted(settings or {})
    assert host.given == host._file()
    assert not (host.compose / change_settings.BEFORE).exists()


def test_a_new_setting_restarts_gitea_alone_and_reaches_app_ini(host: Host) -> None:
    done = host.apply(SIGNED_IN)
    assert (done.changed, done.facts["settings"]) == (True, ["[service] REQUIRE_SIGNIN_VIEW"])
    assert "Gitea runs with the changed settings ([service] REQUIRE_SIGNIN_VIEW)" in done.summary
    assert host.ini()["service", "REQUIRE_SIGNIN_VIEW"] == "true"
    assert restarts(host) == ["stop gitea", "start gitea"]
    assert_as_before(host, SIGNED_IN)
    assert host.contents().documents == {}


def test_a_database_that_compose_makes_again_with_gitea_is_started(host: Host) -> None:
    host.database_changed = True
    assert host.apply(SIGNED_IN).changed
    assert restarts(host) == ["stop gitea", "start postgres", "start gitea"]
    assert_as_before(host, SIGNED_IN)


def test_a_changed_title_goes_the_same_way(host: Host) -> None:
    assert host.apply({}, title="A new title").facts["settings"] == ["APP_NAME"]
    assert host.ini()["DEFAULT", "APP_NAME"] == "A new title"


def test_a_second_run_changes_nothing(host: Host) -> None:
    host.apply(SIGNED_IN)
    before = list(host.actions)
    assert not host.apply(SIGNED_IN).changed
    assert host.actions == before


def test_a_removed_setting_leaves_app_ini(host: Host) -> None:
    host.apply(SIGNED_IN)
    assert host.apply({}).facts["settings"] == ["[service] REQUIRE_SIGNIN_VIEW"]
    assert ("service", "REQUIRE_SIGNIN_VIEW") not in host.ini()


def test_an_edited_app_ini_is_made_as_the_site_file_has_it(host: Host) -> None:
    host.apply(SIGNED_IN)
    file = host.paths.live / INI
    file.write_text(file.read_text().replace("REQUIRE_SIGNIN_VIEW = true", "REQUIRE_SIGNIN_VIEW = false"))
    assert host.apply(SIGNED_IN).facts["settings"] == ["[service] REQUIRE_SIGNIN_VIEW"]
    assert host.ini()["service", "REQUIRE_SIGNIN_VIEW"] == "true"


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (CRASHES, "gitea does not stay up: exited: x routers/init.go [F] cache.Init failed"),
        (SOURS, "checks failed: /api/healthz answers 500"),
        (IGNORED, "app.ini does not have [ui] IGNORED"),
    ],
)
def test_a_setting_that_gitea_does_not_work_with_is_taken_back(
    host: Host, settings: Mapping[str, Any], why: str
) -> None:
    host.apply(SIGNED_IN)
    with pytest.raises(RolledBack) as failed:
        host.apply({**SIGNED_IN, **settings})
    (section, keys), *_ = settings.items()
    assert all(f"[{section}] {key}" in failed.value.message for key in keys)
    assert why in failed.value.message
    assert "REQUIRE_SIGNIN_VIEW" not in failed.value.message
    assert failed.value.hint == "correct [gitea.settings] in the site file, then run ops deploy"
    assert failed.value.left_as == "Gitea runs with the settings of before"
    assert_as_before(host, SIGNED_IN)
    assert not [each for each in host.ini() if each[0] in settings]


def test_requests_wait_until_gitea_runs_with_the_settings_of_before(host: Host) -> None:
    with pytest.raises(RolledBack):
        host.apply(CRASHES)
    course = [each for each in host.actions if "hold" in each or each in {"stop gitea", "start gitea"}]
    twice = ["stop gitea", "start gitea"] * 2
    assert course == ["hold transfers", "hold all", *twice, "hold none"]


def test_a_gitea_that_does_not_go_back_is_stranded(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    run = host.run
    monkeypatch.setattr(
        host, "run", lambda argv, **more: Finished(1, "no engine") if "create" in argv else run(argv, **more)
    )
    with pytest.raises(Stranded, match=r"and not with those of before: gitea cannot be started: no engine") as failed:
        host.apply(CRASHES)
    assert "ops settings resume" in failed.value.hint
    monkeypatch.undo()
    assert host.resume_settings().changed
    host.start("project", "gitea")
    assert_as_before(host)


def test_a_gitea_that_restarts_again_and_again_is_started_with_the_settings_of_before(host: Host) -> None:
    (host.compose / change_settings.BEFORE).write_text(host.wanted({}))
    (host.compose / settings_file.FILE).write_text(host.wanted(CRASHES))
    host.given, host.stack["gitea"].state = host._file(), "restarting"
    assert host.resume_settings().changed
    assert restarts(host) == ["stop gitea", "start gitea"]
    assert_as_before(host)


def test_the_undo_on_a_stopped_gitea_says_that_it_does_not_run(host: Host) -> None:
    (host.compose / change_settings.BEFORE).write_text(host.wanted({}))
    host.stack["gitea"].state = "exited"
    done = host.resume_settings()
    assert done.changed
    assert done.summary.endswith("; Gitea does not run, and gets the settings of before at its next start")
    assert restarts(host) == []


def test_a_secret_reaches_app_ini_and_no_message(host: Host) -> None:
    done = host.apply(WITH_SECRET)
    assert host.ini()["email.incoming", "PASSWORD"] == "imap's password"
    assert "imap's password" not in f"{done}{host.progress}{(host.compose / settings_file.FILE).read_text()}"


def test_a_secret_in_gitea_s_log_is_not_in_the_message(host: Host) -> None:
    with pytest.raises(RolledBack) as failed:
        host.apply({**WITH_SECRET, **CRASHES})
    assert "(the secret setting-imap) refused" in failed.value.message
    assert "imap's password" not in f"{failed.value}{host.progress}"


def test_a_missing_secret_is_refused_before_anything_is_changed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Secrets, "imap", "")
    with pytest.raises(Refused, match="setting-imap") as refused:
        host.apply(WITH_SECRET)
    assert "run ops secrets set setting-imap" in refused.value.hint
    assert restarts(host) == []
    assert_as_before(host)


def test_a_gitea_that_does_not_run_gets_the_settings_at_its_next_start(host: Host) -> None:
    host.stack["gitea"].state = "exited"
    done = host.apply(SIGNED_IN)
    assert (done.changed, done.facts["settings"]) == (True, ["[service] REQUIRE_SIGNIN_VIEW"])
    assert (host.compose / settings_file.FILE).read_text() == host.wanted(SIGNED_IN)
    assert restarts(host) == []
    assert not host.apply(SIGNED_IN).changed


def test_the_first_deployment_writes_the_file(host: Host) -> None:
    (host.compose / settings_file.FILE).unlink()
    host.stack["gitea"].state = "exited"
    assert "APP_NAME" in host.apply({}).facts["settings"]


def test_a_dry_run_names_the_changes_and_makes_none(host: Host) -> None:
    planned = host.apply(SIGNED_IN, dry_run=True)
    assert (planned.changed, planned.lines) == (True, ("[service] REQUIRE_SIGNIN_VIEW",))
    assert not host.apply({}, dry_run=True).changed
    assert host.actions == []


def test_a_running_backup_is_waited_for_and_another_operation_is_not(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[Iterator[None]] = []

    def end(seconds: float) -> None:
        held.pop().__exit__(None, None, None)  # type: ignore[attr-defined]

    holder: Any = exclusive(host.paths.lock, host.clock.now(), "ops backup take")
    holder.__enter__()
    held.append(holder)
    with monkeypatch.context() as patch:
        patch.setattr(host.clock, "sleep", end)
        assert not host.apply({}).changed
    with exclusive(host.paths.lock, host.clock.now(), "ops update"), pytest.raises(Locked, match="ops update"):
        host.apply(SIGNED_IN)
    assert restarts(host) == []


def test_a_gitea_that_does_not_take_a_canary_is_tested_without_a_clone(host: Host) -> None:
    host.given["GITEA__ui__SOUR"] = "true"
    host.clock.sleep(60)
    done = host.apply(SIGNED_IN)
    assert done.changed
    assert any("tested without a clone" in line for line in host.progress)
    assert_as_before(host, SIGNED_IN)


@pytest.mark.parametrize("settings", [SIGNED_IN, CRASHES, SOURS])
def test_a_run_that_is_killed_anywhere_is_undone_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Mapping[str, Any]
) -> None:
    fakes.own_secrets(monkeypatch)
    outcomes = []
    for number in range(200):
        host = Host(directory=tmp_path / str(number))
        (host.compose / settings_file.FILE).write_text(host.wanted({}))
        host.dies_before = number
        try:
            host.apply(settings)
        except Killed:
            host.dies_before = -1
        except RolledBack:
            break
        else:
            break
        outcomes.append(host.resume_settings().changed)
        applied = (host.compose / settings_file.FILE).read_text() == host.wanted(settings)
        if not _runs(host):
            # The stack's unit starts it.
            host.compose_create("gitea")
            host.start("project", "gitea")
        assert_as_before(host, settings if applied else {})
        assert not host.resume_settings().changed
    assert True in outcomes
    assert False in outcomes


def _runs(host: Host) -> bool:
    return host.stack["gitea"].state == "running"


def test_check_names_the_differing_settings(host: Host) -> None:
    world: Any = host
    same = change_settings.check(host.with_settings({}), world, paths=host.paths, compose=host.compose)
    assert (same.exit_code, same.lines) == (0, ())
    other = change_settings.check(host.with_settings(SIGNED_IN), world, paths=host.paths, compose=host.compose)
    assert (other.exit_code, other.lines) == (3, ("[service] REQUIRE_SIGNIN_VIEW",))
    assert host.actions == []
