"""Gitea's operational contract, on which the suite relies. It applies to the real image and to the stand-in.

What differs by version is tested by version.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
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
from urllib.parse import urlsplit

import pytest
import requests

from ops.config.compose_files import doctor_command
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
    executed,
)

NEW, OLD = "28.1.0", "1.22.6"
# The last one with server-sent events.
WITH_EVENTS = "1.27.3"


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
    """The current release with an administrator; each test uses its own repositories."""
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
    """An instance with content from the old release, started at the new release."""

    gitea: Gitea
    volume: str
    old_version: int
    head: str
    log: str


@pytest.fixture(scope="module")
def updated(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Updated:
    """A user, a private repository with a commit and an issue, made at 1.22.6 and updated to the current release."""
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


def sshd_settings(gitea: Gitea) -> dict[str, str]:
    """The settings of sshd as it reads them itself."""
    code, output = executed(gitea.container, ["/usr/sbin/sshd", "-T"])
    assert code == 0, output
    return {name: value for name, _, value in (line.partition(" ") for line in output.splitlines())}


class TestHealth:
    """Requests of monitoring and health checks."""

    def test_health_passes_and_names_the_database(self, gitea: Gitea) -> None:
        answer = gitea.get("/api/healthz")
        assert answer.status_code == 200
        assert answer.json()["status"] == "pass"
        assert [check["status"] for check in answer.json()["checks"]["database:ping"]] == ["pass"]

    def test_version_is_public_in_the_api_and_on_the_command_line(self, gitea: Gitea) -> None:
        assert gitea.get("/api/v1/version").json() == {"version": NEW}
        code, output = gitea.run("--version")
        assert code == 0
        assert output.lower().startswith(f"gitea version {NEW}")

    def test_metrics_need_the_token_and_count_users_by_state(self, gitea: Gitea) -> None:
        assert gitea.get("/metrics").status_code == 401
        assert gitea.get("/metrics", headers={"Authorization": "Bearer wrong"}).status_code == 401
        answer = gitea.get("/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"})
        assert answer.status_code == 200
        # Without the label before 1.26.
        assert re.search(r'^gitea_users\{state="active"\} \d+$', answer.text, re.MULTILINE)
        assert re.search(r'^gitea_build_info\{.*version="28\.1\.0".*\} 1$', answer.text, re.MULTILINE)

    def test_metrics_are_off_by_default(self, updated: Updated) -> None:
        assert updated.gitea.get("/metrics").status_code == 404

    def test_without_the_install_lock_it_is_healthy_and_shows_the_install_page(self, fleet: Fleet) -> None:
        fresh = fleet.healthy(NEW, environment={"GITEA__security__INSTALL_LOCK": "false"})
        assert "nstallation" in fresh.get("/").text
        assert fresh.get("/api/v1/version").status_code == 404
        fresh.remove()

    def test_health_fails_while_the_database_is_stopped(self, gitea: Gitea, postgres: Postgres) -> None:
        postgres.container.stop(timeout=10)
        try:
            answer = gitea.get("/api/healthz")
            # Not 500: nothing may conclude from a 401 that a password is wrong.
            signed_in = gitea.api("GET", "/user")
            by_token = gitea.api("GET", "/user", headers={"Authorization": f"token {'a' * 40}"})
        finally:
            postgres.container.start()
        assert (signed_in.status_code, by_token.status_code) == (401, 401)
        assert signed_in.json()["message"] == "invalid username, password or token"
        assert answer.status_code == 424
        assert answer.json()["status"] == "fail"
        eventually(lambda: gitea.health() == 200, 30)
        assert gitea.api("GET", "/user").status_code == 200


class TestAccounts:
    """Accounts and authentication."""

    def test_commands_refuse_to_run_as_root(self, gitea: Gitea) -> None:
        code, output = gitea.run("admin", "user", "list", user="root")
        assert code == 1
        assert "Gitea is not supposed to be run as root" in output

    def test_admin_user_create_reports_success_and_lists_the_account(self, gitea: Gitea) -> None:
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

    def test_an_existing_account_is_not_created_again(self, gitea: Gitea) -> None:
        code, output = gitea.run(
            "admin", "user", "create", "--username", ADMIN, "--password", PASSWORD, "--email", "other@gitea.test"
        )
        assert code == 1
        assert f"user already exists [name: {ADMIN}]" in output

    def test_wrong_password_and_no_password_are_refused(self, gitea: Gitea) -> None:
        assert gitea.api("GET", "/user").json()["login"] == ADMIN
        assert gitea.api("GET", "/user", auth=(ADMIN, "wrong")).status_code == 401
        assert gitea.get("/api/v1/user").status_code == 401

    def test_a_token_works_within_its_scope_until_it_is_deleted(self, gitea: Gitea) -> None:
        made = gitea.api("POST", f"/users/{ADMIN}/tokens", {"name": "robot", "scopes": ["read:user"]})
        assert made.status_code == 201
        headers = {"Authorization": f"Bearer {made.json()['sha1']}"}
        assert gitea.api("GET", "/user", headers=headers).json()["login"] == ADMIN
        assert gitea.api("POST", "/user/repos", {"name": "beyond"}, headers=headers).status_code == 403
        assert gitea.api("DELETE", f"/users/{ADMIN}/tokens/robot").status_code == 204
        assert gitea.api("GET", "/user", headers=headers).status_code == 401

    def test_the_admin_api_creates_and_changes_accounts(self, gitea: Gitea) -> None:
        gitea.create_user("worker")
        assert gitea.api("GET", "/admin/users", auth=("worker", PASSWORD)).status_code == 403
        change = {"login_name": "worker", "source_id": 0, "password": "Another-Horse-8", "must_change_password": False}
        assert gitea.api("PATCH", "/admin/users/worker", change).status_code == 200
        assert gitea.api("GET", "/user", auth=("worker", PASSWORD)).status_code == 401
        assert gitea.api("GET", "/user", auth=("worker", "Another-Horse-8")).status_code == 200
        assert "worker" in [user["login"] for user in gitea.api("GET", "/admin/users").json()]

    def test_the_login_form_signs_in(self, gitea: Gitea) -> None:
        with requests.Session() as browser:
            form = browser.get(f"{gitea.url}/user/login", timeout=20).text
            assert 'name="user_name"' in form
            wrong = _sign_in(browser, gitea, form, "wrong")
            assert wrong.status_code == 200
            right = _sign_in(browser, gitea, form, PASSWORD)
            assert right.status_code == 303
            assert browser.cookies.get("i_like_gitea")
            assert ADMIN in browser.get(f"{gitea.url}/", timeout=20).text

    def test_every_visitor_of_a_page_gets_a_session(self, gitea: Gitea) -> None:
        # A cache must not keep such an answer.
        answer = gitea.get("/")
        assert answer.cookies.get("i_like_gitea")
        assert answer.headers["Cache-Control"].startswith("max-age=0, private, must-revalidate")

    def test_up_to_1_27_the_event_stream_needs_a_login(self, fleet: Fleet) -> None:
        gitea = fleet.healthy(WITH_EVENTS)
        answer = gitea.get("/user/events")
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert answer.text == "event: close\ndata: unauthorized\n\n"
        assert gitea.get("/-/ws").status_code == 404
        gitea.remove()

    def test_from_28_on_a_websocket_replaces_the_event_stream(self, gitea: Gitea) -> None:
        assert gitea.get("/user/events").status_code == 404
        key = base64.b64encode(bytes(16)).decode()
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        connection = http.client.HTTPConnection(gitea.address, 3000, timeout=10)
        connection.request("GET", "/-/ws", headers={**upgrade, "Sec-WebSocket-Key": key})
        answer = connection.getresponse()
        accepted = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
        assert answer.status == 101
        assert answer.headers["Sec-WebSocket-Accept"] == base64.b64encode(accepted).decode()
        # It stays open.
        assert connection.sock
        connection.sock.settimeout(2)
        with pytest.raises(TimeoutError):
            connection.sock.recv(1)
        connection.close()
        assert gitea.get("/-/ws").status_code == 426


def _sign_in(browser: requests.Session, gitea: Gitea, form: str, password: str) -> requests.Response:
    fields = {"user_name": ADMIN, "password": password}
    # Releases before 1.26 require the token of the form.
    if token := re.search(r'name="_csrf" value="([^"]+)"', form):
        fields["_csrf"] = token[1]
    return browser.post(f"{gitea.url}/user/login", data=fields, timeout=20, allow_redirects=False)


class TestConnections:
    """HTTP features that proxies and git need."""

    def test_a_connection_stays_open_after_every_kind_of_answer(self, gitea: Gitea) -> None:
        name = gitea.create_repository("kept-alive", auto_init=True)
        connection = http.client.HTTPConnection(gitea.address, 3000, timeout=20)
        connection.connect()
        socket = connection.sock
        # Gitea refuses this request before it reads the body.
        for method, path, body, status in (
            ("GET", "/api/v1/version", None, 200),
            ("HEAD", "/user/login", None, 200),
            ("POST", "/api/v1/user/repos", b'{"name": "unwanted"}', 401),
            ("GET", f"/{name}.git/info/refs?service=git-upload-pack", None, 200),
            ("POST", "/api/v1/user/repos", iter([b'{"name": ', b'"unwanted"}']), 401),
            ("GET", "/api/v1/version", None, 200),
        ):
            connection.request(method, path, body)
            answer = connection.getresponse()
            assert (answer.status, bool(answer.read()), connection.sock is socket) == (status, method != "HEAD", True)
        connection.close()

    def test_expect_100_continue_is_answered_once(self, gitea: Gitea) -> None:
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

    def test_a_repository_is_created_found_and_deleted(self, gitea: Gitea) -> None:
        made = gitea.api("POST", "/user/repos", {"name": "Passing", "description": "for now", "auto_init": True})
        assert made.status_code == 201
        assert (made.json()["full_name"], made.json()["default_branch"]) == (f"{ADMIN}/Passing", "main")
        refused = [gitea.api("POST", "/user/repos", {"name": each}) for each in ("passing", "no such/name")]
        assert [each.status_code for each in refused] == [409, 422]
        found = gitea.api("GET", "/repos/search?q=passing").json()
        assert (found["ok"], [each["name"] for each in found["data"]]) == (True, ["Passing"])
        branches = gitea.api("GET", f"/repos/{ADMIN}/Passing/branches").json()
        assert [branch["name"] for branch in branches] == ["main"]
        assert gitea.get(f"/{ADMIN}/Passing").status_code == 200
        assert gitea.api("DELETE", f"/repos/{ADMIN}/Passing").status_code == 204
        assert gitea.api("GET", f"/repos/{ADMIN}/Passing").status_code == 404

    def test_a_private_repository_is_invisible_to_others(self, gitea: Gitea, worktree: Worktree) -> None:
        name = gitea.create_repository("hidden", private=True, auto_init=True)
        gitea.create_user("outsider")
        outsider = ("outsider", PASSWORD)
        assert gitea.get(f"/api/v1/repos/{name}").status_code == 404
        assert gitea.api("GET", f"/repos/{name}", auth=outsider).status_code == 404
        assert gitea.get(f"/{name}").status_code == 404
        assert worktree.attempt("ls-remote", gitea.git_url(name, "outsider")).returncode == 128
        assert gitea.api("GET", "/repos/search?q=hidden", auth=outsider).json()["data"] == []

    def test_issues_are_numbered_and_listed(self, gitea: Gitea) -> None:
        name = gitea.create_repository("discussed")
        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(lambda n: gitea.api("POST", f"/repos/{name}/issues", {"title": f"T{n}"}), range(4)))
        assert sorted(each.json()["number"] for each in made) == [1, 2, 3, 4]
        assert len(gitea.api("GET", f"/repos/{name}/issues").json()) == 4

    def test_push_and_clone_over_http_keep_the_commit(self, gitea: Gitea, worktree: Worktree) -> None:
        name = gitea.create_repository("small", private=True)
        head = worktree.commit("a", b"a")
        worktree.git("push", "-q", gitea.git_url(name), "main")
        assert worktree.clone_of(gitea.git_url(name), "clone") == head
        eventually(lambda: _branches(gitea, name) == {"main": head}, 10)
        assert gitea.api("GET", f"/repos/{name}").json()["empty"] is False

    def test_branches_of_a_new_repository_are_null_until_a_queue_has_run(
        self, gitea: Gitea, worktree: Worktree
    ) -> None:
        name = gitea.create_repository("first-push")
        assert gitea.api("GET", f"/repos/{name}/branches").json() is None
        worktree.commit("a", b"a")
        worktree.git("push", "-q", gitea.git_url(name), "main", "main:side")
        seen: list[set[str] | None] = []

        def listed() -> bool:
            answer = gitea.api("GET", f"/repos/{name}/branches")
            assert answer.status_code == 200
            seen.append(None if answer.json() is None else {each["name"] for each in answer.json()})
            return seen[-1] is not None

        eventually(listed, 10)
        # All of them at once.
        assert seen == [*[None] * (len(seen) - 1), {"main", "side"}]
        # From then on, a branch is there when its push has ended.
        worktree.git("push", "-q", gitea.git_url(name), "main:third")
        worktree.git("push", "-q", gitea.git_url(name), ":side")
        assert set(_branches(gitea, name)) == {"main", "third"}

    def test_only_a_new_branch_ends_that_a_repository_counts_as_empty(
        self, gitea: Gitea, worktree: Worktree, postgres: Postgres
    ) -> None:
        # A restored backup has such a row, if the queue still held the first push.
        name = gitea.create_repository("counts-as-empty")
        worktree.commit("a", b"a")
        worktree.git("push", "-q", gitea.git_url(name), "main")
        eventually(lambda: bool(_branches(gitea, name)), 10)
        empty = "UPDATE repository SET is_empty = true WHERE lower_name = 'counts-as-empty'"
        postgres.sql(gitea.database, empty)
        worktree.commit("b", b"b")
        worktree.git("push", "-q", gitea.git_url(name), "main")
        assert gitea.run("manager", "flush-queues") == (0, "Flushed\n")
        assert gitea.api("GET", f"/repos/{name}/branches").json() is None
        worktree.git("push", "-q", gitea.git_url(name), "main:side")
        eventually(lambda: set(_branches(gitea, name)) == {"main", "side"}, 10)

    def test_a_push_without_valid_credentials_or_permission_is_refused(self, gitea: Gitea, worktree: Worktree) -> None:
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

    def test_more_than_fifty_megabytes_are_pushed_and_cloned_over_http(self, gitea: Gitea, worktree: Worktree) -> None:
        name = gitea.create_repository("large")
        with Path("/dev/urandom").open("rb") as noise:
            head = worktree.commit("noise", noise.read(52 * 1024 * 1024))
        worktree.git("push", "-q", gitea.git_url(name), "main")
        assert worktree.clone_of(gitea.git_url(name), "clone") == head
        clone = worktree.folder.parent / "clone"
        assert (clone / "noise").read_bytes() == (worktree.folder / "noise").read_bytes()

    def test_parallel_pushes_all_arrive(self, gitea: Gitea, worktree: Worktree) -> None:
        name = gitea.create_repository("busy")
        branches = [f"branch-{number}" for number in range(6)]
        worktree.commit("a", b"a")
        for branch in branches:
            worktree.git("branch", branch)
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda branch: worktree.git("push", "-q", gitea.git_url(name), branch), branches))
        eventually(lambda: set(_branches(gitea, name)) == set(branches), 10)

    def test_an_aborted_push_changes_nothing_and_leaves_no_git_process(self, gitea: Gitea) -> None:
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

    def test_a_compressed_fetch_request_is_accepted(self, gitea: Gitea) -> None:
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

    def test_a_key_added_by_the_api_works_for_push_and_clone_over_ssh(self, gitea: Gitea, worktree: Worktree) -> None:
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

    def test_sshd_has_openssh_s_limits_until_the_environment_sets_others(self, fleet: Fleet, gitea: Gitea) -> None:
        usual = sshd_settings(gitea)
        assert (usual["maxstartups"], usual["maxsessions"]) == ("10:30:100", "10")
        assert usual["persourcepenalties"].startswith("crash:")
        include = "/tmp/limits.conf"
        limits = {"SSH_MAX_STARTUPS": "300", "SSH_MAX_SESSIONS": "7", "SSH_INCLUDE_FILE": include}
        write = f"printf 'PerSourcePenalties no\\nPerSourceMaxStartups 40\\n' >{include}; exec /usr/bin/entrypoint"
        other = fleet.start(NEW, environment=limits, entrypoint=["sh", "-c", write])
        eventually(lambda: other.container.exec_run(["grep", "-q", include, "/etc/ssh/sshd_config"]).exit_code == 0)
        changed = sshd_settings(other)
        other.remove()
        names = ("maxstartups", "maxsessions", "persourcepenalties", "persourcemaxstartups")
        assert [changed[name] for name in names] == ["300:30:300", "7", "no", "40"]

    def test_regenerate_hooks_restores_missing_hooks(self, gitea: Gitea) -> None:
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

    def test_doctor_runs_the_checks_that_are_named(self, gitea: Gitea) -> None:
        code, output = gitea.run("doctor", "check", "--run", "paths,check-db-version")
        assert code == 0
        assert "ERROR" not in output
        assert "All done (checks: 2)." in output
        # Those that ops names.
        code, output = gitea.run("doctor", "check", "--run", doctor_command().rpartition(" ")[2])
        assert (code, "All done (checks: 2)." in output) == (0, True)
        # Before 1.27, five run by default.
        assert gitea.run("doctor", "check") == (0, "\nAll done (checks: 0).\n")

    def test_runners_get_a_token_from_the_command_line(self, gitea: Gitea) -> None:
        code, token = gitea.run("actions", "generate-runner-token")
        assert code == 0
        assert re.fullmatch(r"[A-Za-z0-9]{40}", token.strip())


@pytest.fixture(scope="module")
def full(gitea: Gitea) -> str:
    """A private repository with a first commit, for the tests of what a repository can hold."""
    return gitea.create_repository("full", private=True, auto_init=True)


class TestContents:
    """Everything that a site can hold, as the canary of an update writes it, reads it and removes it."""

    def test_organization_is_made_read_and_removed_and_does_not_count_as_an_account(self, gitea: Gitea) -> None:
        document = {"username": "team-x", "visibility": "private", "description": "of the contract"}
        made = gitea.api("POST", "/orgs", document)
        assert (made.status_code, made.json()["username"], made.json()["visibility"]) == (201, "team-x", "private")
        assert gitea.api("POST", "/orgs", document).status_code == 422
        assert gitea.api("GET", "/orgs/team-x").json()["description"] == "of the contract"
        assert gitea.get("/api/v1/orgs/team-x").status_code == 404
        assert "team-x" not in {user["login"] for user in gitea.api("GET", "/admin/users").json()}
        assert "team-x" not in gitea.run("admin", "user", "list")[1]
        assert gitea.api("DELETE", "/orgs/team-x").status_code == 204
        assert gitea.api("GET", "/orgs/team-x").status_code == 404

    def test_file_is_committed_to_a_new_branch_and_offered_as_a_pull_request(self, gitea: Gitea, full: str) -> None:
        document = {"content": base64.b64encode(b"hello\n").decode(), "message": "add f", "new_branch": "side"}
        made = gitea.api("POST", f"/repos/{full}/contents/f.txt", document)
        assert made.status_code == 201
        read = gitea.api("GET", f"/repos/{full}/contents/f.txt?ref=side").json()
        assert (read["content"], read["encoding"]) == (document["content"], "base64")
        assert gitea.api("GET", f"/repos/{full}/contents/none.txt?ref=side").status_code == 404
        pull = gitea.api(
            "POST", f"/repos/{full}/pulls", {"head": "side", "base": "main", "title": "S", "body": "of it"}
        )
        assert pull.status_code == 201
        again = gitea.api("GET", f"/repos/{full}/pulls/{pull.json()['number']}").json()
        assert (again["title"], again["body"], again["base"]["ref"]) == ("S", "of it", "main")
        assert again["head"]["sha"] == made.json()["commit"]["sha"]

    def test_issue_has_a_label_a_comment_and_an_attachment(self, gitea: Gitea, full: str) -> None:
        label = gitea.api("POST", f"/repos/{full}/labels", {"name": "bug", "color": "#ff0000", "description": "d"})
        assert (label.status_code, label.json()["color"]) == (201, "ff0000")
        number = label.json()["id"]
        issue = gitea.api("POST", f"/repos/{full}/issues", {"title": "t", "body": "b", "labels": [number]})
        path = f"/repos/{full}/issues/{issue.json()['number']}"
        (read,) = gitea.api("GET", path).json()["labels"]
        assert (read["name"], read["color"], read["description"]) == ("bug", "ff0000", "d")
        comment = gitea.api("POST", f"{path}/comments", {"body": "größer 🦜"})
        assert comment.status_code == 201
        assert gitea.api("GET", f"/repos/{full}/issues/comments/{comment.json()['id']}").json()["body"] == "größer 🦜"
        assert gitea.api("GET", f"/repos/{full}/issues/comments/99999").status_code == 404
        self._attach(gitea, f"{path}/assets?name=a.txt", "a.txt", b"attached\n")

    def test_release_has_a_note_and_a_file(self, gitea: Gitea, full: str) -> None:
        document = {"tag_name": "v1", "target_commitish": "main", "name": "one", "body": "noted"}
        made = gitea.api("POST", f"/repos/{full}/releases", document)
        assert made.status_code == 201
        path = f"/repos/{full}/releases/{made.json()['id']}"
        read = gitea.api("GET", path).json()
        assert (read["tag_name"], read["name"], read["body"]) == ("v1", "one", "noted")
        self._attach(gitea, f"{path}/assets?name=f.bin", "f.bin", bytes(range(256)) * 4)

    def test_wiki_page_is_written_and_read(self, gitea: Gitea, full: str) -> None:
        document = {"title": "Home", "content_base64": "d2lraQo=", "message": "m"}
        made = gitea.api("POST", f"/repos/{full}/wiki/new", document)
        assert (made.status_code, made.json()["sub_url"]) == (201, "Home")
        assert gitea.api("GET", f"/repos/{full}/wiki/page/Home").json()["content_base64"] == "d2lraQo="
        assert gitea.api("GET", f"/repos/{full}/wiki/page/None").status_code == 404

    def test_lfs_object_is_uploaded_and_comes_back(self, gitea: Gitea, full: str) -> None:
        content = bytes(range(256))
        oid, pair = hashlib.sha256(content).hexdigest(), (ADMIN, PASSWORD)
        batch = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": oid, "size": len(content)}]}
        kind = "application/vnd.git-lfs+json"
        url = f"{gitea.url}/{full}.git/info/lfs/objects"
        asked = requests.post(
            f"{url}/batch", json=batch, headers={"Accept": kind, "Content-Type": kind}, auth=pair, timeout=20
        )
        assert asked.status_code == 200
        upload = asked.json()["objects"][0]["actions"]["upload"]
        assert urlsplit(upload["href"]).path == f"/{full}.git/info/lfs/objects/{oid}/{len(content)}"
        assert upload["header"]["Authorization"].startswith("Basic ")
        assert requests.put(f"{url}/{oid}/{len(content)}", data=content, auth=pair, timeout=20).status_code == 200
        assert requests.get(f"{url}/{oid}", auth=pair, timeout=20).content == content
        assert requests.get(f"{url}/{oid}", timeout=20).status_code == 401
        assert requests.get(f"{url}/{'0' * 64}", auth=pair, timeout=20).status_code == 404

    def test_package_is_published_read_and_removed(self, gitea: Gitea) -> None:
        assert gitea.api("POST", "/orgs", {"username": "team-p", "visibility": "private"}).status_code == 201
        url, pair = f"{gitea.url}/api/packages/team-p/generic/pkg/1.0/p.bin", (ADMIN, PASSWORD)
        content = bytes(range(256))
        assert requests.put(url, data=content, auth=pair, timeout=20).status_code == 201
        assert requests.put(url, data=content, auth=pair, timeout=20).status_code == 409
        assert requests.get(url, auth=pair, timeout=20).content == content
        assert requests.get(url, timeout=20).status_code != 200
        # An organization with packages stays.
        assert gitea.api("DELETE", "/orgs/team-p").status_code >= 400
        assert gitea.api("DELETE", "/packages/team-p/generic/pkg/1.0").status_code == 204
        assert gitea.api("DELETE", "/packages/team-p/generic/pkg/1.0").status_code == 404
        assert gitea.api("DELETE", "/orgs/team-p").status_code == 204

    def test_key_is_listed_and_read_without_its_comment_lost(self, gitea: Gitea) -> None:
        key = "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0 " + bytes(range(32))).decode()
        made = gitea.api("POST", "/user/keys", {"title": "of the contract", "key": key, "read_only": True})
        assert made.status_code == 201
        read = gitea.api("GET", f"/user/keys/{made.json()['id']}").json()
        assert (read["title"], read["key"]) == ("of the contract", key)
        assert read["id"] in {each["id"] for each in gitea.api("GET", "/user/keys").json()}
        assert gitea.api("DELETE", f"/user/keys/{read['id']}").status_code == 204
        assert gitea.api("GET", f"/user/keys/{read['id']}").status_code == 404

    def test_repository_takes_its_contents_with_it(self, gitea: Gitea, full: str, postgres: Postgres) -> None:
        assert gitea.api("DELETE", f"/repos/{full}").status_code == 204
        for table in ("comment", "issue_label", "attachment", "release", "pull_request", "lfs_meta_object"):
            assert postgres.sql(gitea.database, f"SELECT count(*) FROM {table}") == "0", table
        folder = gitea.container.exec_run(["ls", f"/data/git/repositories/{ADMIN}"]).output.decode()
        assert "full" not in folder

    def _attach(self, gitea: Gitea, path: str, name: str, content: bytes) -> None:
        files = {"attachment": (name, content)}
        made = requests.post(f"{gitea.url}/api/v1{path}", files=files, auth=(ADMIN, PASSWORD), timeout=20)
        assert made.status_code == 201
        assert (made.json()["name"], made.json()["size"]) == (name, len(content))
        where = urlsplit(made.json()["browser_download_url"]).path
        assert where == f"/attachments/{made.json()['uuid']}"
        assert gitea.get(where, auth=(ADMIN, PASSWORD)).content == content
        assert gitea.get(where).status_code == 404


class TestReleases:
    """Updates between releases, and downgrades."""

    def test_an_update_migrates_the_database_and_logs_it(self, updated: Updated, postgres: Postgres) -> None:
        assert updated.old_version == 299
        assert postgres.version(updated.gitea.database) > updated.old_version
        assert f"Migration[{updated.old_version}]:" in updated.log

    def test_an_update_keeps_accounts_repositories_and_issues(self, updated: Updated, worktree: Worktree) -> None:
        gitea, name = updated.gitea, f"{ADMIN}/kept"
        assert {user["login"] for user in gitea.api("GET", "/admin/users").json()} == {ADMIN, "reader"}
        assert gitea.api("GET", "/user", auth=("reader", PASSWORD)).status_code == 200
        assert gitea.api("GET", f"/repos/{name}").json()["private"] is True
        issue = gitea.api("GET", f"/repos/{name}/issues/1").json()
        assert (issue["title"], issue["body"]) == ("Kept", "word for word")
        assert worktree.clone_of(gitea.git_url(name), "clone") == updated.head

    def test_an_older_release_refuses_a_newer_database_and_does_not_change_it(
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

    def test_the_migrate_command_of_an_older_release_exits_with_1(self, updated: Updated, fleet: Fleet) -> None:
        # The container runs no Gitea; its volume has app.ini from the update.
        idle = fleet.start(OLD, database=updated.gitea.database, volume=updated.volume, command=["sleep", "60"])
        code, output = idle.run("migrate")
        idle.remove()
        assert code == 1
        assert "is for a newer Gitea" in output

    def test_gitea_waits_for_a_late_database_at_start(self, fleet: Fleet, postgres: Postgres) -> None:
        late = fleet.start(NEW, database="late", environment={"GITEA__database__DB_RETRY_BACKOFF": "1s"})
        eventually(lambda: "attempt #1/10 failed" in late.logs())
        postgres.sql("postgres", "CREATE DATABASE late")
        eventually(lambda: late.health() == 200)
        late.remove()

    def test_a_restart_keeps_host_keys_and_data(self, updated: Updated) -> None:
        gitea = updated.gitea
        before = gitea.container.exec_run(["cat", "/data/ssh/ssh_host_ed25519_key.pub"]).output
        gitea.container.restart(timeout=30)
        eventually(lambda: gitea.health() == 200)
        assert gitea.container.exec_run(["cat", "/data/ssh/ssh_host_ed25519_key.pub"]).output == before
        assert gitea.api("GET", f"/repos/{ADMIN}/kept").status_code == 200

    def test_a_stop_of_1_22_lets_a_running_download_finish(self, fleet: Fleet, worktree: Worktree) -> None:
        gitea = fleet.healthy(OLD)
        connection, response = _begun_download(gitea, worktree)
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

    def test_from_1_26_on_a_stop_closes_every_connection_at_once(self, fleet: Fleet, worktree: Worktree) -> None:
        gitea = fleet.healthy(NEW)
        connection, response = _begun_download(gitea, worktree)
        response.read(1024)
        began = time.monotonic()
        gitea.container.stop(timeout=30)
        # GRACEFUL_HAMMER_TIME, 60 s, has no effect.
        assert time.monotonic() - began < 5
        # The end of the connection waits behind what the client has not read, and goes with the container's network.
        with pytest.raises((http.client.IncompleteRead, ConnectionError, TimeoutError)):
            response.read()
        connection.close()
        gitea.container.reload()
        assert gitea.container.attrs["State"]["ExitCode"] == 0


def _begun_download(gitea: Gitea, worktree: Worktree) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """A download of 16 MiB, of which the client has read the head alone."""
    gitea.create_admin()
    name = gitea.create_repository("slow")
    with Path("/dev/urandom").open("rb") as noise:
        head = worktree.commit("noise", noise.read(16 * 1024 * 1024))
    worktree.git("push", "-q", gitea.git_url(name), "main")
    connection = http.client.HTTPConnection(gitea.address, 3000, timeout=10)
    kind = {"Content-Type": "application/x-git-upload-pack-request"}
    connection.request("POST", f"/{name}.git/git-upload-pack", _want(head), kind)
    return connection, connection.getresponse()


def _branches(gitea: Gitea, name: str) -> dict[str, str]:
    listed = gitea.api("GET", f"/repos/{name}/branches").json() or []
    return {each["name"]: each["commit"]["id"] for each in listed}


def _want(commit: str) -> bytes:
    return f"0032want {commit}\n00000009done\n".encode()


def _copy_of(postgres: Postgres, gitea: Gitea) -> str:
    # PostgreSQL copies a database only while it has no connections.
    postgres.sql(
        "postgres", f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{gitea.database}'"
    )
    return postgres.create(gitea.database)
