"""Gitea's operational contract: what the rest of the suite relies on. It holds for the real image as for the stand-in.

Only `TestBrokenReleases` is about the stand-in alone: those tags exist nowhere else.
"""

from __future__ import annotations

import base64
import gzip
import http.client
import re
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from socket import create_connection

import pytest
import requests

from tests.support.gitea_contract import (
    ADMIN,
    METRICS_TOKEN,
    PASSWORD,
    Bench,
    Fleet,
    Gitea,
    Postgres,
    Worktree,
    eventually,
)

NEW, OLD = "28.1.0", "1.22.6"


@pytest.fixture(scope="module")
def postgres(bench: Bench, postgres_image: str) -> Postgres:
    """One PostgreSQL for all tests of this module."""
    return Postgres.on(bench, postgres_image)


@pytest.fixture(scope="module")
def fleet(bench: Bench, postgres: Postgres, gitea_image: Callable[[str], str]) -> Fleet:
    """Gitea at any release."""
    return Fleet(bench, postgres, gitea_image)


@pytest.fixture(scope="module")
def gitea(fleet: Fleet) -> Gitea:
    """The current release with an administrator; tests keep to repositories of their own."""
    metrics = {"GITEA__metrics__ENABLED": "true", "GITEA__metrics__TOKEN": METRICS_TOKEN}
    gitea = fleet.healthy(NEW, environment=metrics)
    gitea.create_admin()
    return gitea


@pytest.fixture
def worktree(tmp_path: Path) -> Worktree:
    """An empty repository on this machine."""
    return Worktree.at(tmp_path / "work").begin()


@dataclass(frozen=True)
class Updated:
    """An instance that was filled at the old release and then started at the new one."""

    gitea: Gitea
    volume: str
    old_version: int
    head: str
    log: str


@pytest.fixture(scope="module")
def updated(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Updated:
    """A user, a private repository with a commit, an issue: made at 1.22.6, carried over to the current release."""
    volume = fleet.bench.volume()
    old = fleet.healthy(OLD, volume=volume)
    old.create_admin()
    old.create_user("reader")
    repository = old.create_repository("kept", private=True)
    assert old.api("POST", f"/repos/{repository}/issues", {"title": "Kept", "body": "word for word"}).status_code == 201
    work = Worktree.at(tmp_path_factory.mktemp("updated") / "work").begin()
    head = work.commit("a", b"a")
    work.git("push", "-q", old.git_url(repository), "main")
    old_version = fleet.postgres.version(old.database)
    old.container.stop(timeout=30)
    new = fleet.healthy(NEW, database=old.database, volume=volume)
    return Updated(new, volume, old_version, head, new.logs())


class TestHealth:
    """What monitors and health checks ask."""

    def test_health_passes_and_names_the_database(self, gitea: Gitea) -> None:
        answer = gitea.get("/api/healthz")
        assert answer.status_code == 200
        assert answer.json()["status"] == "pass"
        assert [check["status"] for check in answer.json()["checks"]["database:ping"]] == ["pass"]

    def test_version_is_told_to_strangers_by_api_and_command_line(self, gitea: Gitea) -> None:
        assert gitea.get("/api/v1/version").json() == {"version": NEW}
        code, output = gitea.run("--version")
        assert code == 0
        assert output.lower().startswith(f"gitea version {NEW}")

    def test_metrics_open_to_the_token_alone(self, gitea: Gitea) -> None:
        assert gitea.get("/metrics").status_code == 401
        assert gitea.get("/metrics", headers={"Authorization": "Bearer wrong"}).status_code == 401
        answer = gitea.get("/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"})
        assert answer.status_code == 200
        assert re.search(r"^gitea_users \d+$", answer.text, re.MULTILINE)
        assert re.search(r'^gitea_build_info\{.*version="28\.1\.0".*\} 1$', answer.text, re.MULTILINE)

    def test_metrics_are_not_there_unless_enabled(self, updated: Updated) -> None:
        assert updated.gitea.get("/metrics").status_code == 404

    def test_without_install_lock_it_is_healthy_and_shows_the_install_page(self, fleet: Fleet) -> None:
        fresh = fleet.healthy(NEW, environment={"GITEA__security__INSTALL_LOCK": "false"})
        assert "nstallation" in fresh.get("/").text
        assert fresh.get("/api/v1/version").status_code == 404
        fresh.remove()

    def test_database_that_goes_away_turns_health_red_until_it_is_back(self, gitea: Gitea, postgres: Postgres) -> None:
        postgres.container.stop(timeout=10)
        try:
            answer = gitea.get("/api/healthz")
        finally:
            postgres.container.start()
        assert answer.status_code == 424
        assert answer.json()["status"] == "fail"
        eventually(lambda: gitea.health() == 200, 30)
        assert gitea.api("GET", "/user").status_code == 200


