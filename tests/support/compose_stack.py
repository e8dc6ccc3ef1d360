"""Helpers of the stack tests: data and settings in a folder, Compose, and requests over TLS."""

from __future__ import annotations

import base64
import datetime
import http.client
import json
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ground.container import RUN_LABEL
from ops.config import settings_file
from ops.stack.handover import NGINX, HandoverStack
from tests.support import fakes

COMPOSE = Path(__file__).parents[2] / "compose"
DOMAIN = "git.gitea.test"
UPLOAD_LIMIT_MIB = 8
TRANSFER_LIMIT_MIB = 24
SECRETS = (
    "database-password",
    "gitea-secret-key",
    "gitea-internal-token",
    "gitea-jwt-secret",
    "metrics-token",
    "smtp-username",
    "smtp-password",
)
# Free ports on loopback, for parallel runs, and frequent health checks, for short waits.
_OVERRIDES: Mapping[str, Mapping[str, str]] = {
    "postgres": {},
    # A test waits until a hanging Gitea is unhealthy.
    "gitea": {"healthcheck": "{interval: 1s, timeout: 3s, retries: 3}"},
    "door": {"ports": '!override ["127.0.0.1::80", "127.0.0.1::443", "127.0.0.1::2222"]'},
    "nginx": {},
    "haproxy": {},
    "diun": {},
    "docker-socket-proxy": {},
}
# On a busy machine a program that answers within a tenth of a second may take several seconds.
_HEALTH = "{interval: 2s, timeout: 10s, retries: 5}"
# Longer than a request waits while Gitea is stopped.
_ANSWER_SECONDS = 60
_NETWORKS = ("database", "web", "watch", "outside")


@dataclass(frozen=True)
class Answer:
    """An HTTP response with all its headers in order, including repeated ones."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Return all values of a header."""
        return [value for each, value in self.headers if each.lower() == name.lower()]


