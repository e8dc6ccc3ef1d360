"""The place where a verb runs: the site's host or the deploying machine. In the other one a refusal has the real command."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path

from ops.config import load
from ops.config.paths import HostPaths
from ops.config.schema import SSH, Site
from ops.config.workspace import state_of
from ops.errors import ConfigError

_UNCHANGED = "nothing was changed"
_SITE = "--site"


class Place(Enum):
    """Where a verb runs. The value completes the verb's summary."""

    HOST = " (on the host)"
    DEPLOYING_MACHINE = " (on the deploying machine)"
    ANYWHERE = ""


def of(parser: argparse.ArgumentParser) -> Place:
    """Return the place of a verb, or of an action of a verb."""
    found: Place = parser.get_default("place")
    return found


def here() -> Place:
    """Return the place of this run. The wrapper of ``ops`` on the host, /usr/local/bin/ops, names its image in OPS_IMAGE."""
    return Place.HOST if HostPaths().watchdog_image else Place.DEPLOYING_MACHINE


def require(arguments: argparse.Namespace, argv: Sequence[str]) -> None:
    """Raise ConfigError when the verb belongs to the other place; ``argv`` is the command line behind ``ops``.

    Also raises ConfigError for a wrong site file, which has the address of the host.
    """
    option = getattr(arguments, "anywhere_with", "")
    if arguments.place in {here(), Place.ANYWHERE} or (option and getattr(arguments, option)):
        return
    name = " ".join(each for each in ("ops", arguments.command, getattr(arguments, "action", "")) if each)
    words = list(_without_site_file(argv))
    if arguments.place is Place.DEPLOYING_MACHINE:
        raise ConfigError(
            f"{name} runs on the deploying machine, and this is the site's host",
            f"run {shlex.join(['./noxw', '-s', 'ops', '--', *words])} in the checkout on the deploying machine",
            left_as=_UNCHANGED,
        )
    outside = f"; from here, give --{option} {option.upper()}" if option else ""
    raise ConfigError(
        f"{name} runs on the site's host, and this is another machine",
        _command_for_the_host(arguments, ["sudo", "ops", *words]) + outside,
        left_as=_UNCHANGED,
    )


def _without_site_file(argv: Sequence[str]) -> Iterator[str]:
    """The words of a command line without the path of the site file, which is another one on the other machine."""
    words = iter(argv)
    for word in words:
        if word == _SITE:
            next(words, None)
        elif not word.startswith(f"{_SITE}="):
            yield word


def _command_for_the_host(arguments: argparse.Namespace, command: Sequence[str]) -> str:
    if not arguments.site:
        return f"connect to the site's host with ssh, and run {shlex.join(command)} there"
    path = Path(arguments.site)
    site = load.load(path)
    if not site.network.admin_cidrs:
        start = f"aws ssm start-session --region {site.aws.region} --target INSTANCE_ID"
        return f"run {start} (instance_id in {state_of(path, site.name) / 'outputs.json'}), and on the host {shlex.join(command)}"
    return f"run {shlex.join([*_ssh(site, asks=not arguments.json), *_for_a_shell(command)])}"


def _ssh(site: Site, *, asks: bool) -> list[str]:
    """The command that connects to the host; with a terminal if the verb may ask there."""
    port = [] if site.host.ssh_port == SSH else ["-p", str(site.host.ssh_port)]
    login = f"{site.host.ssh_user}@{site.host.address or site.domain}"
    return ["ssh", *(["-t"] if asks else []), "-i", str(Path(site.host.ssh_key).expanduser()), *port, login]


def _for_a_shell(command: Sequence[str]) -> list[str]:
    """The words of a command behind ssh, which joins them with spaces for the shell of the host."""
    joined = shlex.join(command)
    return list(command) if joined == " ".join(command) else [joined]
