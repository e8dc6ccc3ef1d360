"""The real stack of the compose folder: the answers of nginx, and the isolation of the services."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ground.container import RUN_LABEL
from ops.config import settings_file
from ops.images.versions import release_from
from ops.model import Secret
from ops.update import canary
from ops.world import https
from ops.world.containers import Containers
from tests.support import fakes
from tests.support.compose_stack import (
    COMPOSE,
    DOMAIN,
    SECRETS,
    TRANSFER_LIMIT_MIB,
    UPLOAD_LIMIT_MIB,
    Answer,
    Stack,
    git_environment,
    lay_out,
    run,
    wait_until,
)

SERVICES = ("postgres", "gitea", "door", "nginx", "haproxy", "diun", "docker-socket-proxy")
HEADERS = ("Strict-Transport-Security", "X-Frame-Options", "X-Content-Type-Options", "Referrer-Policy")
CHALLENGE = "/.well-known/acme-challenge/token"
# Instead of Gitea: returns the headers it received, and sends headers that the proxy sends, too.
_ECHO = """
server {
    listen 3000;
    client_max_body_size 0;
    default_type text/plain;
    add_header X-Frame-Options DENY;
    add_header Strict-Transport-Security max-age=1;
    add_header Content-Security-Policy "script-src 'nonce-1'";
    location / {
        set $forwarded "$http_x_forwarded_for|$http_x_forwarded_proto";
        return 200 "$http_upgrade|$http_connection|$http_host|$http_origin|$forwarded";
    }
    location = /refused { return 502 "from behind"; }
}
"""


@pytest.fixture(scope="module")
def bare(images: Mapping[str, str], run_id: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """nginx and HAProxy alone, on a host that never had a certificate."""
    stack = lay_out(run_id, "front", tmp_path_factory.mktemp("front"), images)
    challenge = stack.folder / "data/acme" / CHALLENGE.lstrip("/")
    challenge.parent.mkdir(parents=True)
    challenge.write_text("proof")
    try:
        stack.compose("up", "--detach", "--wait", "nginx", "haproxy")
        yield stack
    finally:
        stack.remove()


@pytest.fixture(scope="module")
def before_certificate(bare: Stack) -> dict[str, Answer]:
    """The answers of nginx without a certificate."""
    return {path: bare.ask(path, plain=True) for path in ("/", CHALLENGE, "/.well-known/acme-challenge/other")}


@pytest.fixture(scope="module")
def front(bare: Stack, before_certificate: dict[str, Answer]) -> Stack:
    """The same running nginx after the certificate was installed, without Gitea."""
    bare.install_certificate()
    bare.switch_stage()
    wait_until(lambda: bare.inspect("nginx")["State"]["Health"]["Status"] == "healthy")
    return bare


@pytest.fixture(scope="module")
def away(front: Stack) -> Answer:
    """The answer while Gitea is missing."""
    return front.ask("/")


@pytest.fixture(scope="module")
def echo(front: Stack, away: Answer) -> Iterator[Stack]:
    """nginx with an echo server instead of Gitea."""
    configuration = front.folder / "echo.conf"
    configuration.write_text(_ECHO)
    mount = ["--volume", f"{configuration}:/etc/nginx/conf.d/default.conf:ro"]
    name = front.start_beside("echo", "--network-alias", "gitea", *mount)
    try:
        wait_until(lambda: front.ask("/").status == 200)
        yield front
    finally:
        run("docker", "rm", "--force", name)


def nginx_processes(stack: Stack) -> list[str]:
    """Return the process ids of nginx, sorted, without those of a health check; a reload changes them."""
    lines = run("docker", "top", stack.container("nginx")).splitlines()
    return sorted(line.split()[1] for line in lines if "nginx: " in line)


# Without a certificate


def test_without_a_certificate_nginx_answers_503_with_the_reason(before_certificate: dict[str, Answer]) -> None:
    page = before_certificate["/"]
    assert page.status == 503
    assert page.all("Retry-After") == ["60"]
    assert b"waits for its certificate" in page.body


def test_the_acme_webroot_is_served_without_a_certificate(before_certificate: dict[str, Answer]) -> None:
    assert (before_certificate[CHALLENGE].status, before_certificate[CHALLENGE].body) == (200, b"proof")
    assert before_certificate["/.well-known/acme-challenge/other"].status == 404


# With a certificate


def test_a_running_nginx_serves_tls_after_the_certificate_is_installed(front: Stack) -> None:
    assert front.ask("/.well-known/nginx-health").status == 204


def test_http_redirects_to_https_with_the_same_method_and_path(front: Stack) -> None:
    answer = front.ask("/user/login?from=here", method="POST", plain=True)
    assert (answer.status, answer.all("Location")) == (308, [f"https://{DOMAIN}/user/login?from=here"])


def test_the_acme_webroot_is_not_redirected(front: Stack) -> None:
    assert front.ask(CHALLENGE, plain=True).body == b"proof"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_tls_versions_are_refused(front: Stack, version: ssl.TLSVersion) -> None:
    old = front.trust()
    old.set_ciphers("DEFAULT@SECLEVEL=0")
    old.minimum_version = old.maximum_version = version
    with pytest.raises(ssl.SSLError, match="TLSV1_ALERT_PROTOCOL_VERSION"):
        front.ask("/", trust=old)


def test_another_host_name_gets_no_handshake_and_no_answer(front: Stack) -> None:
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        front.ask("/", name="other.test")
    with pytest.raises(http.client.RemoteDisconnected):
        front.ask("/", name="other.test", plain=True)
    with pytest.raises(http.client.RemoteDisconnected):
        front.ask("/", headers={"Host": "other.test"})


def test_without_gitea_the_answer_is_the_maintenance_page(away: Answer) -> None:
    assert (away.status, away.all("Retry-After"), away.all("Cache-Control")) == (503, ["30"], ["no-store"])
    assert b"Gitea is away" in away.body


@pytest.mark.parametrize(
    ("path", "kind", "words"),
    [
        ("/owner/project/issues?q=api/v1", "text/html", "<h1>Gitea is away for a moment</h1>"),
        ("/owner/project.git/info/refs?service=git-upload-pack", "text/plain", "Gitea is away for a moment. It is"),
        ("/owner/project/git-receive-pack", "text/plain", "try again in half a minute"),
        ("/api/v1/repos/search", "application/json", '"message": "Gitea is away for a moment.'),
        ("/v2/", "application/json", '"errors": [{"code": "UNAVAILABLE"'),
        ("/owner/project.git/info/lfs/objects/batch", "application/json", '"message": "Gitea is away for a moment.'),
        ("/user/events", "text/html", "Nothing is lost"),
        ("/-/ws", "text/html", "Nothing is lost"),
    ],
)
def test_the_maintenance_answer_has_a_form_that_each_client_can_show(
    front: Stack, path: str, kind: str, words: str
) -> None:
    for method in ("GET", "POST"):
        answer = front.ask(path, method=method, body=b"{}" if method == "POST" else None)
        assert (answer.status, answer.all("Retry-After"), answer.all("Cache-Control")) == (503, ["30"], ["no-store"])
        assert answer.all("Content-Type") == [f"{kind}; charset=utf-8"]
        assert words in answer.body.decode()
        assert kind != "application/json" or json.loads(answer.body)["code"] == "unavailable"
        assert {name: len(answer.all(name)) for name in HEADERS} == dict.fromkeys(HEADERS, 1)


def test_git_shows_the_maintenance_message(front: Stack, away: Answer) -> None:
    environment = git_environment(front, {"Authorization": "none"})
    address = f"https://{DOMAIN}:{front.port('door', 443)}/owner/project.git"
    done = subprocess.run(["git", "ls-remote", address], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 128
    assert "remote: Gitea is away for a moment. It is being restarted or updated." in done.stderr
    assert "error: 503" in done.stderr


def test_the_reason_is_on_the_page_while_gitea_does_not_answer_and_refuses_no_request(front: Stack) -> None:
    set_maintenance(front, "page", "60", "It is being updated to 28.1.0.")
    try:
        for path in ("/", "/a/b.git/info/refs?service=git-receive-pack", "/api/v1/version"):
            page = front.ask(path)
            assert (page.status, b"It is being updated to 28.1.0." in page.body) == (503, True)
        assert front.ask("/.well-known/nginx-health").status == 204
    finally:
        set_maintenance(front, "none")
    assert b"It is being restarted or updated." in front.ask("/").body


def test_the_reason_does_not_refuse_a_request_that_gitea_answers(echo: Stack) -> None:
    set_maintenance(echo, "page", "60", "It is being updated.")
    try:
        assert echo.ask("/").status == 200
    finally:
        set_maintenance(echo, "none")


def test_the_reason_ends_by_itself_after_its_time_limit(echo: Stack) -> None:
    set_maintenance(echo, "page", "2", "It is being updated.")
    inside = ["exec", "-T", "nginx", "sh", "-c", "test -e /run/away && echo shown"]
    assert echo.compose(*inside, check=False).strip() == "shown"
    wait_until(lambda: echo.compose(*inside, check=False).strip() == "", seconds=10)


def test_a_maintenance_message_with_markup_is_rejected(echo: Stack) -> None:
    with pytest.raises(AssertionError, match="may contain only letters"):
        set_maintenance(echo, "page", "60", "<script>alert(1)</script>")
    assert echo.ask("/").status == 200


def set_maintenance(stack: Stack, *arguments: str) -> None:
    """Show or withdraw the reason as `ops` does before it stops Gitea and after its start."""
    stack.compose("exec", "-T", "nginx", "nginx-away", *arguments)


@pytest.mark.parametrize(
    "path", ["/metrics", "/metrics/", "//metrics", "/%6detrics", "/x/../metrics", "/api/internal/x"]
)
def test_metrics_and_the_internal_api_are_not_proxied(echo: Stack, path: str) -> None:
    assert echo.ask(path).status == 404


@pytest.mark.parametrize("path", ["/", "/metrics", "/refused"])
def test_every_answer_has_each_security_header_once(echo: Stack, path: str) -> None:
    answer = echo.ask(path)
    assert {name: len(answer.all(name)) for name in HEADERS} == dict.fromkeys(HEADERS, 1)
    assert answer.all("Strict-Transport-Security") == ["max-age=63072000"]


def test_the_maintenance_page_has_the_security_headers(away: Answer) -> None:
    assert {name: len(away.all(name)) for name in HEADERS} == dict.fromkeys(HEADERS, 1)


def test_gitea_s_content_security_policy_is_not_changed(echo: Stack) -> None:
    assert echo.ask("/").all("Content-Security-Policy") == ["script-src 'nonce-1'"]


def test_the_server_header_has_no_version(echo: Stack) -> None:
    assert echo.ask("/").all("Server") == ["nginx"]


def test_gitea_s_own_errors_are_passed_on(echo: Stack) -> None:
    answer = echo.ask("/refused")
    assert (answer.status, answer.body) == (502, b"from behind")


@pytest.mark.parametrize("path", ["/-/ws", "/other"])
def test_a_websocket_upgrade_reaches_gitea(echo: Stack, path: str) -> None:
    answer = echo.ask(path, headers={"Upgrade": "websocket", "Connection": "Upgrade"})
    assert answer.body.split(b"|")[:2] == [b"websocket", b"upgrade"]


def test_host_and_origin_reach_gitea_but_a_client_s_forwarded_headers_do_not(echo: Stack) -> None:
    claims = {"Host": f"{DOMAIN}:8443", "Origin": "https://elsewhere.test", "X-Forwarded-For": "192.0.2.1"}
    _, _, host, origin, client, scheme = echo.ask("/", headers=claims).body.split(b"|")
    assert (host, origin, scheme) == (f"{DOMAIN}:8443".encode(), b"https://elsewhere.test", b"https")
    assert client not in {b"", b"192.0.2.1"}


def test_an_upload_is_refused_above_the_limit_only(echo: Stack) -> None:
    limit = UPLOAD_LIMIT_MIB * 1024 * 1024
    assert echo.ask("/", method="POST", body=bytes(limit)).status == 200
    # nginx refuses because of the length, before it reads the body.
    for path in ("/", "/a/b/releases/attachments", "/api/v1/repos/a/b/releases/1/assets"):
        refused = echo.ask(path, method="POST", headers={"Content-Length": str(limit + 1)})
        assert (refused.status, b"at most 8 MiB at once here (gitea.upload_limit_mib" in refused.body) == (413, True), (
            path
        )


TRANSFERS = {
    "/a/b.git/git-receive-pack": "text/plain",
    "/a/b/git-upload-pack": "text/plain",
    "/a/b.git/info/lfs/objects/0123/9": "application/json",
    "/api/packages/a/generic/tool/1.0/tool.tar": "application/json",
    "/v2/a/image/blobs/uploads/1": "application/json",
    "/api/actions_pipeline/_apis/pipelines/workflows/1/artifacts/2/upload": "application/json",
    "/twirp/github.actions.results.api.v1.ArtifactService/UploadArtifact": "application/json",
}


@pytest.mark.parametrize(("path", "kind"), TRANSFERS.items())
def test_git_lfs_packages_and_artifacts_have_a_limit_of_their_own_and_the_refusal_names_it(
    echo: Stack, path: str, kind: str
) -> None:
    limit = TRANSFER_LIMIT_MIB * 1024 * 1024
    for length in (UPLOAD_LIMIT_MIB * 1024 * 1024 + 1, limit):
        assert echo.ask(path, method="PUT", body=bytes(length)).status == 200
    refused = echo.ask(path, method="PUT", headers={"Content-Length": str(limit + 1)})
    assert (refused.status, refused.all("Content-Type")) == (413, [kind])
    text = refused.body.decode() if kind == "text/plain" else json.loads(refused.body)["message"]
    assert (
        text.strip()
        == "Too large: this site takes at most 24 MiB at once here (gitea.transfer_limit_mib in its site file)."
    )
    assert {name: len(refused.all(name)) for name in HEADERS} == dict.fromkeys(HEADERS, 1)


def test_without_a_transfer_limit_only_other_uploads_are_limited(echo: Stack) -> None:
    settings = echo.folder / ".env"
    before = settings.read_text()
    try:
        settings.write_text(before.replace(f"TRANSFER_LIMIT_MIB={TRANSFER_LIMIT_MIB}", "TRANSFER_LIMIT_MIB=0"))
        echo.compose("up", "--detach", "--wait", "--no-deps", "nginx")
        large = {"Content-Length": str(64 * 2**30)}
        assert {echo.ask(path, method="PUT", headers=large).status for path in TRANSFERS} == {200}
        assert echo.ask("/", method="PUT", headers=large).status == 413
    finally:
        settings.write_text(before)
        echo.compose("up", "--detach", "--wait", "--no-deps", "nginx")


# The whole stack


@pytest.mark.parametrize("service", SERVICES)
def test_every_container_is_healthy_and_restricted(stack: Stack, service: str) -> None:
    facts = stack.inspect(service)
    limits = facts["HostConfig"]
    wait_until(lambda: stack.inspect(service)["State"]["Health"]["Status"] == "healthy")
    assert limits["Memory"] > 0
    assert limits["PidsLimit"] > 0
    assert "no-new-privileges:true" in limits["SecurityOpt"]
    assert limits["CapDrop"] == ["ALL"]
    assert not limits["Privileged"]
    assert limits["LogConfig"] == {"Type": "json-file", "Config": {"max-file": "5", "max-size": "10m"}}
    assert limits["RestartPolicy"]["Name"] in {"on-failure", "unless-stopped"}


def test_the_stack_runs_exactly_these_services(stack: Stack) -> None:
    assert sorted(stack.compose("ps", "--services").split()) == sorted(SERVICES)


def test_a_new_site_requires_a_login(stack: Stack) -> None:
    assert stack.ask("/api/v1/user").status == 401
    assert stack.ask("/api/v1/admin/users").status in {401, 403}


def test_metrics_need_the_token_and_the_internal_network(stack: Stack) -> None:
    token = (stack.folder / "secrets/metrics-token").read_text()
    code = ["--output", "/dev/null", "--write-out", "%{http_code}", "http://gitea:3000/metrics"]
    assert stack.curl("web", *code) == "401"
    assert stack.curl("web", "--header", f"Authorization: Bearer {token}", *code) == "200"
    assert stack.ask("/metrics", headers={"Authorization": f"Bearer {token}"}).status == 404


def test_a_push_of_several_megabytes_over_https_arrives(stack: Stack, operator: dict[str, str], tmp_path: Path) -> None:
    made = stack.ask(
        "/api/v1/user/repos",
        method="POST",
        body=b'{"name": "large"}',
        headers={"Content-Type": "application/json", **operator},
    )
    assert made.status == 201
    (tmp_path / "large.bin").write_bytes(ssl.RAND_bytes(3 * 1024 * 1024))
    address = f"https://{DOMAIN}:{stack.port('door', 443)}/operator/large.git"

    def git(*arguments: str) -> str:
        return run("git", *arguments, cwd=tmp_path, env=git_environment(stack, operator))

    git("init", "--quiet", "--initial-branch=main")
    git("add", ".")
    git("commit", "--quiet", "--message=large")
    git("push", "--quiet", address, "main")
    assert git("ls-remote", address, "refs/heads/main").split()[0] == git("rev-parse", "main").strip()


def test_eighty_clones_over_ssh_at_once_from_one_address_are_all_served(
    stack: Stack, operator: dict[str, str], tmp_path: Path
) -> None:
    url, environment = ssh_repository(stack, operator, tmp_path, "fleet")

    def clone(number: int) -> str:
        argv = ["git", "clone", "--quiet", url, str(tmp_path / f"clone-{number}")]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=120)
        return done.stderr if done.returncode else ""

    with ThreadPoolExecutor(80) as threads:
        refused = [reason for reason in threads.map(clone, range(80)) if reason]
    assert refused == []


def test_wrong_keys_lock_out_no_other_user_of_the_same_address(
    stack: Stack, operator: dict[str, str], tmp_path: Path
) -> None:
    url, environment = ssh_repository(stack, operator, tmp_path, "locked")
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other"))
    wrong = {**environment, "GIT_SSH_COMMAND": environment["GIT_SSH_COMMAND"].replace("/key ", "/other ")}
    for _ in range(8):
        done = subprocess.run(["git", "ls-remote", url], env=wrong, capture_output=True, text=True, check=False)
        assert done.returncode == 128
        assert "Permission denied (publickey)" in done.stderr
    assert run("git", "ls-remote", url, "refs/heads/main", env=environment)


def test_an_sshd_that_does_not_know_a_limit_starts_without_it(images: Mapping[str, str], run_id: str) -> None:
    stub = "case $* in *PerSourcePenalties*) echo Bad configuration option: PerSourcePenalties >&2; exit 255; esac"
    replace_sshd = f"printf '#!/bin/sh\n%s\n' '{stub}' >/usr/sbin/sshd; exec start-with-ssh-limits cat /run/limits.conf"
    script = f"{COMPOSE}/gitea/start-with-ssh-limits.sh:/usr/local/bin/start-with-ssh-limits:ro"
    limits = {"SSH_INCLUDE_FILE": "/run/limits.conf", "SSH_LOGINS_PER_ADDRESS": "40", "SSH_PENALTIES": "no"}
    settings = [word for name, value in limits.items() for word in ("--env", f"{name}={value}")]
    place = ["--rm", "--label", f"{RUN_LABEL}={run_id}", "--volume", script, *settings, "--entrypoint", "sh"]
    assert run("docker", "run", *place, images["GITEA_IMAGE"], "-c", replace_sshd) == "PerSourceMaxStartups 40\n"


def ssh_repository(stack: Stack, operator: dict[str, str], folder: Path, name: str) -> tuple[str, dict[str, str]]:
    """Push a repository with one commit over ssh; return its URL, and git's environment with the key of the operator."""
    key, here = folder / "key", {**operator, "Content-Type": "application/json"}
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    for path, requested in (
        ("/api/v1/user/repos", {"name": name}),
        ("/api/v1/user/keys", {"title": name, "key": key.with_suffix(".pub").read_text().strip()}),
    ):
        assert stack.ask(path, method="POST", body=json.dumps(requested).encode(), headers=here).status == 201
    options = "-o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    environment = {**git_environment(stack, operator), "GIT_SSH_COMMAND": f"ssh -i {key} {options}"}
    url = f"ssh://git@127.0.0.1:{stack.port('door', 2222)}/operator/{name}.git"
    run("git", "init", "--quiet", "--initial-branch=main", str(folder / "work"))
    for command in (("commit", "--quiet", "--allow-empty", "--message=one"), ("push", "--quiet", url, "main")):
        run("git", "-C", str(folder / "work"), *command, env=environment)
    return url, environment