@dataclass(frozen=True)
class Stack:
    """The stack or a part of it, as one Compose project on the local engine."""

    run_id: str
    project: str
    folder: Path
    images: Mapping[str, str]

    @property
    def files(self) -> tuple[str, ...]:
        """The paths of its Compose files."""
        own = ("override.yaml", settings_file.FILE)
        return (str(COMPOSE / "compose.yaml"), *(str(self.folder / name) for name in own))

    def handover(self, service: str = NGINX) -> HandoverStack:
        """Return the stack as `ops` addresses it to replace or recreate a service."""
        settings = self.folder / ".env"
        return HandoverStack(
            self.project, COMPOSE, self.files, self.folder / "lock", service, environment_file=settings
        )

    def compose(self, *arguments: str, check: bool = True) -> str:
        """Return the output of `docker compose`; raises AssertionError with both output streams when it fails."""
        files = [part for name in self.files for part in ("--file", name)]
        where = ["--project-name", self.project, "--env-file", str(self.folder / ".env")]
        return run("docker", "compose", *files, *where, *arguments, check=check)

    def container(self, service: str) -> str:
        """Return the id of a service's container."""
        return self.compose("ps", "--all", "--quiet", service).strip()

    def inspect(self, service: str) -> dict[str, Any]:
        """Return the engine's description of a service's container."""
        return inspect(self.container(service))

    def address(self, service: str, network: str) -> str:
        """Return the IP address of a service on one of the project's networks."""
        return str(self.inspect(service)["NetworkSettings"]["Networks"][f"{self.project}_{network}"]["IPAddress"])

    def port(self, service: str, inside: int) -> int:
        """Return the published port of a container's port."""
        return int(self.compose("port", service, str(inside)).rpartition(":")[2])

    def start_beside(self, name: str, *options: str) -> str:
        """Start another nginx on the network of nginx and Gitea and return its container name."""
        made = f"{self.project}-{name}"
        place = ["--name", made, "--label", f"{RUN_LABEL}={self.run_id}", "--network", f"{self.project}_web"]
        run("docker", "run", "--detach", *place, *options, self.images["NGINX_IMAGE"])
        return made

    def curl(self, network: str, *arguments: str) -> str:
        """Return the output of curl from a new container on one of the project's networks; ignore its exit code."""
        place = ["--rm", "--label", f"{RUN_LABEL}={self.run_id}", "--network", f"{self.project}_{network}"]
        tool = ["--entrypoint", "curl", self.images["NGINX_IMAGE"], "--silent", "--max-time", "3"]
        return run("docker", "run", *place, *tool, *arguments, check=False)

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        plain: bool = False,
        name: str = DOMAIN,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> Answer:
        """Return the answer of nginx at its published port for the host `name`; raises OSError on a refused connection."""
        port = self.port("door", 80 if plain else 443)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_SECONDS)
        connection.sock = socket.create_connection(("127.0.0.1", port), timeout=_ANSWER_SECONDS)
        if not plain:
            connection.sock = (trust or self.trust()).wrap_socket(connection.sock, server_hostname=name)
        connection.request(method, path, body=body, headers={"Host": name, **(headers or {})})
        response = connection.getresponse()
        answer = Answer(response.status, tuple(response.getheaders()), response.read())
        connection.close()
        return answer

    def trust(self) -> ssl.SSLContext:
        """Return a TLS context that trusts only the self-signed certificate."""
        return ssl.create_default_context(cafile=str(self.folder / "ca.pem"))

    def install_certificate(self) -> None:
        """Install a certificate for the domain at certbot's path."""
        live = self.folder / "data/letsencrypt/live" / DOMAIN
        live.mkdir(parents=True)
        chain, key = self_signed_certificate(DOMAIN)
        (self.folder / "ca.pem").write_bytes(chain)
        (live / "fullchain.pem").write_bytes(chain)
        (live / "privkey.pem").write_bytes(key)

    def switch_stage(self) -> None:
        """Reload nginx with a new certificate, as `ops certs renew` does."""
        steps = "/docker-entrypoint.d/40-select-stage.sh && nginx -t && nginx -s reload"
        self.compose("exec", "-T", "nginx", "sh", "-c", steps)

    def remove(self) -> None:
        """Remove containers, networks and data; a container removes files that belong to its user."""
        self.compose("--profile", "*", "down", "--volumes", "--timeout", "1", check=False)
        data = f"{self.folder}:/folder"
        sweep = ["--entrypoint", "rm", self.images["POSTGRES_IMAGE"], "-rf", "/folder/data"]
        run("docker", "run", "--rm", "--user", "0", "--volume", data, *sweep)
        shutil.rmtree(self.folder)


def wait_until(holds: Callable[[], bool], seconds: float = 30) -> None:
    """Return as soon as ``holds`` is true; raises AssertionError after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not true after {seconds:g} s"
        time.sleep(0.2)


def git_environment(stack: Stack, operator: Mapping[str, str], port: int = 0) -> dict[str, str]:
    """Return git's environment: it finds the site at a port (by default the published one), trusts it and logs in."""
    settings = {
        "http.curloptResolve": f"{DOMAIN}:{port or stack.port('door', 443)}:127.0.0.1",
        "http.extraHeader": f"Authorization: {operator['Authorization']}",
        "user.name": "Tester",
        "user.email": "tester@gitea.test",
    }
    named = enumerate(settings.items())
    pairs = {
        f"GIT_CONFIG_{part}_{n}": text for n, pair in named for part, text in zip(("KEY", "VALUE"), pair, strict=True)
    }
    return {
        "PATH": os.environ["PATH"],
        "GIT_SSL_CAINFO": str(stack.folder / "ca.pem"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_COUNT": str(len(settings)),
        **pairs,
    }


def make_operator(stack: Stack) -> dict[str, str]:
    """Create an administrator on the command line and return the login headers."""
    account = ["--username", "operator", "--password", "Passw0rd-of-a-test", "--email", "operator@gitea.test"]
    make = ["gitea", "admin", "user", "create", "--admin", "--must-change-password=false", *account]
    stack.compose("exec", "-T", "--user", "git", "gitea", *make)
    return basic("operator", "Passw0rd-of-a-test")


@contextmanager
def whole_stack(images: Mapping[str, str], run_id: str, folder: Path) -> Iterator[Stack]:
    """Run the whole stack with a certificate, and remove it afterwards."""
    whole = lay_out(run_id, "stack", folder, images)
    whole.install_certificate()
    try:
        whole.compose("up", "--detach", "--wait")
        wait_until(lambda: whole.ask("/api/healthz").status == 200)
        yield whole
    finally:
        whole.remove()


def run(*command: str, check: bool = True, **options: Any) -> str:
    """Return a command's standard output; raises AssertionError with its output when it fails and `check` is set."""
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, **options
    )
    assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def inspect(container: str) -> dict[str, Any]:
    """Return the engine's description of a container."""
    found: list[dict[str, Any]] = json.loads(run("docker", "inspect", container))
    return found[0]


