"""Which packages a machine lacks: decided from its release, from what is there, and from what apt offers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# What is looked for: programs by their names, and two things that are no program on the PATH.
PROGRAMS = frozenset({"git", "ssh", "dockerd", "docker", "mmdebstrap"})
COMPOSE = "compose"
KEYRING = "keyring"

# What apt is asked about: the choices that differ between releases.
ASKED = ("docker-cli", "docker-compose-v2", "docker-compose")

# Only recommended by the engine, which cannot start a container without AppArmor's parser where the kernel enforces AppArmor.
_ENGINE = ("docker.io", "apparmor", "ca-certificates")
# Debian 13 has taken the client out of docker.io; on Ubuntu it never left.
_WITH_SEPARATE_CLIENT = ("debian 13",)
# For lists that are still empty; Debian 12 packages Compose 1 only.
_COMPOSE_OF = {"debian 13": "docker-compose", "ubuntu 24.04": "docker-compose-v2"}


@dataclass(frozen=True)
class Machine:
    """What was found: the release (``debian 12``), what is there of what is looked for, and apt's candidates' versions."""

    release: str
    present: frozenset[str]
    offered: Mapping[str, str]


@dataclass(frozen=True)
class Missing:
    """What is missing, as a person calls it, and the packages that have it; ``compose_by_hand`` where none has Compose 2."""

    names: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    compose_by_hand: bool = False

    @property
    def command(self) -> str:
        """The line for root's shell; empty where there is nothing to install."""
        return f"apt-get update && apt-get install --yes {' '.join(self.packages)}" if self.packages else ""


def missing_packages(machine: Machine, *, bases: bool) -> Missing:
    """Return what the ground needs and the machine lacks; ``bases`` is whether Debian base images are made on it."""
    compose = _compose(machine)
    by_hand = COMPOSE not in machine.present and not compose
    found = [
        ("git", "git", ("git",)),
        ("ssh", "ssh", ("openssh-client",)),
        ("dockerd", "Docker Engine", _ENGINE),
        ("docker", "Docker's client", _client(machine)),
        (COMPOSE, "Docker Compose 2", (compose,) if compose else ()),
    ]
    if bases:
        found.append(("mmdebstrap", "mmdebstrap", ("mmdebstrap",)))
    if bases or by_hand:
        found.append((KEYRING, "Debian's keyring", ("debian-archive-keyring",)))
    absent = [each for each in found if each[0] not in machine.present]
    # The engine and its client may be one package: each is named once.
    wanted = dict.fromkeys(package for *_, packages in absent for package in packages)
    return Missing(tuple(name for _, name, _ in absent), tuple(wanted), by_hand)


def available_from(shown: str) -> dict[str, str]:
    """Return versions by package out of what `apt-cache show --no-all-versions` prints."""
    return dict(re.findall(r"^Package: (\S+)\n(?:.*\n)*?Version: (\S+)$", shown, re.MULTILINE))


def _client(machine: Machine) -> tuple[str, ...]:
    separate = machine.release in _WITH_SEPARATE_CLIENT or (
        machine.release.startswith("debian ") and "docker-cli" in machine.offered
    )
    return ("docker-cli",) if separate else _ENGINE


def _compose(machine: Machine) -> str:
    """The package that has Compose 2 or newer, if one does."""
    recent = (each for each in ("docker-compose-v2", "docker-compose") if _is_recent(machine.offered.get(each, "")))
    return next(recent, _COMPOSE_OF.get(machine.release, ""))


def _is_recent(version: str) -> bool:
    return bool(version) and not version.startswith(("0.", "1."))
