"""Debian base images: pulled from Docker Hub, or made with mmdebstrap from the machine's own mirror and `docker import`."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
from docker.errors import APIError, ImageNotFound

from ground import sudo
from ops.errors import Refused, Unavailable

Tell = Callable[[str], None]

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_APT = Path("/etc/apt")
# A mirror may be an old copy with an expired Release file. The signature still proves its origin.
_VALID = '--aptopt=Acquire::Check-Valid-Until "false"'
# As in Docker's slim images: no downloaded packages, manuals or translations.
_REMOVE = '{ "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };'
_CLEAN = (
    f"echo 'DPkg::Post-Invoke {_REMOVE} APT::Update::Post-Invoke {_REMOVE}' > \"$1/etc/apt/apt.conf.d/docker-clean\""
)
_SLIM = [f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in ("doc", "man", "locale", "info")]
_RECIPE = ["mmdebstrap", "--quiet", "--variant=minbase", _VALID, *_SLIM, f"--customize-hook={_CLEAN}"]
_SUITES = {"DEBIAN_BOOKWORM": "bookworm", "DEBIAN_TRIXIE": "trixie", "DEBIAN_FORKY": "forky"}


def bases(client: docker.DockerClient, wanted: set[str], tell: Tell) -> dict[str, str]:
    """Return a local image for each wanted build argument (DEBIAN_TRIXIE, ...), and make the missing ones."""
    with ThreadPoolExecutor() as pool:
        made = pool.map(lambda argument: _base(client, _SUITES[argument], tell), sorted(wanted))
    return dict(zip(sorted(wanted), made, strict=True))


def upstream_bases(client: docker.DockerClient, wanted: set[str], tell: Tell) -> dict[str, str]:
    """Return Docker Hub's image for each wanted build argument, for a machine without a Debian mirror, and pull missing ones."""
    made = {argument: f"debian:{_SUITES[argument]}-slim" for argument in sorted(wanted)}
    for reference in made.values():
        try:
            client.images.get(reference)
        except ImageNotFound:
            tell(f"pulling the base image {reference}")
            _pull(client, reference)
    return made


def _pull(client: docker.DockerClient, reference: str) -> None:
    name, tag = reference.split(":")
    try:
        client.images.pull(name, tag=tag)
    except APIError as error:
        raise Unavailable(
            f"{reference} cannot be pulled: {error.explanation or error}",
            "wait and run it again, or make the image from a Debian mirror: set IMAGE_SET=hermetic GROUND_DEBIAN_MIRROR=<address>",
        ) from error


def configured_mirror() -> str | None:
    """Return GROUND_DEBIAN_MIRROR, or the Debian mirror from this machine's apt configuration, or None."""
    if named := os.environ.get("GROUND_DEBIAN_MIRROR"):
        return named
    files = [_APT / "sources.list", *sorted((_APT / "sources.list.d").glob("*"))]
    texts = (file.read_text(encoding="utf-8", errors="replace") for file in files if file.is_file())
    addresses = (address for text in texts for address in _addresses(text))
    return next((address for address in addresses if re.search(r"/debian/?$", address)), None)


def _addresses(sources: str) -> Iterator[str]:
    """The addresses in a file of apt's sources; those of a list of mirrors, as in Debian's images for clouds."""
    for line in re.findall(r"^(?:URIs:|deb(?: \[[^]]*\])?)\s+(.+)$", sources, re.MULTILINE):
        for address in line.split():
            if address.startswith("mirror+file:"):
                mirrors = Path(address.removeprefix("mirror+file:").replace("//", "", 1))
                yield from mirrors.read_text(encoding="utf-8").split() if mirrors.is_file() else ()
            elif address.startswith("http"):
                yield address


def debian_mirror() -> str:
    """Return the configured mirror; raises Refused without one."""
    if mirror := configured_mirror():
        return mirror
    raise Refused("this machine's apt configuration names no Debian mirror", "set GROUND_DEBIAN_MIRROR=<address>")


def _base(client: docker.DockerClient, suite: str, tell: Tell) -> str:
    reference = f"hermetic/debian:{suite}-{hashlib.sha256(repr(_RECIPE).encode()).hexdigest()[:8]}"
    try:
        client.images.get(reference)
    except ImageNotFound:
        tell(f"making the base image {reference}")
        _make(client, suite, reference)
    return reference


def _make(client: docker.DockerClient, suite: str, reference: str) -> None:
    repository, tag = reference.split(":")
    # Without root mmdebstrap needs user namespaces, which a machine may deny to users.
    if why := sudo.obstacle():
        raise Refused(f"making the base image {reference} {why}", "run it once as root, or as a user with sudo")
    with tempfile.TemporaryDirectory() as folder:
        # Not a pipe into `docker import`, which would hide a failure of mmdebstrap.
        archive = Path(folder) / "root.tar"
        source = f"deb [signed-by={_KEYRING}] {debian_mirror()} {suite} main"
        argv = sudo.as_root([*_RECIPE, suite, str(archive), source])
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(
                f"mmdebstrap {suite} failed:\n{done.stderr[-2000:]}", "check the mirror: run apt-get update"
            )
        client.api.import_image_from_file(str(archive), repository=repository, tag=tag)
