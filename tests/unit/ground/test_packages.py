"""Which packages a machine lacks, for each release that the README names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ground import packages
from ground.packages import Machine

ENGINE = ("docker.io", "apparmor", "ca-certificates")
BASES = ("mmdebstrap", "debian-archive-keyring")
# What each release's lists offer, of what is asked for.
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
def test_a_machine_with_nothing_gets_what_its_release_packages(
    release: str, wanted: tuple[str, ...], lists: str
) -> None:
    machine = Machine(release, frozenset(), RELEASES[release] if lists == "full" else {})
    lacking = packages.missing_packages(machine, bases=True)
    assert lacking.packages == ("git", "openssh-client", *wanted)
    assert lacking.compose_by_hand == (release == "debian 12")
    names = ("git", "ssh", "Docker Engine", "Docker's client", "Docker Compose 2", "mmdebstrap", "Debian's keyring")
    assert lacking.names == names


@pytest.mark.parametrize("release", RELEASES)
def test_where_no_base_image_is_made_nothing_is_installed_to_make_one(release: str) -> None:
    machine = Machine(release, EVERYTHING - {"mmdebstrap", packages.KEYRING}, RELEASES[release])
    assert packages.missing_packages(machine, bases=False) == packages.Missing()


@pytest.mark.parametrize(
    ("release", "absent", "wanted"),
    [
        ("debian 12", {packages.COMPOSE}, ()),
        ("debian 13", {packages.COMPOSE}, ("docker-compose",)),
        ("ubuntu 24.04", {packages.COMPOSE}, ("docker-compose-v2",)),
        # A release that no table knows is told by its lists.
        ("ubuntu 26.04", {packages.COMPOSE}, ("docker-compose-v2",)),
        # An engine somewhere else, DOCKER_HOST's, is asked through a client here.
        ("debian 12", {"docker"}, ("docker.io", "apparmor", "ca-certificates")),
        ("debian 13", {"docker"}, ("docker-cli",)),
        ("debian 13", {"dockerd"}, ENGINE),
        ("debian 13", {"git"}, ("git",)),
        ("debian 13", set(), ()),
    ],
)
def test_only_what_is_absent_is_installed(release: str, absent: set[str], wanted: tuple[str, ...]) -> None:
    machine = Machine(release, EVERYTHING - absent, RELEASES.get(release, NOBLE))
    assert packages.missing_packages(machine, bases=True).packages == wanted


def test_compose_out_of_trixie_needs_the_key_it_is_signed_with() -> None:
    machine = Machine("debian 12", EVERYTHING - {packages.COMPOSE, packages.KEYRING}, BOOKWORM)
    lacking = packages.missing_packages(machine, bases=False)
    assert lacking.packages == ("debian-archive-keyring",)
    assert lacking.compose_by_hand


def test_the_command_line_is_one_that_a_shell_takes_as_it_stands() -> None:
    lacking = packages.missing_packages(Machine("ubuntu 24.04", frozenset(), {}), bases=False)
    assert lacking.command == (
        "apt-get update && apt-get install --yes git openssh-client docker.io apparmor ca-certificates docker-compose-v2"
    )
    assert replace(lacking, packages=()).command == ""


def test_what_apt_offers_is_read_off_its_records() -> None:
    shown = (
        "Package: docker.io\nVersion: 26.1.5\nDescription: x\n Version: none\n\nPackage: docker-cli\nVersion: 26.1.4\n"
    )
    assert packages.available_from(shown) == {"docker.io": "26.1.5", "docker-cli": "26.1.4"}
    assert packages.available_from("") == {}
