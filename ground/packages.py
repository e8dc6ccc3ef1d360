"""The missing packages of a machine, decided from its release, its programs and apt's candidates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# Programs that must be on the PATH, and two prerequisites that are not programs.
PROGRAMS = frozenset({"git", "ssh", "dockerd", "docker", "mmdebstrap"})
COMPOSE = "compose"
KEYRING = "keyring"

# Packages whose availability differs between releases.
ASKED = ("docker-cli", "docker-compose-v2", "docker-compose")

# apparmor is only a recommendation of docker.io, but with AppArmor in the kernel no container starts without its parser.
_ENGINE = ("docker.io", "apparmor", "ca-certificates")
# Debian 13 has the client in a package of its own; Ubuntu has it in docker.io.
_WITH_SEPARATE_CLIENT = ("debian 13",)
# For machines with empty apt lists; Debian 12 packages Compose 1 only.
_COMPOSE_OF = {"debian 13": "docker-compose", "ubuntu 24.04": "docker-compose-v2"}


@dataclass(frozen=True)
class Machine:
    """A machine: its release (``debian 12``), the prerequisites it has, and the versions of apt's candidates by package."""

    release: str
    present: frozenset[str]
    available: Mapping[str, str]


@dataclass(frozen=True)
class Missing:
    """Missing prerequisites by their usual names, and their packages; ``compose_by_hand`` if no package has Compose 2."""

    names: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    compose_by_hand: bool = False

    @property
    def command(self) -> str:
        """The command for root's shell; empty if there is nothing to install."""
        return f"apt-get update && apt-get install --yes {' '.join(self.packages)}" if self.packages else ""


def missing_packages(machine: Machine, *, bases: bool) -> Missing:
    """Return the missing prerequisites; ``bases`` says whether the machine makes Debian base images."""
    compose = _compose(machine)
    by_hand = COMPOSE not in machine.present and not compose
    needed = _prerequisites(machine, compose, bases=bases, keyring=bases or by_hand)
    absent = [each for each in needed if each[0] not in machine.present]
    # The engine and its client may be one package. List each package once.
    wanted = dict.fromkeys(package for *_, packages in absent for package in packages)
    return Missing(tuple(name for _, name, _ in absent), tuple(wanted), by_hand)


def _prerequisites(
    machine: Machine, compose: str, *, bases: bool, keyring: bool
) -> list[tuple[str, str, tuple[str, ...]]]:
    """Every prerequisite: its program or constant, its usual name, and its packages."""
    needed: list[tuple[str, str, tuple[str, ...]]] = [
        ("git", "git", ("git",)),
        ("ssh", "ssh", ("openssh-client",)),
        ("dockerd", "Docker Engine", _ENGINE),
        ("docker", "Docker's client", _client(machine)),
        (COMPOSE, "Docker Compose 2", (compose,) if compose else ()),
    ]
    if bases:
        needed.append(("mmdebstrap", "mmdebstrap", ("mmdebstrap",)))
    if keyring:
        needed.append((KEYRING, "Debian's keyring", ("debian-archive-keyring",)))
    return needed


def available_from(shown: str) -> dict[str, str]:
    """Return versions by package from the output of `apt-cache show --no-all-versions`."""
    return dict(re.findall(r"^Package: (\S+)\n(?:.*\n)*?Version: (\S+)$", shown, re.MULTILINE))


def _client(machine: Machine) -> tuple[str, ...]:
    separate = machine.release in _WITH_SEPARATE_CLIENT or (
        machine.release.startswith("debian ") and "docker-cli" in machine.available
    )
    return ("docker-cli",) if separate else _ENGINE


def _compose(machine: Machine) -> str:
    """The package with Compose 2 or newer, or an empty string."""
    recent = (each for each in ("docker-compose-v2", "docker-compose") if _is_recent(machine.available.get(each, "")))
    return next(recent, _COMPOSE_OF.get(machine.release, ""))


def _is_recent(version: str) -> bool:
    return bool(version) and not version.startswith(("0.", "1."))