class TestAccounts:
    """Making accounts and proving who one is."""

    def test_commands_refuse_to_run_as_root(self, gitea: Gitea) -> None:
        code, output = gitea.run("admin", "user", "list", user="root")
        assert code == 1
        assert "Gitea is not supposed to be run as root" in output

    def test_admin_user_create_says_so_and_lists_the_account(self, gitea: Gitea) -> None:
        code, output = gitea.run(
            "admin",
            "user",
            "create",
            "--username",
            "second",
            "--random-password",
            "--email",
            "second@gitea.test",
            "--admin",
            "--must-change-password=false",
            "--access-token",
            "--access-token-name",
            "first",
            "--access-token-scopes",
            "all",
        )
        assert code == 0
        assert "New user 'second' has been successfully created!" in output
        password = re.search(r"generated random password is '([^']+)'", output)
        token = re.search(r"Access token was successfully created\.\.\. ([0-9a-f]{40})", output)
        assert password
        assert token
        assert gitea.api("GET", "/user", auth=("second", password[1])).json()["is_admin"] is True
        assert gitea.api("GET", "/user", headers={"Authorization": f"token {token[1]}"}).json()["login"] == "second"
        listed = [line.split() for line in gitea.run("admin", "user", "list")[1].splitlines()]
        assert ["ID", "Username", "Email", "IsActive", "IsAdmin", "2FA"] in listed
        assert ["second", "second@gitea.test", "true", "true", "false"] in [words[1:] for words in listed]

    def test_account_that_exists_is_not_created_again(self, gitea: Gitea) -> None:
        code, output = gitea.run(
            "admin", "user", "create", "--username", ADMIN, "--password", PASSWORD, "--email", "other@gitea.test"
        )
        assert code == 1
        assert f"user already exists [name: {ADMIN}]" in output

    def test_wrong_password_and_no_password_are_refused(self, gitea: Gitea) -> None:
        assert gitea.api("GET", "/user").json()["login"] == ADMIN
        assert gitea.api("GET", "/user", auth=(ADMIN, "wrong")).status_code == 401
        assert gitea.get("/api/v1/user").status_code == 401

    def test_token_opens_the_api_until_it_is_deleted(self, gitea: Gitea) -> None:
        made = gitea.api("POST", f"/users/{ADMIN}/tokens", {"name": "robot", "scopes": ["read:user"]})
        assert made.status_code == 201
        headers = {"Authorization": f"Bearer {made.json()['sha1']}"}
        assert gitea.api("GET", "/user", headers=headers).json()["login"] == ADMIN
        assert gitea.api("POST", "/user/repos", {"name": "beyond"}, headers=headers).status_code == 403
        assert gitea.api("DELETE", f"/users/{ADMIN}/tokens/robot").status_code == 204
        assert gitea.api("GET", "/user", headers=headers).status_code == 401

    def test_admin_api_makes_and_changes_accounts(self, gitea: Gitea) -> None:
        gitea.create_user("worker")
        assert gitea.api("GET", "/admin/users", auth=("worker", PASSWORD)).status_code == 403
        change = {"login_name": "worker", "source_id": 0, "password": "Another-Horse-8", "must_change_password": False}
        assert gitea.api("PATCH", "/admin/users/worker", change).status_code == 200
        assert gitea.api("GET", "/user", auth=("worker", PASSWORD)).status_code == 401
        assert gitea.api("GET", "/user", auth=("worker", "Another-Horse-8")).status_code == 200
        assert "worker" in [user["login"] for user in gitea.api("GET", "/admin/users").json()]

    def test_browser_signs_in_with_the_form(self, gitea: Gitea) -> None:
        with requests.Session() as browser:
            form = browser.get(f"{gitea.url}/user/login", timeout=20).text
            assert 'name="user_name"' in form
            wrong = _sign_in(browser, gitea, form, "wrong")
            assert wrong.status_code == 200
            right = _sign_in(browser, gitea, form, PASSWORD)
            assert right.status_code == 303
            assert browser.cookies.get("i_like_gitea")
            assert ADMIN in browser.get(f"{gitea.url}/", timeout=20).text

    def test_event_stream_turns_strangers_away(self, gitea: Gitea) -> None:
        answer = gitea.get("/user/events")
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert answer.text == "event: close\ndata: unauthorized\n\n"


