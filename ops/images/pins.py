"""The images that a site runs: in the host's .env while it runs them, in the bucket once an update has proven one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ops.errors import ConfigError, OpsError
from ops.images import versions
from ops.images.versions import Release

SCHEMA = 1
# In the backup's bucket: it outlives the host and its disk, and whoever deploys reads it.
KEY = "updates/pins.json"
# Those whose data a newer version changes. Only an update takes them a step further, never a deployment.
WITH_DATA = ("gitea", "postgres")
_SERVICES = {"SOCKET_PROXY_IMAGE": "docker-socket-proxy"}
_LINE = re.compile(r"([A-Z_]+_IMAGE)='([^']*)'")


@dataclass(frozen=True)
class Pin:
    """One image: its name, its tag, and the digest of the bytes ("" where no registry told it yet)."""

    name: str
    tag: str
    digest: str = ""

    def __str__(self) -> str:
        return f"{self.name}:{self.tag}" + (f"@{self.digest}" if self.digest else "")

    @property
    def image(self) -> str:
        """The image by its tag."""
        return f"{self.name}:{self.tag}"

    @property
    def release(self) -> Release:
        """The release that the tag names; raises OpsError for a tag that names none."""
        found = versions.release_from(self.tag)
        if found is None:
            raise OpsError(f"the tag of {self} names no version", "pin a version in compose/images.env")
        return found


def pin_from(reference: str) -> Pin:
    """Return the pin that ``name:tag`` or ``name:tag@digest`` is."""
    image, _, digest = reference.partition("@")
    name, _, tag = image.rpartition(":")
    return Pin(name, tag, digest)


def service_of(variable: str) -> str:
    """Return the service of compose.yaml that runs the image of a variable."""
    return _SERVICES.get(variable) or variable.removesuffix("_IMAGE").lower().replace("_", "-")


def variable_of(service: str) -> str:
    """Return the variable of compose.yaml that names the image of a service."""
    names = {name: variable for variable, name in _SERVICES.items()}
    return names.get(service) or f"{service.upper().replace('-', '_')}_IMAGE"


def from_environment(text: str) -> dict[str, Pin]:
    """Return the pin of each service in the text of the host's .env."""
    return {service_of(found[1]): pin_from(found[2]) for found in map(_LINE.fullmatch, text.splitlines()) if found}


def into_environment(text: str, service: str, pin: Pin) -> str:
    """Return the text of the host's .env with another pin for a service, and every other byte as it was."""
    variable = variable_of(service)
    lines = [
        f"{variable}='{pin}'\n" if line.startswith(f"{variable}=") else line for line in text.splitlines(keepends=True)
    ]
    return "".join(lines)


def to_json(pins: Mapping[str, Pin]) -> bytes:
    """Return the proven pins as the bucket keeps them."""
    document = {"schema": SCHEMA, "pins": {service: str(pin) for service, pin in pins.items()}}
    return json.dumps(document, indent=1, sort_keys=True).encode()


def from_json(content: bytes) -> dict[str, Pin]:
    """Return the proven pins that the bucket keeps; raises OpsError for a record that is not ours or not whole."""
    try:
        document = json.loads(content)
        if document["schema"] != SCHEMA:
            raise OpsError(f"{KEY} was written by another suite (schema {document['schema']})", "use that one")
        return {service: pin_from(reference) for service, reference in document["pins"].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise OpsError(f"{KEY} in the bucket is cut off or not ours", "restore an older version of it") from error


def deployed(shipped: Mapping[str, str], proven: Mapping[str, Pin]) -> dict[str, str]:
    """Return what a deployment is to run of what the suite ships (variable to ``name:tag``) and what updates have proven.

    What was proven stays, by its digest. Where the suite ships a newer version it is taken, but for a service with data:
    that one waits for ``ops update``, which backs up first and can go back. Another image than the proven one was put in
    its place on purpose.
    """
    chosen = {}
    for variable, reference in shipped.items():
        service, pin = service_of(variable), pin_from(reference)
        known = proven.get(service)
        stays = known is not None and known.name == pin.name and not pin.digest
        newer = stays and service not in WITH_DATA and versions.is_newer(service, pin.release, known.release)  # type: ignore[union-attr]
        chosen[variable] = str(known) if stays and not newer else reference
    return chosen


def waiting(shipped: Mapping[str, str], proven: Mapping[str, Pin]) -> tuple[str, ...]:
    """Return a line for each newer version that the suite ships and a deployment leaves to ``ops update``."""
    pairs = {service_of(variable): pin_from(reference) for variable, reference in shipped.items()}
    return tuple(
        f"{service} stays at {proven[service].tag}; to {pin.tag}: ops update {service} --to {pin.tag} (on the host)"
        for service, pin in pairs.items()
        if service in WITH_DATA
        and service in proven
        and proven[service].name == pin.name
        and versions.is_newer(service, pin.release, proven[service].release)
    )


class Digests(Protocol):
    """Whoever knows the digest of a tag; ``ops.world.registry.Registry`` does."""

    def digest(self, image: str) -> str:
        """Return the sha256:... digest of ``name:tag``."""


def pinned_from(text: str) -> dict[str, str]:
    """Return the pins in the text of an images.env; raises ConfigError for a line that is no pin.

    The result maps Compose variables to ``name:tag``. A moving tag is refused, for what it means tomorrow is not what was tested.
    """
    lines = [line.strip() for line in text.splitlines()]
    return dict(_pin(line) for line in lines if line and not line.startswith("#"))


def pinned(compose: Path) -> dict[str, str]:
    """Return the pins of the Compose folder's images.env."""
    return pinned_from((compose / "images.env").read_text(encoding="utf-8"))


def resolve(pins: Mapping[str, str], registry: Digests) -> dict[str, str]:
    """Return each pin as ``name:tag@sha256:...``, so that what is deployed is what was looked up."""
    return {
        variable: image if "@" in image else f"{image}@{registry.digest(image)}" for variable, image in pins.items()
    }


def _pin(line: str) -> tuple[str, str]:
    variable, _, image = line.partition("=")
    name, _, tag = image.partition("@")[0].rpartition(":")
    if not variable.endswith("_IMAGE") or not name or tag in ("", "latest", "stable", "nightly"):
        raise ConfigError(f"compose/images.env: {line!r} pins no version", "write NAME_IMAGE=name:version")
    return variable, image
