"""What the machine itself must have: a Docker engine, Compose, Terraform and a few programs. Missing ones are installed."""

from __future__ import annotations

import getpass
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import docker
from docker.errors import DockerException

from ground import packages, sudo
from ground.base_images import configured_mirror, debian_mirror
from ground.packages import Machine, Missing
from ops.errors import Refused, Unavailable

Tell = Callable[[str], None]


class _Denied(Refused):
    """The engine is there, and this user may not talk to it."""


_TERRAFORM_HINT = "install Terraform 1.11 or newer: https://developer.hashicorp.com/terraform/install"
_PLUGIN = Path("/usr/local/lib/docker/cli-plugins/docker-compose")
_COMPOSE_HINT = f"put Docker Compose 2 at {_PLUGIN}: https://docs.docker.com/compose/install/linux/"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_ENGINE_START_SECONDS = 60
# On a machine that was just set up, apt's first run of its own holds the locks for minutes.
_APT_LOCK_SECONDS = 300
_SOCKET = Path("/var/run/docker.sock")
_PID_FILE = Path("/var/run/docker.pid")


def ensure(state: Path, tell: Tell, *, bases: bool = False) -> docker.DockerClient:
    """Make sure that Docker Engine, Compose, Terraform and the programs the ground uses are there; return a client.

    What the distribution packages is installed where root or sudo allows, and said through ``tell``; ``bases`` is whether
    Debian base images are made here. ``state`` takes the log of an engine that had to be started here. Raises Refused,
    before anything is installed, naming all that is missing and the exact command for it.
    """
    client = _engine()
    machine = _machine(engine_answers=client is not None)
    lacking = packages.missing_packages(machine, bases=bases)
    _judge(lacking)
    if lacking.names:
        _install_lacking(machine, bases, tell)
    return client or _running_engine(state, tell, own="dockerd" not in machine.present)


def compose_works() -> bool:
    """Tell whether `docker compose` does what the stack needs; asked by doing, for its major version is 2 or 5 by now."""
    return bool(shutil.which("docker")) and _quiet(["docker", "compose", "up", "--wait", "--help"])


def _machine(*, engine_answers: bool) -> Machine:
    present = {program for program in packages.PROGRAMS if shutil.which(program)}
    if engine_answers:
        present.add("dockerd")
    if compose_works():
        present.add(packages.COMPOSE)
    if _KEYRING.exists():
        present.add(packages.KEYRING)
    return Machine(_release(), frozenset(present), _offered())


def _release() -> str:
    try:
        known = platform.freedesktop_os_release()
    except OSError:
        return ""
    return f"{known['ID']} {known.get('VERSION_ID', '')}"


def _offered() -> dict[str, str]:
    if not shutil.which("apt-cache"):
        return {}
    argv = ["apt-cache", "show", "--no-all-versions", *packages.ASKED]
    return packages.available_from(subprocess.run(argv, capture_output=True, text=True, check=False).stdout)


def _judge(lacking: Missing) -> None:
    """Raise Refused for what cannot be installed here, all of it at once; nothing is changed yet."""
    terraform = [] if shutil.which("terraform") else ["Terraform"]
    obstacle = _obstacle() if lacking.names else ""
    if obstacle:
        where = "" if shutil.which("apt-get") else "on Debian or Ubuntu, "
        hints = [f"{where}run as root: {lacking.command}"] if lacking.command else []
        hints += [_COMPOSE_HINT] if lacking.compose_by_hand else []
        hints += [_TERRAFORM_HINT] if terraform else []
        missing = ", ".join([*lacking.names, *terraform])
        raise Refused(f"missing here: {missing}; installing it {obstacle}", "; then ".join(hints))
    if terraform:
        raise Refused("terraform is not installed, and the distribution does not package it", _TERRAFORM_HINT)


def _obstacle() -> str:
    if not shutil.which("apt-get"):
        return "needs apt-get, which is not here"
    return sudo.obstacle()


def _install_lacking(machine: Machine, bases: bool, tell: Tell) -> None:
    tell("asking apt what there is: apt-get update")
    _update()
    # Lists that were empty until now have told nothing of Compose.
    lacking = packages.missing_packages(replace(machine, offered=_offered()), bases=bases)
    if lacking.compose_by_hand and not configured_mirror():
        raise Refused(
            "no package of this distribution has Docker Compose 2, and it names no Debian mirror", _COMPOSE_HINT
        )
    if lacking.packages:
        _install(lacking.packages, tell)
    if lacking.compose_by_hand:
        _unpack_compose(tell)


def _running_engine(state: Path, tell: Tell, *, own: bool) -> docker.DockerClient:
    """Return a client of the engine on this machine, started if need be; ``own`` is one that was just installed here."""
    try:
        return _engine() or _start_engine(state, tell)
    except _Denied:
        # Whom to let in is for the owner of an engine to say, and who has installed it owns it.
        if not own:
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
        _require_root(["dockerd"])
        log = state / "dockerd.log"
        tell(f"starting the Docker engine: dockerd (no systemd here; log in {log})")
        state.mkdir(parents=True, exist_ok=True)
        _forget_dead_engine()
        with log.open("ab") as written:
            # The engine outlives this process, as a service does that a package has installed.
            detached = ["setsid", "--fork", *sudo.as_root(["dockerd"])]
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


def _update() -> None:
    """Fetch apt's lists. Its option to wait for a lock does not hold for that of the lists, so the waiting is done here."""
    deadline = time.monotonic() + _APT_LOCK_SECONDS
    while True:
        try:
            _as_root(["env", "LC_ALL=C", "apt-get", "update", "-q"])
        except Unavailable as error:
            if "Could not get lock" not in error.message or time.monotonic() > deadline:
                raise
            time.sleep(3)
        else:
            return


def _install(wanted: Sequence[str], tell: Tell) -> None:
    tell(f"installing {', '.join(wanted)} with apt-get")
    apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", f"DPkg::Lock::Timeout={_APT_LOCK_SECONDS}"]
    _as_root([*apt, "install", "-y", "-q", "--no-install-recommends", *wanted])


def _as_root(argv: Sequence[str]) -> None:
    _require_root(argv)
    _checked(sudo.as_root(argv))


def _require_root(argv: Sequence[str]) -> None:
    if why := sudo.obstacle():
        raise Refused(f"this {why}", f"run as root: {' '.join(argv)}")


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
