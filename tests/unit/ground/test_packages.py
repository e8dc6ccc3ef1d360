"""The packages that a machine lacks, for each release in the README."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ground import packages
from ground.packages import Machine

ENGINE = ("docker.io", "apparmor", "ca-certificates")
BASES = ("mmdebstrap", "debian-archive-keyring")
# The relevant packages in each release's package lists.
BOOKWORM = {"docker.io": "20.10.24+dfsg1-1+deb12u1", "docker-compose": "1.29.2-3"}
TRIXIE = {"docker.io": "26.1.5+dfsg1-9", "docker-cli": "26.1.5+dfsg1-9", "docker-compose": "2.26.1-4"}
NOBLE = {
    "docker.io": "28.2.2-0ubuntu1~24.04.1",
    "docker-compose-v2": "2.37.1+ds1-0ubuntu2~24.04.1",
    "docker-compose": "1.29.2-6ubuntu1",
}
RELEASES = {"debian 12": BOOKWORM, "debian 13": TRIXIE, "ubuntu 24.04": NOBLE}
EVERYTHING = packages.PROGRAMS | {packages.COMPOSE, packages.KEYRING}


@pytest.mark.parametrize("lists", ["full", "empty"])
@pytest.mark.parametrize(
    ("release", "wanted"),
    [
        ("debian 12", (*ENGINE, *BASES)),
        ("debian 13", (*ENGINE, "docker-cli", "docker-compose", *BASES)),
        ("ubuntu 24.04", (*ENGINE, "docker-compose-v2", *BASES)),
    ],
)
def test_a_bare_machine_gets_its_release_s_packages(release: str, wanted: tuple[str, ...], lists: str) -> None:
    machine = Machine(release, frozenset(), RELEASES[release] if lists == "full" else {})
    lacking = packages.missing_packages(machine, bases=True)
    assert lacking.packages == ("git", "openssh-client", *wanted)
    assert lacking.compose_by_hand == (release == "debian 12")
    names = ("git", "ssh", "Docker Engine", "Docker's client", "Docker Compose 2", "mmdebstrap", "Debian's keyring")
    assert lacking.names == names


@pytest.mark.parametrize("release", RELEASES)
def test_without_base_images_to_build_no_package_for_them_is_installed(release: str) -> None:
    machine = Machine(release, EVERYTHING - {"mmdebstrap", packages.KEYRING}, RELEASES[release])
    assert packages.missing_packages(machine, bases=False) == packages.Missing()


@pytest.mark.parametrize(
    ("release", "absent", "wanted"),
    [
        ("debian 12", {packages.COMPOSE}, ()),
        ("debian 13", {packages.COMPOSE}, ("docker-compose",)),
        ("ubuntu 24.04", {packages.COMPOSE}, ("docker-compose-v2",)),
        # The package lists decide for an unknown release.
        ("ubuntu 26.04", {packages.COMPOSE}, ("docker-compose-v2",)),
        # A remote engine (DOCKER_HOST) needs a client on this machine.
        ("debian 12", {"docker"}, ("docker.io", "apparmor", "ca-certificates")),
        ("debian 13", {"docker"}, ("docker-cli",)),
        ("debian 13", {"dockerd"}, ENGINE),
        ("debian 13", {"git"}, ("git",)),
        ("debian 13", set(), ()),
    ],
)
def test_only_missing_packages_are_installed(release: str, absent: set[str], wanted: tuple[str, ...]) -> None:
    machine = Machine(release, EVERYTHING - absent, RELEASES.get(release, NOBLE))
    assert packages.missing_packages(machine, bases=True).packages == wanted


def test_compose_from_trixie_needs_its_signing_key() -> None:
    machine = Machine("debian 12", EVERYTHING - {packages.COMPOSE, packages.KEYRING}, BOOKWORM)
    lacking = packages.missing_packages(machine, bases=False)
    assert lacking.packages == ("debian-archive-keyring",)
    assert lacking.compose_by_hand


def test_the_command_line_can_be_pasted_into_a_shell() -> None:
    lacking = packages.missing_packages(Machine("ubuntu 24.04", frozenset(), {}), bases=False)
    assert lacking.command == (
        "apt-get update && apt-get install --yes git openssh-client docker.io apparmor ca-certificates docker-compose-v2"
    )
    assert replace(lacking, packages=()).command == ""


def test_the_available_versions_are_read_from_apt_s_records() -> None:
    shown = (
        "Package: docker.io\nVersion: 26.1.5\nDescription: x\n Version: none\n\nPackage: docker-cli\nVersion: 26.1.4\n"
    )
    assert packages.available_from(shown) == {"docker.io": "26.1.5", "docker-cli": "26.1.4"}
    assert packages.available_from("") == {}
