"""The README's quick start on a fresh machine: Debian with systemd, Python and a user with sudo, and nothing else."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from docker import DockerClient
from docker.models.containers import Container

from ground import base_images, host, image_set, run_registry
from ground.prerequisites import ensure
from ops.world.terraform_mirror import discover

_HOME = f"/home/{host.SSH_USER}"
# The settings of this machine's clients for the package registries; a fresh machine needs them to reach the same registries.
_CLIENTS = (
    "PIP_",
    "UV_",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GROUND_DEBIAN_MIRROR",
)
_NAMESERVERS = (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf"))
# Debian 12 packages Python 3.11 and only Compose 1; Debian 13 packages Python 3.13 and Compose 2.
_RELEASES = {"debian-12": "DEBIAN_BOOKWORM", "debian-13": "DEBIAN_TRIXIE"}
_INSTALLED_BY_THE_SUITE = ("git", "docker", "dockerd", "mmdebstrap", "npm", "pip", "ansible", "restic")


@dataclass(frozen=True)
class Fresh:
    """A freshly installed machine with a clone of this repository in its user's home."""

    container: Container
    address: str
    key: Path

    def run(self, command: str, log: Path) -> int:
        """Run a command in the clone as the user, and return its exit code; its output goes to ``log``."""
        ssh = ["ssh", "-q", "-i", str(self.key), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"]
        ssh += ["-o", "UserKnownHostsFile=/dev/null", "-o", "ServerAliveInterval=30", f"{host.SSH_USER}@{self.address}"]
        with log.open("wb") as output:
            argv = [*ssh, f"cd suite && {command}"]
            return subprocess.run(argv, stdout=output, stderr=subprocess.STDOUT, check=False).returncode


@pytest.fixture(params=_RELEASES)
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fresh]:
    """A fresh machine with Terraform, which no distribution packages."""
    client = ensure(run_registry.CACHE, print, bases=True)
    image = _machine(client, request.param)
    run_context, folder, lock = run_registry.new_run(client, print)
    key = run_registry.write_key(folder)
    try:
        started = host.start(
            client,
            network=run_context.network,
            run_id=run_context.run,
            image=image,
            public_key=key.with_suffix(".pub").read_text(encoding="utf-8"),
            metadata_address=None,
            data_gib=1,
            shared=_shared(),
        )
        container = client.containers.get(started.name)
        _configure_network(container)
        container.put_archive(_HOME, _clone(tmp_path))
        yield Fresh(container, started.address, key)
    finally:
        run_registry.remove(client, run_context.run)
        lock.close()


def _machine(client: DockerClient, release: str) -> str:
    """Return the image of the test environment's host, built on another release of Debian."""
    bases = base_images.bases(client, {_RELEASES[release]}, print)
    reference = f"fresh-machine:{release}"
    base = {"DEBIAN_TRIXIE": bases[_RELEASES[release]]}
    client.images.build(path=str(image_set.IMAGES / "host"), tag=reference, buildargs=base, rm=True)
    return reference


def _client_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(_CLIENTS)}


def _shared() -> tuple[Path, ...]:
    terraform = shutil.which("terraform")
    assert terraform, "install Terraform: the fresh machine mounts this machine's program"
    named = [Path(value) for value in _client_settings().values() if value.startswith("/") and Path(value).is_file()]
    mirror = discover()
    return tuple({Path(terraform), *named, *([mirror] if mirror else [])})


def _configure_network(container: Container) -> None:
    """Give the machine this machine's nameservers and registry settings."""
    servers = next(each for each in _NAMESERVERS if each.is_file()).read_text(encoding="utf-8")
    settings = "".join(f"{name}={value}\n" for name, value in _client_settings().items())
    for content, path in ((servers, "/etc/resolv.conf"), (settings, "/etc/environment")):
        done = container.exec_run(["sh", "-c", f"printf %s {shlex.quote(content)} >{path}"])
        assert done.exit_code == 0, done.output


def _clone(folder: Path) -> bytes:
    subprocess.run(
        ["git", "clone", "--quiet", "--no-hardlinks", str(run_registry.REPOSITORY), str(folder / "suite")], check=True
    )

    def owned(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 1000
        return member

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(folder / "suite", "suite", filter=owned)
    return buffer.getvalue()


@pytest.mark.timeout(5400)
def test_one_command_deploys_a_site_on_a_fresh_machine(
    fresh: Fresh, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    answer = tmp_path / "answer"
    for each in _INSTALLED_BY_THE_SUITE:
        assert fresh.run(f"command -v {each}", answer) == 1, f"{each} is already installed: the machine is not fresh"
    log, began = tmp_path / "deploy-e2e.log", time.monotonic()
    code = fresh.run("./noxw -s deploy-e2e", log)
    seconds = round(time.monotonic() - began)
    record_property("seconds", seconds)
    print(f"deploy-e2e on a fresh machine: {seconds} s; its log: {log}")
    assert code == 0, _end_of(log)
    assert fresh.run("./noxw -s ops -- gate status --json 2>/dev/null", answer) == 0
    stages = json.loads(answer.read_text(encoding="utf-8"))["stages"]
    assert [each["stage"] for each in stages if each["proven"]] == ["lint", "unit", "integration", "deploy-e2e"]
    # The run leaves only caches for the next run.
    assert fresh.run("docker ps --all --quiet && docker volume ls --quiet", answer) == 0
    left = [re.sub("-[0-9a-f]{12}$", "", each) for each in answer.read_text(encoding="utf-8").split()]
    assert set(left) == {"gitea-suite-apt-cache", "gitea-suite-registry"}, left
    # The only default session of `./noxw` that deploy-e2e has not run.
    assert fresh.run("./noxw -s coverage", answer) == 0, _end_of(answer)


def _end_of(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-10000:]
