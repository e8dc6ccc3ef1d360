"""Requests wait in HAProxy while Gitea is stopped on purpose, and are then served; running ones end before: on the real stack."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from ground.container import RUN_LABEL
from ops.stack import handover, maintenance, restart
from ops.world import World
from tests.support import fakes
from tests.support.compose_stack import (
    COMPOSE,
    DOMAIN,
    Stack,
    git_environment,
    inspect,
    make_operator,
    run,
    wait_until,
    write_title,
)
from tests.support.held_stack import (
    SERVING,
    Background,
    commit,
    git,
    hold,
    make_repository,
    serving_stack,
    ssh_url,
    waiting,
)
from tests.support.load_clients import LoadClients, throttled_port

REASON = "It is being updated to 28.2.0."
NOTICE = f"Gitea is away for a moment. {REASON} Try again in a minute."
HOLD_SECONDS = 20
SITE = replace(fakes.site(), domain=DOMAIN)
SITE = replace(SITE, web=replace(SITE.web, hold_seconds=HOLD_SECONDS))
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def served(images: Mapping[str, str], run_id: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Gitea behind nginx and HAProxy."""
    folder = tmp_path_factory.mktemp("held")
    with serving_stack(images, run_id, "held", folder, HOLD_SECONDS=str(HOLD_SECONDS), TRANSFER_LIMIT_MIB="0") as stack:
        yield stack


@pytest.fixture(scope="module")
def login(served: Stack) -> dict[str, str]:
    """The login headers of an administrator."""
    return make_operator(served)


@pytest.fixture(scope="module")
def large(served: Stack, login: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The URL of a repository with 40 MiB, and its work tree."""
    address, work = make_repository(served, login, "large"), tmp_path_factory.mktemp("large") / "work"
    environment = commit(served, login, work, 40 * MIB)
    done = git(environment, "push", "--quiet", address, "main", cwd=work)
    assert done.returncode == 0, done.stderr
    return address, work


@pytest.fixture
def world() -> World:
    """The adapters of `ops`."""
    return World(SITE, print)


def gitea_pid(stack: Stack) -> int:
    """Return the process id of Gitea's container, 0 while it is stopped."""
    return int(stack.inspect("gitea")["State"]["Pid"])


def is_healthy(stack: Stack) -> bool:
    """Whether Gitea's container is healthy."""
    return str(stack.inspect("gitea")["State"]["Health"]["Status"]) == "healthy"


@contextlib.contextmanager
def slow_clone(stack: Stack, login: Mapping[str, str], folder: Path, rate: int) -> Iterator[subprocess.Popen[str]]:
    """Clone the large repository with ``rate`` bytes per second from the client's side; yields when it is in progress."""
    with throttled_port(stack.address("door", "web"), 443, 0, rate) as port:
        argv = ["git", "clone", "--quiet", f"https://{DOMAIN}:{port}/operator/large.git", str(folder)]
        environment = git_environment(stack, login, port)
        with subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, text=True) as clone:
            wait_until(lambda: "be=transfers" in hold(stack, "sessions"))
            yield clone


def test_a_page_a_post_and_a_push_during_a_stop_are_served_after_it(
    served: Stack, login: dict[str, str], world: World, tmp_path: Path
) -> None:
    address, issues = make_repository(served, login, "waits"), "/api/v1/repos/operator/waits/issues"
    environment = commit(served, login, tmp_path / "work", 3 * MIB)
    document = json.dumps({"title": "posted", "body": "x" * 5000}).encode()
    headers = {"Content-Type": "application/json", **login}

    with maintenance.maintenance_mode(SITE, world, REASON, project=served.project) as mode:
        page = Background(lambda: served.ask("/api/healthz").status)
        post = Background(lambda: served.ask(issues, method="POST", body=document, headers=headers).status)
        push = Background(lambda: git(environment, "push", "--quiet", address, "main", cwd=tmp_path / "work"))
        wait_until(lambda: waiting(served) == 3)
        began = time.monotonic()
        mode.stop()
        time.sleep(2)
        mode.start()
        wait_until(lambda: is_healthy(served))
        away = time.monotonic() - began
    assert (page.value(), post.value()) == (200, 201)
    assert push.value().returncode == 0
    assert page.seconds > away
    assert (mode.drained, mode.waited.requests >= 3, mode.waited.refused) == (True, True, 0)
    assert [each["body"] for each in json.loads(served.ask(issues, headers=login).body)] == ["x" * 5000]
    listed = git(environment, "ls-remote", address, "refs/heads/main").stdout.split()[0]
    assert listed == run("git", "rev-parse", "main", cwd=tmp_path / "work").strip()