def _sign_in(browser: requests.Session, gitea: Gitea, form: str, password: str) -> requests.Response:
    fields = {"user_name": ADMIN, "password": password}
    # Releases before 1.26 want the form's own token back.
    if token := re.search(r'name="_csrf" value="([^"]+)"', form):
        fields["_csrf"] = token[1]
    return browser.post(f"{gitea.url}/user/login", data=fields, timeout=20, allow_redirects=False)


class TestConnections:
    """HTTP as proxies and git rely on it."""

    def test_connection_stays_open_after_answers_of_every_kind(self, gitea: Gitea) -> None:
        connection = http.client.HTTPConnection(gitea.address, 3000, timeout=20)
        connection.connect()
        socket = connection.sock
        # The refused request has a body that Gitea does not need.
        for method, path, body, status in (
            ("GET", "/api/v1/version", None, 200),
            ("HEAD", "/user/login", None, 200),
            ("POST", "/api/v1/user/repos", b'{"name": "unwanted"}', 401),
            ("GET", "/user/events", None, 200),
            ("POST", "/api/v1/user/repos", iter([b'{"name": ', b'"unwanted"}']), 401),
            ("GET", "/api/v1/version", None, 200),
        ):
            connection.request(method, path, body)
            answer = connection.getresponse()
            assert (answer.status, bool(answer.read()), connection.sock is socket) == (status, method != "HEAD", True)
        connection.close()

    def test_client_that_waits_for_permission_to_send_its_body_gets_it_once(self, gitea: Gitea) -> None:
        credentials = base64.b64encode(f"{ADMIN}:{PASSWORD}".encode()).decode()
        body = b'{"name": "expected"}'
        head = (
            f"POST /api/v1/user/repos HTTP/1.1\r\nHost: gitea\r\nAuthorization: Basic {credentials}\r\nExpect: 100-continue\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        with create_connection((gitea.address, 3000), timeout=20) as connection, connection.makefile("rb") as answer:
            connection.sendall(head.encode())
            assert answer.readline() == b"HTTP/1.1 100 Continue\r\n"
            assert answer.readline() == b"\r\n"
            connection.sendall(body)
            assert answer.readline().startswith(b"HTTP/1.1 201 ")


class TestRepositories:
    """Repositories through the API, git over HTTP and over ssh."""

    def test_repository_is_made_found_and_deleted(self, gitea: Gitea) -> None:
        made = gitea.api("POST", "/user/repos", {"name": "Passing", "description": "for now", "auto_init": True})
        assert made.status_code == 201
        assert (made.json()["full_name"], made.json()["default_branch"]) == (f"{ADMIN}/Passing", "main")
        assert gitea.api("POST", "/user/repos", {"name": "passing"}).status_code == 409
        assert gitea.api("POST", "/user/repos", {"name": "no such/name"}).status_code == 422
        found = gitea.api("GET", "/repos/search?q=passing").json()
        assert found["ok"] is True
        assert [each["name"] for each in found["data"]] == ["Passing"]
        branches = gitea.api("GET", f"/repos/{ADMIN}/Passing/branches").json()
        assert [branch["name"] for branch in branches] == ["main"]
        assert gitea.get(f"/{ADMIN}/Passing").status_code == 200
        assert gitea.api("DELETE", f"/repos/{ADMIN}/Passing").status_code == 204
        assert gitea.api("GET", f"/repos/{ADMIN}/Passing").status_code == 404

    def test_private_repository_does_not_exist_for_strangers(self, gitea: Gitea, worktree: Worktree) -> None:
        name = gitea.create_repository("hidden", private=True, auto_init=True)
        gitea.create_user("stranger")
        stranger = ("stranger", PASSWORD)
        assert gitea.get(f"/api/v1/repos/{name}").status_code == 404
        assert gitea.api("GET", f"/repos/{name}", auth=stranger).status_code == 404
        assert gitea.get(f"/{name}").status_code == 404
        assert worktree.attempt("ls-remote", gitea.git_url(name, "stranger")).returncode == 128
        assert gitea.api("GET", "/repos/search?q=hidden", auth=stranger).json()["data"] == []

    def test_issues_are_numbered_and_listed(self, gitea: Gitea) -> None:
        name = gitea.create_repository("discussed")
        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(lambda n: gitea.api("POST", f"/repos/{name}/issues", {"title": f"T{n}"}), range(4)))
        assert sorted(each.json()["number"] for each in made) == [1, 2, 3, 4]
        assert len(gitea.api("GET", f"/repos/{name}/issues").json()) == 4

    def test_push_and_clone_over_http_keep_every_commit(self, gitea: Gitea, worktree: Worktree) -> None:
        name = gitea.create_repository("small", private=True)
        head = worktree.commit("a", b"a")
        worktree.git("push", "-q", gitea.git_url(name), "main")
        assert worktree.clone_of(gitea.git_url(name), "clone") == head
        assert gitea.api("GET", f"/repos/{name}/branches").json()[0]["commit"]["id"] == head
        assert gitea.api("GET", f"/repos/{name}").json()["empty"] is False

    def test_push_with_a_wrong_password_or_without_the_right_is_refused(self, gitea: Gitea, worktree: Worktree) -> None:
        name = gitea.create_repository("guarded", auto_init=True)
        gitea.create_user("visitor")
        worktree.git("pull", "-q", gitea.git_url(name), "main")
        before = worktree.git("rev-parse", "HEAD")
        worktree.commit("b", b"b")
        wrong = worktree.attempt("push", "-q", gitea.git_url(name, password="wrong"), "main")
        assert wrong.returncode != 0
        assert "Authentication failed" in wrong.stderr
        assert worktree.attempt("push", "-q", gitea.git_url(name, "visitor"), "main").returncode != 0
        assert worktree.git("ls-remote", gitea.git_url(name), "main").split()[0] == before

    def test_more_than_fifty_megabytes_go_over_http_and_come_back(self, gitea: Gitea, worktree: Worktree) -> None:
        name = gitea.create_repository("large")
        with Path("/dev/urandom").open("rb") as noise:
            head = worktree.commit("noise", noise.read(52 * 1024 * 1024))
        worktree.git("push", "-q", gitea.git_url(name), "main")
        assert worktree.clone_of(gitea.git_url(name), "clone") == head
        clone = worktree.folder.parent / "clone"
        assert (clone / "noise").read_bytes() == (worktree.folder / "noise").read_bytes()

    def test_pushes_at_the_same_time_all_arrive(self, gitea: Gitea, worktree: Worktree) -> None:
        name = gitea.create_repository("busy")
        branches = [f"branch-{number}" for number in range(6)]
        worktree.commit("a", b"a")
        for branch in branches:
            worktree.git("branch", branch)
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda branch: worktree.git("push", "-q", gitea.git_url(name), branch), branches))
        listed = gitea.api("GET", f"/repos/{name}/branches").json()
        assert {branch["name"] for branch in listed} == set(branches)

    def test_push_that_breaks_off_changes_nothing_and_leaves_no_git_behind(self, gitea: Gitea) -> None:
        name = gitea.create_repository("broken-off", auto_init=True)
        before = gitea.api("GET", f"/repos/{name}/branches/main").json()["commit"]["id"]
        credentials = base64.b64encode(f"{ADMIN}:{PASSWORD}".encode()).decode()
        command = f"{before} {'1' * 40} refs/heads/main\0 report-status".encode()
        connection = http.client.HTTPConnection(gitea.address, 3000, timeout=10)
        connection.putrequest("POST", f"/{name}.git/git-receive-pack")
        connection.putheader("Authorization", f"Basic {credentials}")
        connection.putheader("Content-Type", "application/x-git-receive-pack-request")
        connection.putheader("Content-Length", "1000000")
        connection.endheaders(b"%04x%b0000PACK" % (len(command) + 4, command))
        eventually(lambda: "receive-pack" in gitea.processes(), 10)
        connection.close()
        eventually(lambda: "receive-pack" not in gitea.processes(), 10)
        assert gitea.api("GET", f"/repos/{name}/branches/main").json()["commit"]["id"] == before

    def test_fetch_with_a_compressed_request_is_understood(self, gitea: Gitea) -> None:
        name = gitea.create_repository("compressed", auto_init=True)
        head = gitea.api("GET", f"/repos/{name}/branches/main").json()["commit"]["id"]
        answer = requests.post(
            f"{gitea.url}/{name}.git/git-upload-pack",
            data=gzip.compress(_want(head)),
            timeout=20,
            headers={"Content-Type": "application/x-git-upload-pack-request", "Content-Encoding": "gzip"},
        )
        assert answer.status_code == 200
        assert answer.content.startswith(b"0008NAK\nPACK")

    def test_key_added_by_the_api_pushes_and_clones_over_ssh(self, gitea: Gitea, worktree: Worktree) -> None:
        name = gitea.create_repository("by-ssh", private=True)
        head = worktree.commit("a", b"a")
        assert worktree.attempt("push", gitea.ssh_url(name), "main").returncode == 128
        added = gitea.api("POST", "/user/keys", {"title": "laptop", "key": worktree.public_key})
        assert added.status_code == 201
        assert gitea.api("POST", "/user/keys", {"title": "again", "key": worktree.public_key}).status_code == 422
        worktree.git("push", "-q", gitea.ssh_url(name), "main")
        assert worktree.clone_of(gitea.ssh_url(name), "clone") == head
        assert gitea.api("DELETE", f"/user/keys/{added.json()['id']}").status_code == 204
        assert worktree.attempt("ls-remote", gitea.ssh_url(name)).returncode == 128

    def test_lost_hooks_come_back_by_command(self, gitea: Gitea) -> None:
        name = gitea.create_repository("hooked")
        hook = f"/data/git/repositories/{name}.git/hooks/pre-receive"
        assert gitea.container.exec_run(["rm", hook], user="git").exit_code == 0
        assert gitea.run("admin", "regenerate", "hooks")[0] == 0
        assert gitea.container.exec_run(["test", "-x", hook]).exit_code == 0

    def test_regenerated_keys_are_those_of_the_database(self, gitea: Gitea) -> None:
        file = "/data/git/.ssh/authorized_keys"
        stale = '# gitea public key\ncommand="/usr/local/bin/gitea serv key-999",restrict ssh-ed25519 AAAA user-9\n'
        assert gitea.container.exec_run(["sh", "-c", f"printf %s '{stale}' >>{file}"], user="git").exit_code == 0
        assert gitea.run("admin", "regenerate", "keys")[0] == 0
        assert gitea.container.exec_run(["grep", "-q", "key-999", file]).exit_code == 1

    def test_doctor_finds_nothing_wrong_and_runners_get_a_token(self, gitea: Gitea) -> None:
        code, output = gitea.run("doctor", "check")
        assert code == 0
        assert "ERROR" not in output
        code, token = gitea.run("actions", "generate-runner-token")
        assert code == 0
        assert re.fullmatch(r"[A-Za-z0-9]{40}", token.strip())