def basic(user: str, password: str) -> dict[str, str]:
    """Return the header of HTTP's basic authentication."""
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def lay_out(run_id: str, name: str, folder: Path, images: Mapping[str, str]) -> Stack:
    """Return a stack that is not started, with data, secrets and settings in `folder`."""
    for each in ("gitea", "postgresql", "letsencrypt", "acme", "diun"):
        (folder / "data" / each).mkdir(parents=True)
    (folder / "secrets").mkdir()
    for each in SECRETS:
        write_secret(folder / "secrets" / each)
    (folder / ".env").write_text("".join(f"{key}={value}\n" for key, value in settings(folder, images).items()))
    (folder / "override.yaml").write_text(override(run_id))
    write_title(folder, "Gitea under test")
    return Stack(run_id, f"{run_id}-{name}", folder, images)


def override(run_id: str) -> str:
    """Return the Compose override of the tests: ports, frequent health checks, and the run's label."""
    label = {"labels": f"{{{RUN_LABEL}: {run_id}}}"}
    services = {name: {"healthcheck": _HEALTH, **label, **each} for name, each in _OVERRIDES.items()}
    networks = dict.fromkeys(_NETWORKS, label)
    return "\n".join(["services:", *blocks(services), "networks:", *blocks(networks), ""])


def blocks(entries: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Yield the YAML lines of a mapping of mappings with YAML values."""
    for name, each in entries.items():
        yield f"  {name}:"
        yield from (f"    {key}: {value}" for key, value in each.items())


def write_secret(path: Path) -> None:
    """Write 43 letters and digits, readable to gitea and postgres; as root with the permissions of the host's secrets."""
    path.write_text(secrets.token_hex(32)[:43])
    if os.geteuid() == 0:
        os.chown(path, 1000, 999)
        path.chmod(0o440)
    else:
        path.chmod(0o444)


def write_title(folder: Path, title: str) -> None:
    """Write the settings that Gitea's next container gets, with this title, in the stack's folder."""
    site = fakes.site_with_settings({}, title=title, upload_limit_mib=UPLOAD_LIMIT_MIB)
    (folder / settings_file.FILE).write_text(settings_file.compose_file(site, str(folder / "secrets")))


def settings(folder: Path, images: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of the host's .env file."""
    return {
        "DOMAIN": DOMAIN,
        "CONTACT": "operator@gitea.test",
        "GITEA_SSH_PORT": "2222",
        "SSH_LOGINS": "200",
        "HOLD_SECONDS": "30",
        "SSH_CONNECTIONS_PER_ADDRESS": "1000000",
        "SSH_CONNECTIONS_PER_MINUTE": "1000000",
        "UPLOAD_LIMIT_MIB": str(UPLOAD_LIMIT_MIB),
        "TRANSFER_LIMIT_MIB": str(TRANSFER_LIMIT_MIB),
        "GRAFANA_PATH": "private",
        "MAIL_SENDER": "gitea@gitea.test",
        "SMTP_HOST": "mail.gitea.test",
        "SMTP_PORT": "1025",
        "ACME_DIRECTORY": "https://acme.gitea.test/dir",
        "DATA_DIRECTORY": str(folder / "data"),
        "SECRETS_DIRECTORY": str(folder / "secrets"),
        **images,
    }


def self_signed_certificate(domain: str) -> tuple[bytes, bytes]:
    """Return a self-signed certificate and its key, both PEM, valid for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, domain)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(domain)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption())
    return certificate.public_bytes(serialization.Encoding.PEM), secret