def test_a_slow_clone_ends_before_the_signal_and_pages_are_served_meanwhile(
    served: Stack, login: dict[str, str], large: tuple[str, Path], world: World, tmp_path: Path
) -> None:
    before, statuses = gitea_pid(served), []
    with slow_clone(served, login, tmp_path / "clone", 40 * MIB // 9) as clone:
        time.sleep(2)

        def look() -> None:
            while clone.poll() is None:
                statuses.append((served.ask("/api/healthz").status, gitea_pid(served) == before))
                time.sleep(0.5)

        looker = threading.Thread(target=look)
        looker.start()
        with maintenance.maintenance_mode(SITE, world, REASON, project=served.project) as mode:
            # HAProxy has passed on everything; the last bytes may still be in nginx and in the kernel.
            seen = list(statuses)
            assert clone.wait(10) == 0, clone.stderr and clone.stderr.read()
            mode.stop()
            mode.start()
            wait_until(lambda: is_healthy(served))
    looker.join()
    assert (mode.drained, mode.awaited) == (True, 1)
    assert len(seen) > 5
    assert set(seen) == {(200, True)}
    assert {status for status, _ in statuses} == {200}
    assert run("git", "-C", str(tmp_path / "clone"), "fsck") == ""


def test_a_clone_that_does_not_end_is_cut_off_at_the_limit_and_counted(
    served: Stack, login: dict[str, str], large: tuple[str, Path], world: World, tmp_path: Path
) -> None:
    with slow_clone(served, login, tmp_path / "clone", 40 * MIB // 90) as clone:
        time.sleep(2)
        began = time.monotonic()
        with maintenance.maintenance_mode(SITE, world, REASON, project=served.project, drain_seconds=3) as mode:
            assert 3 <= time.monotonic() - began < 6
            mode.stop()
            mode.start()
            wait_until(lambda: is_healthy(served))
        clone.kill()
    assert (mode.drained, mode.cut) == (False, 1)


def test_ssh_connections_wait_and_are_served_and_a_running_clone_over_ssh_ends_before(
    served: Stack, login: dict[str, str], large: tuple[str, Path], world: World, tmp_path: Path
) -> None:
    url, environment = ssh_url(served, login, tmp_path, "large")
    with throttled_port(served.address("door", "web"), 2222, 0, 40 * MIB // 8) as port:
        slow = url.replace(str(served.port("door", 2222)), str(port))
        running = Background(lambda: git(environment, "clone", "--quiet", slow, str(tmp_path / "clone")))
        wait_until(lambda: "be=ssh " in hold(served, "sessions"))
        time.sleep(3)
        with maintenance.maintenance_mode(SITE, world, REASON, project=served.project) as mode:
            done = running.value(15)
            assert done.returncode == 0, done.stderr
            later = Background(lambda: git(environment, "ls-remote", url, "refs/heads/main"))
            wait_until(lambda: waiting(served) == 1)
            mode.stop()
            time.sleep(2)
            mode.start()
            wait_until(lambda: is_healthy(served))
    listed = later.value()
    assert listed.returncode == 0, listed.stderr
    assert later.seconds > 2
    assert (mode.drained, mode.awaited) == (True, 1)


def test_gitea_is_recreated_with_a_changed_title_while_requests_wait_and_compose_has_nothing_left_to_do(
    served: Stack, world: World
) -> None:
    before = {each: served.container(each) for each in SERVING}
    write_title(served.folder, "Another title")
    endpoint = (served.address("door", "web"), 443)
    with LoadClients(*endpoint, DOMAIN, served.trust(), "/api/healthz", fresh=2, kept=2) as clients:
        clients.await_served(20)
        report = restart.recreate(SITE, world, ["gitea", "diun"], stack=served.handover())
        clients.await_served(clients.served + 20)
    assert clients.failures == {}
    assert (report.facts["recreated"], report.facts["cut"], report.facts["waited"] >= 4) == (["gitea"], 0, True)
    assert clients.longest <= report.facts["away"] + 3
    assert {each for each in SERVING if served.container(each) != before[each]} == {"gitea"}
    # Compose finds nothing left to do.
    served.compose("up", "--detach", "--wait", *SERVING)
    assert {each for each in SERVING if served.container(each) != before[each]} == {"gitea"}
    assert b"Another title" in served.ask("/user/login").body


def test_haproxy_is_replaced_while_a_clone_over_https_and_one_over_ssh_run(
    served: Stack, login: dict[str, str], large: tuple[str, Path], world: World, tmp_path: Path
) -> None:
    url, environment = ssh_url(served, login, tmp_path, "large", title="replaced")
    before, endpoint = served.container("haproxy"), (served.address("door", "web"), 443)
    with throttled_port(served.address("door", "web"), 2222, 0, 40 * MIB // 8) as port:
        slow = url.replace(str(served.port("door", 2222)), str(port))
        over_ssh = Background(lambda: git(environment, "clone", "--quiet", slow, str(tmp_path / "over-ssh")))
        with (
            slow_clone(served, login, tmp_path / "clone", 40 * MIB // 8) as clone,
            LoadClients(*endpoint, DOMAIN, served.trust(), "/api/healthz", fresh=2, kept=2) as clients,
        ):
            clients.await_served(20)
            report = handover.replace(SITE, world, stack=served.handover("haproxy"))
            clients.await_served(clients.served + 20)
            assert clone.wait(20) == 0, clone.stderr and clone.stderr.read()
        done = over_ssh.value(30)
        assert done.returncode == 0, done.stderr
    assert clients.failures == {}
    assert (report.changed, report.facts["cut"]) == (True, False)
    assert served.container("haproxy") not in {before, ""}


def test_stopping_the_stack_lets_a_clone_end_and_says_so(
    served: Stack, login: dict[str, str], large: tuple[str, Path], world: World, tmp_path: Path
) -> None:
    with slow_clone(served, login, tmp_path / "clone", 40 * MIB // 8) as clone:
        time.sleep(2.5)
        report = restart.stop(SITE, world, project=served.project)
        assert clone.wait(10) == 0, clone.stderr and clone.stderr.read()
    assert gitea_pid(served) == 0
    assert report.summary.endswith("1 transfers were waited for, 0 requests were cut off")
    # Nothing waits for a Gitea that does not come back.
    page = Background(lambda: served.ask("/").status)
    assert (page.value(), page.seconds < 8) == (503, True)
    served.compose("up", "--detach", "--wait", *SERVING)
    wait_until(lambda: served.ask("/api/healthz").status == 200)


def test_an_event_stream_is_closed_does_not_delay_the_stop_and_opens_again_after_it(
    served: Stack, login: dict[str, str], world: World
) -> None:
    with _event_stream(served, login) as stream:
        time.sleep(2.5)
        began = time.monotonic()
        with maintenance.maintenance_mode(SITE, world, REASON, project=served.project) as mode:
            assert time.monotonic() - began < 5
            assert "be=streams" not in hold(served, "sessions")
            while stream.recv(65536):
                pass
    assert mode.awaited == 0
    with _event_stream(served, login):
        pass


@contextlib.contextmanager
def _event_stream(stack: Stack, login: Mapping[str, str]) -> Iterator[ssl.SSLSocket]:
    """Open the notifications of a signed-in page: an event stream up to Gitea 1.27, a WebSocket from 28 on (RFC 6455)."""
    version = json.loads(stack.ask("/api/v1/version").body)["version"]
    handshake = [
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {'A' * 22}==",
    ]
    path, more = ("/-/ws", handshake) if int(version.split(".")[0]) >= 28 else ("/user/events", [])
    lines = [f"GET {path} HTTP/1.1", f"Host: {DOMAIN}", f"Authorization: {login['Authorization']}", *more]
    with (
        socket.create_connection(("127.0.0.1", stack.port("door", 443)), timeout=20) as plain,
        stack.trust().wrap_socket(plain, server_hostname=DOMAIN) as stream,
    ):
        stream.sendall("\r\n".join([*lines, "", ""]).encode())
        wait_until(lambda: "be=streams" in hold(stack, "sessions"))
        yield stream


def test_after_the_limit_there_is_the_page_and_over_ssh_the_notice_both_with_the_reason(
    served: Stack, world: World
) -> None:
    options = [f"-o{each}" for each in ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes")]
    ssh = ["ssh", *options, "-p", str(served.port("door", 2222)), "git@127.0.0.1"]

    def login_over_ssh() -> str:
        return subprocess.run(ssh, capture_output=True, text=True, check=False, timeout=60).stderr

    with maintenance.maintenance_mode(SITE, world, REASON, project=served.project) as mode:
        mode.stop()
        page, notice = Background(lambda: served.ask("/api/v1/version")), Background(login_over_ssh)
        answer = page.value()
        assert (answer.status, answer.all("Retry-After")) == (503, ["30"])
        assert REASON.encode() in answer.body
        assert HOLD_SECONDS <= page.seconds < HOLD_SECONDS + 5
        assert NOTICE in str(notice.value())
        assert HOLD_SECONDS <= notice.seconds < HOLD_SECONDS + 5
        # As after a run that was killed: the hold has ended, and there is nothing to wait for.
        hold(served, "all", "0", NOTICE)
        page, notice = Background(lambda: served.ask("/")), Background(login_over_ssh)
        assert page.value().status == 503
        assert NOTICE in str(notice.value())
        assert max(page.seconds, notice.seconds) < 10
        mode.start()
        wait_until(lambda: is_healthy(served))
    assert served.ask("/api/healthz").status == 200


def test_the_hold_of_a_killed_run_ends_by_itself_and_what_waits_is_served(served: Stack) -> None:
    hold(served, "all", "3", NOTICE)
    page = Background(lambda: served.ask("/api/healthz").status)
    over_ssh = Background(lambda: run("ssh-keyscan", "-T", "20", "-p", str(served.port("door", 2222)), "127.0.0.1"))
    assert page.value() == 200
    assert 1.5 < page.seconds < HOLD_SECONDS
    assert "ssh-ed25519" in str(over_ssh.value())
    assert json.loads(hold(served, "status"))["held"] == "none"
    maintenance.end_maintenance(World(SITE, print), served.project)


@pytest.fixture
def alone(images: Mapping[str, str], run_id: str) -> Iterator[str]:
    """The name of a HAProxy without Gitea, in which a request waits for longer than a busy machine takes to send a thousand."""
    name, folder = f"{run_id}-alone", COMPOSE / "haproxy"
    run(
        *("docker", "run", "--detach", "--name", name, "--label", f"{RUN_LABEL}={run_id}", "--memory", "256m"),
        *("--tmpfs", "/run/haproxy:mode=0700,uid=99,gid=99"),
        *(
            "--env",
            "HOLD_SECONDS=120",
            "--env",
            "SSH_CONNECTIONS_PER_ADDRESS=2",
            "--env",
            "SSH_CONNECTIONS_PER_MINUTE=4",
        ),
        *("--volume", f"{folder / 'haproxy.cfg'}:/usr/local/etc/haproxy/haproxy.cfg:ro"),
        *("--volume", f"{folder / 'hold.lua'}:/usr/local/etc/haproxy/hold.lua:ro"),
        *("--volume", f"{folder / 'hold.sh'}:/usr/local/bin/hold:ro"),
        *(images["HAPROXY_IMAGE"], "haproxy", "-f", "/usr/local/etc/haproxy/haproxy.cfg"),
        *("-S", "/run/haproxy/master.sock,mode,600,level,admin"),
    )
    try:
        wait_until(lambda: "held" in run("docker", "exec", name, "hold", "status", check=False))
        yield name
    finally:
        run("docker", "rm", "--force", name)


def test_a_thousand_requests_wait_in_bounded_memory_and_further_ones_are_refused_at_once(alone: str) -> None:
    address = (inspect(alone)["NetworkSettings"]["IPAddress"], 3000)
    push = b"POST /a/b.git/git-receive-pack HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n" + bytes(20000)
    page = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    run("docker", "exec", alone, "hold", "all", "120", NOTICE)
    with contextlib.ExitStack() as opened:

        def send(request: bytes) -> socket.socket:
            client = opened.enter_context(socket.create_connection(address, timeout=60))
            client.sendall(request)
            return client

        def waits(number: int) -> bool:
            return int(json.loads(run("docker", "exec", alone, "hold", "status"))["waiting"]) == number

        for _ in range(200):
            send(push)
        wait_until(lambda: waits(200))
        # Closed without an answer, which nginx turns into the page. nginx has read a part of each body.
        assert send(push).recv(1) == b""
        for _ in range(800):
            send(page)
        wait_until(lambda: waits(1000))
        assert send(page).recv(1) == b""
        state = json.loads(run("docker", "exec", alone, "hold", "status"))
        assert (state["waiting"], state["refused"]) == (1000, 2)
        sizes = "cat /proc/[0-9]*/status | awk '/VmRSS/ {kib += $2} END {print kib}'"
        assert int(run("docker", "exec", alone, "sh", "-c", sizes)) < 128 * 1024


def is_refused(client: socket.socket) -> bool:
    """Whether the connection was reset within two seconds; while it waits, nothing is sent on it."""
    readable, _, _ = select.select([client], [], [], 2)
    return bool(readable)


def _is_refused_at(address: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(address, timeout=60) as client:
            return is_refused(client)
    except ConnectionResetError:
        # The refusal was there before the client knew that it was connected.
        return True


def test_an_address_has_at_most_so_many_ssh_connections_as_the_site_allows(alone: str) -> None:
    address = (inspect(alone)["NetworkSettings"]["IPAddress"], 2222)
    run("docker", "exec", alone, "hold", "all", "120", NOTICE)
    with contextlib.ExitStack() as opened:
        clients = [opened.enter_context(socket.create_connection(address, timeout=60)) for _ in range(2)]
        assert not any(map(is_refused, clients))
        assert _is_refused_at(address)
        assert json.loads(run("docker", "exec", alone, "hold", "status"))["waiting"] == 2


def test_an_address_has_at_most_so_many_new_ssh_connections_in_a_minute_as_the_site_allows(alone: str) -> None:
    address = (inspect(alone)["NetworkSettings"]["IPAddress"], 2222)
    with contextlib.ExitStack() as opened:
        for _ in range(3):
            # There is no Gitea.
            assert opened.enter_context(socket.create_connection(address, timeout=60)).recv(1) == b""
        run("docker", "exec", alone, "hold", "all", "120", NOTICE)
        assert not is_refused(opened.enter_context(socket.create_connection(address, timeout=60)))
        assert _is_refused_at(address)


def test_clients_that_go_away_while_they_wait_are_not_counted_for_longer_than_they_would_have_waited(
    served: Stack,
) -> None:
    port = served.port("door", 443)
    assert waiting(served) == 0
    hold(served, "all", "60", NOTICE)
    for _ in range(5):
        with (
            socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
            served.trust().wrap_socket(plain, server_hostname=DOMAIN) as client,
        ):
            client.sendall(f"GET / HTTP/1.1\r\nHost: {DOMAIN}\r\n\r\n".encode())
            time.sleep(0.2)
    wait_until(lambda: waiting(served) == 0, seconds=HOLD_SECONDS + 3)
    hold(served, "none")


def test_a_sentence_that_ssh_clients_must_not_get_is_rejected(served: Stack) -> None:
    with pytest.raises(AssertionError, match="may contain only letters"):
        hold(served, "all", "60", "<b>")
