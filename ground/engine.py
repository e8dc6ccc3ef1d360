"""What the machine itself must have: a Docker engine, Compose, Terraform and a few programs. Missing ones are installed."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import docker
from docker.errors import DockerException

from ground.debian import as_root, debian_mirror
from ops.errors import Refused, Unavailable

Tell = Callable[[str], None]


class _Denied(Refused):
    """The engine is there, and this user may not talk to it."""


_PACKAGES = {"git": "git", "ssh": "openssh-client", "mmdebstrap": "mmdebstrap"}
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_TERRAFORM_HINT = "install Terraform 1.11 or newer: https://developer.hashicorp.com/terraform/install"
_PLUGIN = Path("/usr/local/lib/docker/cli-plugins/docker-compose")
_ENGINE_START_SECONDS = 60
_SOCKET = Path("/var/run/docker.sock")
_PID_FILE = Path("/var/run/docker.pid")


def ensure(state: Path, tell: Tell) -> docker.DockerClient:
    """Make sure that Docker Engine, Compose, Terraform and the programs the ground uses are there; return a client.

    What the distribution packages is installed where root or sudo allows, and said through ``tell``. ``state`` takes the
    log of an engine that had to be started here. Raises Refused naming the exact command for what cannot be installed.
    """
    _ensure_programs(tell)
    client = _ensure_engine(state, tell)
    if not compose_works():
        _install_compose(tell)
    if not shutil.which("terraform"):
        raise Refused("terraform is not installed, and the distribution does not package it", _TERRAFORM_HINT)
    return client


def compose_works() -> bool:
    """Tell whether `docker compose` does what the stack needs; asked by doing, for its major version is 2 or 5 by now."""
    return bool(shutil.which("docker")) and _quiet(["docker", "compose", "up", "--wait", "--help"])


def _ensure_programs(tell: Tell) -> None:
    missing = [package for program, package in _PACKAGES.items() if not shutil.which(program)]
    if not _KEYRING.exists():
        missing.append("debian-archive-keyring")
    if missing:
        _install(missing, tell)


def _ensure_engine(state: Path, tell: Tell) -> docker.DockerClient:
    if client := _engine():
        return client
    found = shutil.which("dockerd")
    if not found:
        _install(["docker.io"], tell)
    if not shutil.which("docker"):
        _install(["docker-cli"], tell)
    try:
        return _engine() or _start_engine(state, tell)
    except _Denied:
        # Whom to let in is for the owner of an engine to say, and who has installed it owns it.
        if found:
            raise
    _let_in(tell)
    return _engine() or _start_engine(state, tell)


def _let_in(tell: Tell) -> None:
    """Let this user talk to the engine that was installed for them: at once, and by their group from the next login on."""
    user = getpass.getuser()
    tell(f"letting {user} talk to the Docker engine: setfacl for now, group docker from the next login on")
    _as_root(["usermod", "--append", "--groups", "docker", user])
    if not shutil.which("setfacl"):
        _install(["acl"], tell)
    _as_root(["setfacl", "--modify", f"user:{user}:rw", str(_SOCKET)])


def _engine() -> docker.DockerClient | None:
    client = None
    try:
        client = docker.from_env()
        client.ping()
    except DockerException as error:
        if client:
            client.close()
        if "Permission denied" in str(error):
            raise _Denied(
                "this user may not talk to the Docker engine", "run as root, or: sudo usermod -aG docker $USER"
            ) from error
        return None
    return client


def _start_engine(state: Path, tell: Tell) -> docker.DockerClient:
    if Path("/run/systemd/system").is_dir():
        tell("starting the Docker engine: systemctl start docker")
        _as_root(["systemctl", "start", "docker"])
    else:
        log = state / "dockerd.log"
        tell(f"starting the Docker engine: dockerd (no systemd here; log in {log})")
        state.mkdir(parents=True, exist_ok=True)
        _forget_dead_engine()
        with log.open("ab") as written:
            # The engine outlives this process, as a service does that a package has installed.
            detached = ["setsid", "--fork", *as_root(["dockerd"])]
            subprocess.run(detached, stdin=subprocess.DEVNULL, stdout=written, stderr=subprocess.STDOUT, check=True)
    deadline = time.monotonic() + _ENGINE_START_SECONDS
    while time.monotonic() < deadline:
        if client := _engine():
            return client
        time.sleep(0.3)
    raise Unavailable("the Docker engine does not start", "run dockerd by hand and read what it says")


def _forget_dead_engine() -> None:
    """An engine that was killed leaves its process number behind, and refuses to start once someone else has that number."""
    if _PID_FILE.is_file() and "dockerd" not in _program_of(_PID_FILE.read_text(encoding="ascii").strip()):
        _as_root(["rm", "--force", str(_PID_FILE)])


def _program_of(process: str) -> str:
    try:
        return Path("/proc", process, "comm").read_text(encoding="utf-8")
    except OSError:
        return ""


def _install_compose(tell: Tell) -> None:
    for package in ("docker-compose-v2", "docker-compose"):
        if _candidate_is_recent(package):
            _install([package], tell)
            return
    _unpack_compose(tell)


def _candidate_is_recent(package: str) -> bool:
    shown = subprocess.run(["apt-cache", "show", package], capture_output=True, text=True, check=False).stdout
    versions = [line.removeprefix("Version: ") for line in shown.splitlines() if line.startswith("Version: ")]
    return any(not version.startswith("1.") for version in versions)


def _unpack_compose(tell: Tell) -> None:
    """Debian 12 packages Compose 1 only; trixie's package is one Go binary, so its file is taken and not the package."""
    tell("installing docker compose from Debian trixie's package (this release has version 1 only)")
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "lists" / "partial").mkdir(parents=True)
        (here / "sources.list").write_text(f"deb [signed-by={_KEYRING}] {debian_mirror()} trixie main\n")
        options = [f"-oDir::Etc::SourceList={here}/sources.list", "-oDir::Etc::SourceParts=/dev/null"]
        options += [f"-oDir::State::Lists={here}/lists", "-oDir::Cache::pkgcache=", "-oDir::Cache::srcpkgcache="]
        options += ["-oAPT::Sandbox::User=root", "-oAcquire::Check-Valid-Until=false", "-q"]
        _checked(["apt-get", *options, "update"])
        _checked(["apt-get", *options, "download", "docker-compose"], directory=here)
        (package,) = here.glob("docker-compose_*.deb")
        _checked(["dpkg-deb", "--extract", str(package), str(here / "unpacked")])
        binary = here / "unpacked/usr/libexec/docker/cli-plugins/docker-compose"
        _as_root(["install", "-D", "--mode=755", str(binary), str(_PLUGIN)])


def _install(packages: Sequence[str], tell: Tell) -> None:
    tell(f"installing {', '.join(packages)} with apt-get")
    _as_root(["apt-get", "update", "-q"])
    _as_root(
        [
            "env",
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "install",
            "-y",
            "-q",
            "--no-install-recommends",
            *packages,
        ]
    )


def _as_root(argv: Sequence[str]) -> None:
    if os.geteuid() != 0 and not shutil.which("sudo"):
        raise Refused("this needs root, and there is no sudo", f"run as root: {' '.join(argv)}")
    _checked(as_root(argv))


def _checked(argv: Sequence[str], directory: Path | None = None) -> None:
    try:
        done = subprocess.run(
            argv, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
    except FileNotFoundError as error:
        raise Refused(f"{argv[0]} is not on this machine", f"on Debian or Ubuntu, run: {' '.join(argv)}") from error
    if done.returncode:
        raise Unavailable(f"{' '.join(argv)} failed:\n{done.stdout[-2000:]}", f"run it by hand: {' '.join(argv)}")


def _quiet(argv: Sequence[str]) -> bool:
    return subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0