class ThroughNginx:
    """The adapter to HTTPS, at the published port of this stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def request(
        self, domain: str, address: str, method: str, path: str, headers: Mapping[str, str], document: Any = None
    ) -> https.Answer:
        body = document if document is None or isinstance(document, bytes) else json.dumps(document).encode()
        kind = {"Content-Type": "application/octet-stream" if isinstance(document, bytes) else "application/json"}
        found = self._stack.ask(path, method=method, headers=kind | dict(headers), body=body)
        return https.Answer(found.status, body=found.body)


def test_the_canary_of_an_update_is_written_read_and_removed_through_nginx(
    stack: Stack, operator: dict[str, str]
) -> None:
    make = ["admin", "user", "generate-access-token", "--username", "operator", "--token-name", "canary"]
    made = stack.compose("exec", "-T", "--user", "git", "gitea", "gitea", *make, "--scopes", "all")
    token = Secret(made.strip().rpartition(" ")[2])
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=time.sleep)
    world: Any = SimpleNamespace(https=ThroughNginx(stack), clock=clock)
    site = fakes.site(gitea={"admin_username": "operator", "admin_email": "operator@gitea.test"})
    release = release_from("28.1.0")
    assert release
    written = canary.write(site, world, token, release)
    assert ([part.name for part in written.parts], written.skipped) == (list(canary.PARTS), {})
    assert canary.compare(site, world, token, written.parts) == canary.Compared((), lost=False)
    # Anonymous requests read none of it.
    for part in written.parts:
        assert stack.ask(part.path).status in {401, 403, 404}, part
    canary.remove(site, world, token)
    assert stack.ask("/api/v1/repos/operator/ops-canary", headers=operator).status == 404
    assert stack.ask("/api/v1/orgs/ops-canary", headers=operator).status == 404


def test_the_database_is_reachable_from_gitea_and_not_from_nginx(stack: Stack) -> None:
    url = f"http://{stack.address('postgres', 'database')}:5432/"
    ask = ["curl", "--silent", "--connect-timeout", "2", "--write-out", "%{time_connect}", url]
    time_from_gitea, time_from_nginx = (
        float(stack.compose("exec", "-T", service, *ask, check=False)) for service in ("gitea", "nginx")
    )
    assert time_from_gitea > 0
    assert time_from_nginx == 0


@pytest.mark.parametrize("service", SERVICES)
def test_no_container_has_a_secret_in_its_environment(stack: Stack, service: str) -> None:
    settings = str(stack.inspect(service)["Config"])
    inside = stack.compose("exec", "-T", service, "env")
    for name in SECRETS:
        secret = (stack.folder / "secrets" / name).read_text()
        assert secret not in settings + inside, name


def test_diun_can_list_containers_and_nothing_else(stack: Stack) -> None:
    def code(method: str, path: str) -> str:
        ask = ["--request", method, "--output", "/dev/null", "--write-out", "%{http_code}"]
        return stack.curl("watch", *ask, f"http://docker-socket-proxy:2375{path}")

    assert code("GET", "/containers/json") == "200"
    assert code("POST", "/containers/create?name=never") == "403"
    assert code("DELETE", f"/containers/{stack.container('gitea')}?force=1") == "403"
    assert code("GET", "/volumes") == "403"
    assert code("GET", "/secrets") == "403"


def test_only_the_proxy_has_docker_s_socket_and_it_has_no_other_network(stack: Stack) -> None:
    owners = [each for each in SERVICES if "docker.sock" in str(stack.inspect(each)["Mounts"])]
    assert owners == ["docker-socket-proxy"]
    assert list(stack.inspect("docker-socket-proxy")["NetworkSettings"]["Networks"]) == [f"{stack.project}_watch"]


def test_a_hanging_gitea_becomes_unhealthy_and_recovers(stack: Stack) -> None:
    def status() -> str:
        return str(stack.inspect("gitea")["State"]["Health"]["Status"])

    signal_web(stack, "STOP")
    wait_until(lambda: status() == "unhealthy")
    signal_web(stack, "CONT")
    wait_until(lambda: status() == "healthy")


def test_gitea_is_reported_healthy_right_after_a_pause_for_a_backup(stack: Stack) -> None:
    containers, gitea = Containers(), stack.container("gitea")

    def health() -> str:
        return next(each.health for each in containers.services(stack.project) if each.name == "gitea")

    wait_until(lambda: health() == "healthy")
    containers.freeze(gitea)
    assert containers.thaw(gitea, "")
    # The engine reports this until its next health check.
    assert stack.inspect("gitea")["State"]["Health"]["Status"] == "unhealthy"
    assert health() == "healthy"


def test_a_killed_gitea_is_restarted(stack: Stack) -> None:
    started = stack.inspect("gitea")["State"]["StartedAt"]
    signal_web(stack, "KILL")
    wait_until(lambda: stack.inspect("gitea")["State"]["StartedAt"] != started)
    wait_until(lambda: stack.ask("/api/healthz").status == 200)


def signal_web(stack: Stack, signal: str) -> None:
    """Send a signal to every process of `gitea web` in its container."""
    each = "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2>/dev/null | grep -q 'gitea[^ ]* web' "
    stack.compose("exec", "-T", "gitea", "sh", "-c", f"{each} && kill -{signal} ${{p#/proc/}}; done; true")


def test_nginx_finds_a_recreated_gitea_without_a_reload(stack: Stack) -> None:
    nginx, old = nginx_processes(stack), stack.address("gitea", "web")
    assert len(nginx) > 1
    stack.compose("rm", "--stop", "--force", "gitea")
    wait_until(lambda: stack.ask("/").status == 503)
    # Takes the free address, so that Gitea gets another one.
    placeholder = stack.start_beside("placeholder")
    try:
        stack.compose("up", "--detach", "--wait", "gitea")
        wait_until(lambda: stack.ask("/api/healthz").status == 200)
        assert stack.address("gitea", "web") != old
        assert nginx_processes(stack) == nginx
    finally:
        run("docker", "rm", "--force", placeholder)


@pytest.mark.parametrize("missing", ["data/postgresql", "secrets/database-password"])
def test_the_database_does_not_start_without_its_disk_or_its_password(bare: Stack, missing: str) -> None:
    path, aside = bare.folder / missing, bare.folder / "aside"
    path.rename(aside)
    try:
        with pytest.raises(AssertionError, match="bind source path does not exist"):
            bare.compose("up", "--detach", "--force-recreate", "postgres")
    finally:
        aside.rename(path)
        bare.compose("rm", "--stop", "--force", "postgres")


def test_a_missing_setting_stops_compose_with_its_name(stack: Stack, tmp_path: Path) -> None:
    settings = (stack.folder / ".env").read_text().replace(f"DOMAIN={DOMAIN}", "DOMAIN=")
    (tmp_path / ".env").write_text(settings)
    (tmp_path / "override.yaml").write_text("services: {}\n")
    (tmp_path / settings_file.FILE).write_text("{}\n")
    with pytest.raises(AssertionError, match=r"DOMAIN.*host name of the site"):
        replace(stack, folder=tmp_path).compose("config", "--quiet")


def test_compose_reads_its_file_without_a_warning(stack: Stack) -> None:
    where = ["--file", str(COMPOSE / "compose.yaml"), "--env-file", str(stack.folder / ".env")]
    command = ["docker", "compose", *where, "--profile", "tools", "config", "--services"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.split()) == sorted([*SERVICES, "certbot"])


def test_compose_recreates_only_changed_services(stack: Stack) -> None:
    before = {service: stack.container(service) for service in SERVICES}
    settings = stack.folder / ".env"
    settings.write_text(settings.read_text().replace("CONTACT=operator@", "CONTACT=another@"))
    stack.compose("up", "--detach", "--wait")
    assert {service for service in SERVICES if stack.container(service) != before[service]} == {"diun"}


def test_only_a_service_with_a_newer_mounted_file_is_stale(stack: Stack, tmp_path: Path) -> None:
    for service, age in (("nginx", 0), ("diun", 86400)):
        (tmp_path / service).mkdir()
        (tmp_path / service / "file").touch()
        then = time.time() - age
        for path in (tmp_path / service / "file", tmp_path / service):
            os.utime(path, (then, then))
    script = COMPOSE.parent / "playbooks/roles/gitea/files/stale-services.sh"
    environment = {**os.environ, "COMPOSE_PROJECT_NAME": stack.project}
    assert run("sh", str(script), str(tmp_path), env=environment).split() == ["nginx"]