class TestReleases:
    """Going from one release to the next, and back."""

    def test_update_migrates_the_database_and_says_so(self, updated: Updated, postgres: Postgres) -> None:
        assert updated.old_version == 299
        assert postgres.version(updated.gitea.database) > updated.old_version
        assert f"Migration[{updated.old_version}]:" in updated.log

    def test_update_keeps_accounts_repositories_and_issues(self, updated: Updated, worktree: Worktree) -> None:
        gitea, name = updated.gitea, f"{ADMIN}/kept"
        assert {user["login"] for user in gitea.api("GET", "/admin/users").json()} == {ADMIN, "reader"}
        assert gitea.api("GET", "/user", auth=("reader", PASSWORD)).status_code == 200
        assert gitea.api("GET", f"/repos/{name}").json()["private"] is True
        issue = gitea.api("GET", f"/repos/{name}/issues/1").json()
        assert (issue["title"], issue["body"]) == ("Kept", "word for word")
        assert worktree.clone_of(gitea.git_url(name), "clone") == updated.head

    def test_older_release_refuses_the_newer_database_and_leaves_it_alone(
        self, updated: Updated, fleet: Fleet, postgres: Postgres
    ) -> None:
        copy = _copy_of(postgres, updated.gitea)
        before = postgres.version(copy)
        old = fleet.start(OLD, database=copy)
        eventually(lambda: old.status() == "exited")
        assert (
            f"Your database (migration version: {before}) is for a newer Gitea, you can not use the newer database "
            f"for this old Gitea release ({updated.old_version})"
        ) in old.logs()
        assert "Gitea will exit to keep your database safe and unchanged" in old.logs()
        assert postgres.version(copy) == before

    def test_migrate_command_of_an_older_release_ends_with_1(self, updated: Updated, fleet: Fleet) -> None:
        # The container does not run Gitea here: app.ini is there since the update.
        idle = fleet.start(OLD, database=updated.gitea.database, volume=updated.volume, command=["sleep", "60"])
        code, output = idle.run("migrate")
        idle.remove()
        assert code == 1
        assert "is for a newer Gitea" in output

    def test_start_waits_for_a_database_that_comes_late(self, fleet: Fleet, postgres: Postgres) -> None:
        late = fleet.start(NEW, database="late", environment={"GITEA__database__DB_RETRY_BACKOFF": "1s"})
        eventually(lambda: "attempt #1/10 failed" in late.logs())
        postgres.sql("postgres", "CREATE DATABASE late")
        eventually(lambda: late.health() == 200)
        late.remove()

    def test_restart_keeps_host_keys_and_data(self, updated: Updated) -> None:
        gitea = updated.gitea
        before = gitea.container.exec_run(["cat", "/data/ssh/ssh_host_ed25519_key.pub"]).output
        gitea.container.restart(timeout=30)
        eventually(lambda: gitea.health() == 200)
        assert gitea.container.exec_run(["cat", "/data/ssh/ssh_host_ed25519_key.pub"]).output == before
        assert gitea.api("GET", f"/repos/{ADMIN}/kept").status_code == 200

    def test_stop_lets_a_running_download_finish(self, fleet: Fleet, worktree: Worktree) -> None:
        gitea = fleet.healthy(NEW)
        gitea.create_admin()
        name = gitea.create_repository("slow")
        with Path("/dev/urandom").open("rb") as noise:
            head = worktree.commit("noise", noise.read(16 * 1024 * 1024))
        worktree.git("push", "-q", gitea.git_url(name), "main")
        connection = http.client.HTTPConnection(gitea.address, 3000, timeout=30)
        connection.request(
            "POST",
            f"/{name}.git/git-upload-pack",
            _want(head),
            {"Content-Type": "application/x-git-upload-pack-request"},
        )
        response = connection.getresponse()
        begun = response.read(1024)
        stopper = threading.Thread(target=gitea.container.stop, kwargs={"timeout": 30})
        stopper.start()
        time.sleep(1)
        assert gitea.status() == "running"
        pack = (begun + response.read()).removeprefix(b"0008NAK\n")
        connection.close()
        ended = time.monotonic()
        stopper.join()
        assert time.monotonic() - ended < 10
        index = subprocess.run(
            ["git", "index-pack", "--stdin"], input=pack, capture_output=True, check=False, cwd=worktree.folder
        )
        assert index.returncode == 0, index.stderr
        gitea.container.reload()
        assert gitea.container.attrs["State"]["ExitCode"] == 0


