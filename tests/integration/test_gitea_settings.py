"""Gitea's settings on a running Gitea: set, changed, removed, taken back, and from a secret."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.config import app_ini, settings_file
from ops.config.app_ini import NotKeptError
from ops.config.paths import HostPaths
from ops.config.setting_variables import decoded
from ops.errors import ConfigError, Refused, RolledBack
from ops.images import pins
from ops.model import Report
from ops.secrets import store
from ops.stack import accounts, gitea_settings, health
from ops.stack.secrets_in_use import INI
from ops.update import change_settings
from ops.world.containers import Containers
from ops.world.files import Files
from ops.world.https import Answer
from ops.world.process import Processes
from tests.support import fakes
from tests.support.compose_stack import COMPOSE, UPLOAD_LIMIT_MIB, Stack, lay_out, run

SCRIPT = COMPOSE / "gitea/remove-old-settings.sh"
# Values with which something could go wrong: in YAML, in Compose, in a shell, in app.ini.
ODD = {
    "DOLLAR": "$HOME ${DOMAIN} $$ %(DOMAIN)s 100%",
    "MARKS": '"in marks"',
    "APOSTROPHES": "'in apostrophes'",
    "LINES": "first\n\n  second # no comment\n[not a section]\nKEY = value",
    "SPACES": "  in the middle and at the ends  ",
    "BACKTICK": "a `b` c; d",
    "BACKSLASH": "C:\\dir\\",
    "UNICODE": "Grüße 数据 \U0001f600 \u2028",
    "EMPTY": "",
    "NUMBER": 7,
    "TRUTH": False,
    "LIST": ["one", "two"],
}
SIGNED_IN = {"service": {"REQUIRE_SIGNIN_VIEW": True}}
NO_CACHE = {"cache": {"ADAPTER": "redis", "HOST": "redis://127.0.0.1:1/0"}}
IMAP = {"email.incoming": {"PASSWORD": "secret:imap"}}
NAMES = st.sampled_from(["A", "B.c", "d:e", "F"])


# The script of the container, with this machine's awk and with busybox's, which the real image has.


def removed(command: Sequence[str], folder: Path, before: str, present: str) -> str:
    """Return app.ini after the script ran on it, where ``before`` was the record and ``present`` are the settings now."""
    (folder / "conf/.site-settings").write_text(f"{before}\n")
    done = subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], "GITEA_CUSTOM": str(folder), "SITE_SETTINGS": present},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "conf/.site-settings").read_text() == f"{present}\n"
    return (folder / "conf/app.ini").read_text()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.tuples(st.sampled_from(["DEFAULT", "one.x", "two"]), NAMES),
        st.text(st.sampled_from("\"'`#; \n=[]%ab"), max_size=10),
        min_size=1,
    ),
    st.sets(st.tuples(st.sampled_from(["DEFAULT", "one.x", "two"]), NAMES)),
)
def test_the_start_removes_exactly_the_settings_that_are_gone(
    tmp_path: Path, values: Mapping[tuple[str, str], str], gone: set[tuple[str, str]]
) -> None:
    (tmp_path / "conf").mkdir(exist_ok=True)
    kept = {}
    text = "; a comment\n"
    for section in ("DEFAULT", "one.x", "two"):
        text += "" if section == "DEFAULT" else f"[{section}]\n"
        for (own, key), value in values.items():
            try:
                value_given = app_ini.given(value)
            except NotKeptError:
                continue
            if own == section:
                kept[section, key] = value
                name = f"`{key}`" if ":" in key else key
                text += f"{name} = {app_ini.written(value_given)}\n"
    (tmp_path / "conf/app.ini").write_text(text)
    (tmp_path / "conf/app.ini").chmod(0o600)
    assert app_ini.parse(text) == kept
    before = "\n".join(f"{section} {key}" for section, key in sorted({*kept, *gone}))
    present = "\n".join(f"{section} {key}" for section, key in sorted({*kept} - gone))
    after = removed(["sh", str(SCRIPT)], tmp_path, before, present)
    assert app_ini.parse(after) == {each: value for each, value in kept.items() if each not in gone}
    assert "; a comment" in after
    assert (tmp_path / "conf/app.ini").stat().st_mode & 0o777 == 0o600


def test_the_start_removes_alike_with_busybox(images: Mapping[str, str], run_id: str, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    text = (
        'APP_NAME = kept\n[a.b]\nGONE = 1\nKEPT = 1\n`G:1` = x\nLINES = """one\nKEPT = not a key\n"""\nLAST = 1\n'
        "[c]\nGONE = kept here\nTICK = `two\nlines`\n"
    )
    (tmp_path / "conf/app.ini").write_text(text)
    before = "a.b GONE\na.b G:1\na.b LINES\na.b KEPT\nc TICK\nc MISSING"
    mounts = [f"--volume={tmp_path}:{tmp_path}", f"--volume={SCRIPT}:/script:ro"]
    given_to = ["--env", "GITEA_CUSTOM", "--env", "SITE_SETTINGS", "--label", f"gitea-suite.run={run_id}"]
    command = ["docker", "run", "--rm", *given_to, *mounts, images["DOOR_IMAGE"], "busybox", "sh", "/script"]
    assert removed(command, tmp_path, before, "a.b KEPT") == (
        "APP_NAME = kept\n[a.b]\nKEPT = 1\nLAST = 1\n[c]\nGONE = kept here\n"
    )


def test_a_first_start_has_nothing_to_remove(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "GITEA_CUSTOM": str(tmp_path / "data"), "SITE_SETTINGS": "a B"}
    subprocess.run(["sh", str(SCRIPT)], env=environment, check=True)
    assert (tmp_path / "data/conf/.site-settings").read_text() == "a B\n"


# A running Gitea.


class Direct:
    """Requests to Gitea itself: this stack has no nginx."""

    def __init__(self, stack: Stack) -> None:
        self._stack, self._address = stack, ""

    def request(
        self, domain: str, address: str, method: str, path: str, headers: Any = None, document: Any = None
    ) -> Answer:
        self._address = self._address or self._found()
        connection = http.client.HTTPConnection(self._address, 3000, timeout=15)
        body, kind = document, {}
        if document is not None and not isinstance(document, bytes):
            body, kind = json.dumps(document).encode(), {"Content-Type": "application/json"}
        try:
            connection.request(method, path, body, {"Host": domain, **kind, **(headers or {})})
            found = connection.getresponse()
            answer = Answer(found.status, {}, found.read(), datetime(2099, 1, 1, tzinfo=UTC))
        except OSError:
            # Another container may have another one.
            self._address = ""
            answer = Answer(502, certificate_ends=datetime(2099, 1, 1, tzinfo=UTC))
        connection.close()
        return answer

    def _found(self) -> str:
        # Not by Compose, which takes a second.
        network = f'(index .NetworkSettings.Networks "{self._stack.project}_web").IPAddress'
        name = f"{self._stack.project}-gitea-1"
        return run("docker", "inspect", "--format", f"{{{{{network}}}}}", name, check=False).strip() or "127.0.0.1"

    def banner(self, address: str, port: int) -> str:
        return "SSH-2.0-OpenSSH"


class Site:
    """A Gitea with its database, and ``ops settings apply`` on it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.compose = stack.folder / "compose"
        folder = stack.folder
        self.paths = HostPaths(
            folder / "data", folder / "secrets", folder / "backup", lock=folder / "lock", project=stack.project
        )
        files = {each.name: each.read_text() for each in (folder / "secrets").iterdir()}
        values = {f"test/{name}": value for name, value in files.items() if not name.startswith("smtp-")}
        values |= {f"test/{name}": "x" * 40 for name in ("restic-password", "admin-password")}
        smtp = {"username": files["smtp-username"], "password": files["smtp-password"]}
        self.aws = fakes.FakeAws(values | {"test/smtp-credentials": json.dumps(smtp)})
        self.progress: list[str] = []
        self.world: Any = SimpleNamespace(
            aws=self.aws, clock=SimpleNamespace(**_clock()), containers=Containers(), files=Files(), https=Direct(stack),
            processes=Processes(), tell=self.progress.append,
        )  # fmt: skip

    def apply(self, wanted: Mapping[str, Any], title: str = "Gitea under test") -> Report:
        site = fakes.site_with_settings(wanted, title=title, upload_limit_mib=UPLOAD_LIMIT_MIB)
        # One look instead of a minute's.
        site = replace(site, update=replace(site.update, watch_seconds=0, healthy_minutes=2))
        return change_settings.apply(site, self.world, paths=self.paths, compose=self.compose)

    def ini(self) -> dict[tuple[str, str], str]:
        return app_ini.parse((self.paths.live / INI).read_text())

    def started(self, service: str) -> str:
        return str(self.stack.inspect(service)["State"]["StartedAt"])


