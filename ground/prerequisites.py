"""The prerequisites on this machine: Docker Engine, Compose and a few programs. Installs missing ones with apt."""

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

from ground import debian_program, packages, sudo
from ground.base_images import configured_mirror
from ground.packages import Machine, Missing
from ops.errors import Refused, Unavailable
from ops.world import terraform_program

Tell = Callable[[str], None]


class _Denied(Refused):
    """The engine runs, but this user has no access to its socket."""


_PLUGIN = Path("/usr/local/lib/docker/cli-plugins/docker-compose")
_COMPOSE_HINT = f"install Docker Compose 2 at {_PLUGIN}: https://docs.docker.com/compose/install/linux/"
_KEYRING = debian_program.KEYRING
_ENGINE_START_SECONDS = 60
# On a new machine, apt's automatic first run holds the locks for minutes.
_APT_LOCK_SECONDS = 300
_SOCKET = Path("/var/run/docker.sock")
_PID_FILE = Path("/var/run/docker.pid")


def ensure(state: Path, tell: Tell, *, bases: bool = False) -> docker.DockerClient:
    """Install missing prerequisites with apt, start the Docker engine if it is not running, and return a client.

    Installing needs root or sudo; each step is reported through ``tell``. ``bases`` says whether this machine makes Debian
    base images. ``state`` is the folder for the log of an engine started without systemd. Raises Refused, before anything
    is installed, with all missing prerequisites and the exact command for them; or the error of a missing Terraform, which
    Python's packages bring.
    """
    # Raises an error of its own when there is none.
    terraform_program.command()
    client = _engine()
    machine = _machine(engine_answers=client is not None)
    missing = packages.missing_packages(machine, bases=bases)
    _require_installable(missing)
    if missing.names:
        _install_missing(machine, bases, tell)
    return client or _running_engine(state, tell, own="dockerd" not in machine.present)


def compose_works() -> bool:
    """Return whether `docker compose` supports `up --wait`; its major version, 2 or 5, does not tell."""
    return bool(shutil.which("docker")) and _quiet(["docker", "compose", "up", "--wait", "--help"])


def _machine(*, engine_answers: bool) -> Machine:
    present = {program for program in packages.PROGRAMS if shutil.which(program)}
    if engine_answers:
        present.add("dockerd")
    if compose_works():
        present.add(packages.COMPOSE)
    if _KEYRING.exists():
        present.add(packages.KEYRING)
    return Machine(_release(), frozenset(present), _available())


def _release() -> str:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return ""
    return f"{release['ID']} {release.get('VERSION_ID', '')}"


def _available() -> dict[str, str]:
    if not shutil.which("apt-cache"):
        return {}
    argv = ["apt-cache", "show", "--no-all-versions", *packages.ASKED]
    return packages.available_from(subprocess.run(argv, capture_output=True, text=True, check=False).stdout)


def _require_installable(missing: Missing) -> None:
    """Raise Refused with all missing prerequisites that cannot be installed here."""
    obstacle = _obstacle() if missing.names else ""
    if obstacle:
        on = "" if shutil.which("apt-get") else " on Debian or Ubuntu"
        hints = [f"run as root{on}: {missing.command}"] if missing.command else []
        hints += [_COMPOSE_HINT] if missing.compose_by_hand else []
        raise Refused(
            f"missing prerequisites: {', '.join(missing.names)}; installing them {obstacle}",
            "; then ".join(hints),
            left_as="nothing was installed",
        )


def _obstacle() -> str:
    if not shutil.which("apt-get"):
        return "needs apt-get, which this machine does not have"
    return sudo.obstacle()


def _install_missing(machine: Machine, bases: bool, tell: Tell) -> None:
    tell("updating apt's lists: apt-get update")
    _update()
    # The lists may have been empty until now, so Compose is looked up again.
    missing = packages.missing_packages(replace(machine, available=_available()), bases=bases)
    if missing.compose_by_hand and not configured_mirror():
        raise Refused(
            "no package of this distribution has Docker Compose 2, and apt has no Debian mirror configured",
            _COMPOSE_HINT,
        )
    if missing.packages:
        _install(missing.packages, tell)
    if missing.compose_by_hand:
        _unpack_compose(tell)


def _running_engine(state: Path, tell: Tell, *, own: bool) -> docker.DockerClient:
    """Return a client of the engine on this machine, and start the engine if necessary.

    ``own`` means that this process installed the engine; only then may it grant access to the socket.
    """
    try:
        return _engine() or _start_engine(state, tell)
    except _Denied:
        if not own:
            raise
    _grant_socket_access(tell)
    return _engine() or _start_engine(state, tell)


def _grant_socket_access(tell: Tell) -> None:
    """Give this user access to the new engine: now by an ACL, and from the next login on by the group docker."""
    user = getpass.getuser()
    tell(f"giving {user} access to the Docker engine: setfacl for now, group docker from the next login on")
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
                "this user has no access to the Docker engine",
                "run it as root, or run sudo usermod -aG docker $USER and log in again",
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
        _remove_stale_pid_file()
        with log.open("ab") as output:
            # Detached: the engine must outlive this process, as a packaged service does.
            detached = ["setsid", "--fork", *sudo.as_root(["dockerd"])]
            subprocess.run(detached, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=True)
    deadline = time.monotonic() + _ENGINE_START_SECONDS
    while time.monotonic() < deadline:
        if client := _engine():
            return client
        time.sleep(0.3)
    raise Unavailable("the Docker engine does not start", "run dockerd by hand and read its output")


def _remove_stale_pid_file() -> None:
    """A killed engine leaves its PID file behind, and the next one refuses to start if another process has that PID."""
    if _PID_FILE.is_file() and "dockerd" not in _program_of(_PID_FILE.read_text(encoding="ascii").strip()):
        _as_root(["rm", "--force", str(_PID_FILE)])


def _program_of(process: str) -> str:
    try:
        return Path("/proc", process, "comm").read_text(encoding="utf-8")
    except OSError:
        return ""


def _unpack_compose(tell: Tell) -> None:
    """Install the binary from Debian trixie's package, which is one static Go program; Debian 12 packages Compose 1 only."""
    tell("installing docker compose from Debian trixie's package (this release packages version 1 only)")
    with tempfile.TemporaryDirectory() as folder:
        binary = debian_program.unpack(
            "docker-compose", "trixie", "usr/libexec/docker/cli-plugins/docker-compose", Path(folder)
        )
        _as_root(["install", "-D", "--mode=755", str(binary), str(_PLUGIN)])


def _update() -> None:
    """Fetch apt's lists, and wait for their lock: apt's own option covers only dpkg's lock."""
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
    debian_program.checked(sudo.as_root(argv))


def _require_root(argv: Sequence[str]) -> None:
    if why := sudo.obstacle():
        raise Refused(f"this {why}", f"run as root: {' '.join(argv)}")


def _quiet(argv: Sequence[str]) -> bool:
    return subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0