def _want(commit: str) -> bytes:
    return f"0032want {commit}\n00000009done\n".encode()


def _copy_of(postgres: Postgres, gitea: Gitea) -> str:
    # PostgreSQL copies a database only while nobody is connected to it.
    postgres.sql(
        "postgres", f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{gitea.database}'"
    )
    return postgres.create(gitea.database)


class TestBrokenReleases:
    """The stand-in's tags for releases that are bad, each in one way; no such tags exist of the real image."""

    def test_crash_ends_at_once_and_touches_nothing(self, updated: Updated, fleet: Fleet, postgres: Postgres) -> None:
        copy = _copy_of(postgres, updated.gitea)
        before = postgres.version(copy)
        crash = fleet.start("28.1.1-crash", database=copy)
        eventually(lambda: crash.status() == "exited", 20)
        assert "[F] PANIC" in crash.logs()
        assert postgres.version(copy) == before

    def test_hang_never_listens_and_has_to_be_killed(self, updated: Updated, fleet: Fleet, postgres: Postgres) -> None:
        hang = fleet.start("28.1.1-hang", database=_copy_of(postgres, updated.gitea))
        eventually(lambda: "Starting Gitea" in hang.logs(), 20)
        time.sleep(1)
        assert (hang.status(), hang.health()) == ("running", 0)
        hang.container.stop(timeout=2)
        hang.container.reload()
        assert hang.container.attrs["State"]["ExitCode"] == 137

    def test_sour_is_healthy_at_first_and_fails_everything_later(
        self, updated: Updated, fleet: Fleet, postgres: Postgres
    ) -> None:
        copy = _copy_of(postgres, updated.gitea)
        sour = fleet.healthy("28.1.1-sour", database=copy, environment={"GITEA_STANDIN_GOOD_FOR": "2"})
        assert sour.api("GET", "/user").status_code == 200
        eventually(lambda: sour.health() == 500, 10)
        assert sour.api("GET", "/user").status_code == 500
        assert sour.status() == "running"

    def test_flap_is_well_and_is_not_by_turns(self, updated: Updated, fleet: Fleet, postgres: Postgres) -> None:
        flap = fleet.healthy("28.1.1-flap", database=_copy_of(postgres, updated.gitea))
        eventually(lambda: flap.health() == 500, 10)
        assert flap.api("GET", "/user").status_code == 500
        eventually(lambda: flap.health() == 200, 10)
        assert flap.api("GET", "/user").status_code == 200
        assert flap.status() == "running"

    def test_dies_is_healthy_and_ends_later(self, updated: Updated, fleet: Fleet, postgres: Postgres) -> None:
        copy = _copy_of(postgres, updated.gitea)
        dying = fleet.healthy("28.1.1-dies", database=copy, environment={"GITEA_STANDIN_GOOD_FOR": "4"})
        assert dying.api("GET", "/user").status_code == 200
        eventually(lambda: dying.status() == "exited", 20)
        assert "[F] PANIC" in dying.logs()

    def test_midmigration_dies_and_leaves_the_database_of_use_to_nobody(
        self, updated: Updated, fleet: Fleet, postgres: Postgres
    ) -> None:
        copy = _copy_of(postgres, updated.gitea)
        before = postgres.version(copy)
        dying = fleet.start("28.1.1-midmigration", database=copy)
        eventually(lambda: dying.status() == "exited", 20)
        assert "[F] migration[339]" in dying.logs()
        assert before < postgres.version(copy) < 340
        columns = postgres.sql(copy, "SELECT column_name FROM information_schema.columns WHERE table_name = 'issue'")
        assert "body" in columns.split()
        assert "body_format" not in columns.split()
        again = fleet.start("28.1.1-midmigration", database=copy)
        eventually(lambda: again.status() == "exited" or "failed" in again.logs(), 20)
        assert again.health() == 0

    def test_broken_migrates_passes_its_health_check_and_answers_nothing_else(
        self, updated: Updated, fleet: Fleet, postgres: Postgres
    ) -> None:
        copy = _copy_of(postgres, updated.gitea)
        broken = fleet.healthy("28.1.1-broken", database=copy)
        assert postgres.version(copy) == 340
        assert [broken.get(path).status_code for path in ("/", "/api/v1/version", "/user/login")] == [500, 500, 500]
        assert broken.health() == 200