def _clock() -> dict[str, Callable[..., Any]]:
    from ops.world.clock import Clock

    clock = Clock()
    return {"now": clock.now, "monotonic": clock.monotonic, "sleep": clock.sleep}


@pytest.fixture(scope="module")
def site(images: Mapping[str, str], run_id: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Gitea and PostgreSQL of the stack, from a folder as the host's."""
    stack = lay_out(run_id, "settings", tmp_path_factory.mktemp("settings"), images)
    compose = stack.folder / "compose"
    shutil.copytree(COMPOSE, compose)
    for name in ("override.yaml", settings_file.FILE):
        shutil.move(stack.folder / name, compose / name)
        (stack.folder / name).symlink_to(compose / name)
    text = (stack.folder / ".env").read_text()
    # A pin as on the host: the tag tells the version, and the local image has another name.
    tag = pins.pinned(COMPOSE)["GITEA_IMAGE"]
    local = images["GITEA_IMAGE"]
    run("docker", "tag", local, f"{stack.project}/{tag}")
    text = text.replace(f"GITEA_IMAGE={local}", f"GITEA_IMAGE='{stack.project}/{tag}'")
    files = ":".join(str(compose / name) for name in ("compose.yaml", "override.yaml", settings_file.FILE))
    (compose / ".env").write_text(f"COMPOSE_FILE={files}\nCOMPOSE_PROJECT_NAME={stack.project}\n{text}")
    (stack.folder / ".env").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        fakes.own_secrets(patch)
        patch.setattr(health, "EXPECTED_SERVICES", frozenset({"gitea", "postgres"}))
        for module in (accounts, health):
            patch.setattr(module, "PROJECT", stack.project)
        # The containers' users read the files, as any user runs the tests.
        readable = {name: replace(each, mode=0o444) for name, each in store.PERMISSIONS.items()}
        patch.setattr(store, "PERMISSIONS", readable)
        try:
            run("docker", "compose", "up", "--detach", "--wait", "gitea", cwd=compose)
            yield Site(stack)
        finally:
            stack.remove()
            run("docker", "rmi", "--no-prune", f"{stack.project}/{tag}", check=False)


def test_every_kind_of_value_reaches_app_ini_and_leaves_it_again(site: Site) -> None:
    database = site.started("postgres")
    done = site.apply({"ui.odd-1_x": ODD, **SIGNED_IN})
    assert (done.changed, len(done.facts["settings"])) == (True, len(ODD) + 1)
    found = site.ini()
    texts = {"NUMBER": "7", "TRUTH": "false", "LIST": "one,two"}
    assert {key: found["ui.odd-1_x", key] for key in ODD} == {**ODD, **texts}
    assert found["service", "REQUIRE_SIGNIN_VIEW"] == "true"
    # Defaults of compose.yaml.
    assert (found["service", "DISABLE_REGISTRATION"], found["server", "PROTOCOL"]) == ("true", "http")
    given_values = {
        decoded(name): value for name, value in gitea_settings.environment(site.world, site.stack.project).items()
    }
    assert app_ini.kept(given_values["ui.odd-1_x", "LINES", False]) == ODD["LINES"]
    assert site.apply({"ui.odd-1_x": ODD, **SIGNED_IN}).changed is False
    site.apply({"ui.odd-1_x": {"NUMBER": 8}, "service": {"DISABLE_REGISTRATION": False}}, title="An 'other' title")
    left = site.ini()
    assert {each: value for each, value in left.items() if each[0] == "ui.odd-1_x"} == {("ui.odd-1_x", "NUMBER"): "8"}
    assert ("service", "REQUIRE_SIGNIN_VIEW") not in left
    assert (left["service", "DISABLE_REGISTRATION"], left["DEFAULT", "APP_NAME"]) == ("false", "An 'other' title")
    site.apply({})
    # compose.yaml's own value is back.
    assert site.ini()["service", "DISABLE_REGISTRATION"] == "true"
    assert site.started("postgres") == database
    kept = (site.paths.live / INI).stat()
    assert (kept.st_mode & 0o777, kept.st_uid) == (0o600, 1000)


def test_a_setting_with_which_gitea_does_not_start_is_taken_back(site: Site) -> None:
    site.apply(SIGNED_IN)
    with pytest.raises(RolledBack) as failed:
        site.apply({**SIGNED_IN, **NO_CACHE})
    assert "([cache] ADAPTER, [cache] HOST)" in failed.value.message
    assert "cache.Init failed" in failed.value.message
    assert failed.value.left_as == "Gitea runs with the settings of before"
    found = site.ini()
    assert found["service", "REQUIRE_SIGNIN_VIEW"] == "true"
    assert not [each for each in found if each[0] == "cache"]
    assert site.world.https.request("git.example.org", "", "GET", "/api/healthz").status == 200
    assert site.apply(SIGNED_IN).changed is False


def test_a_secret_is_in_app_ini_and_nowhere_else(site: Site) -> None:
    with pytest.raises(Refused, match="setting-imap"):
        site.apply(IMAP)
    site.aws.secrets["test/setting-imap"] = "'pass $word'"
    done = site.apply(IMAP)
    assert site.ini()["email.incoming", "PASSWORD"] == "'pass $word'"
    environment = json.dumps(site.stack.inspect("gitea")["Config"])
    assert "pass $word" not in f"{done}{site.progress}{environment}"
    assert "pass $word" not in (site.compose / settings_file.FILE).read_text()
    assert [probe.name for probe in _probes(site, IMAP) if not probe.healthy] == []


def test_an_edited_app_ini_is_noticed_and_made_right(site: Site) -> None:
    site.apply(SIGNED_IN)
    assert all(probe.healthy for probe in _probes(site, SIGNED_IN))
    file = site.paths.live / INI
    file.write_text(file.read_text().replace("REQUIRE_SIGNIN_VIEW = true", "REQUIRE_SIGNIN_VIEW = false"))
    (red,) = [probe for probe in _probes(site, SIGNED_IN) if not probe.healthy]
    assert (red.name, "[service] REQUIRE_SIGNIN_VIEW" in red.seen) == ("settings of Gitea", True)
    assert site.apply(SIGNED_IN).changed
    assert all(probe.healthy for probe in _probes(site, SIGNED_IN))


def test_an_owned_setting_reaches_no_host(site: Site) -> None:
    before = (site.compose / settings_file.FILE).read_text()
    with pytest.raises(ConfigError, match="the suite owns this setting"):
        site.apply({"server": {"ROOT_URL": "https://elsewhere.example.org/"}})
    assert (site.compose / settings_file.FILE).read_text() == before


def _probes(site: Site, wanted: Mapping[str, Any]) -> list[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(health, "DATA", site.paths.live)
        patch.setattr(health, "SECRETS", site.paths.secrets)
        one = fakes.site_with_settings(wanted, title="Gitea under test", upload_limit_mib=UPLOAD_LIMIT_MIB)
        return health._settings(one, site.world)
