"""The images that a site runs: pinned in the host's .env, and in the bucket once an update has kept one."""

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
# In the backups' bucket: it survives the loss of the host and its disk, and every deployment reads it.
KEY = "updates/pins.json"
# Services whose data a newer version changes. Only an update changes their version, never a deployment.
WITH_DATA = ("gitea", "postgres")
_SERVICES = {"SOCKET_PROXY_IMAGE": "docker-socket-proxy"}
_LINE = re.compile(r"([A-Z_]+_IMAGE)='([^']*)'")


@dataclass(frozen=True)
class Pin:
    """One image: its name, its tag and its digest ("" until a registry was asked)."""

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
        """The release of the tag; raises OpsError for a tag without a version."""
        found = versions.release_from(self.tag)
        if found is None:
            raise OpsError(f"the tag of {self} has no version", "set a version in compose/images.env")
        return found


def pin_from(reference: str) -> Pin:
    """Return the pin of a reference, ``name:tag`` or ``name:tag@digest``."""
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
    """Return the text of the host's .env with another pin for a service and every other byte unchanged."""
    variable = variable_of(service)
    lines = [
        f"{variable}='{pin}'\n" if line.startswith(f"{variable}=") else line for line in text.splitlines(keepends=True)
    ]
    return "".join(lines)


def to_json(pins: Mapping[str, Pin]) -> bytes:
    """Return the pins of updates as the record in the bucket."""
    document = {"schema": SCHEMA, "pins": {service: str(pin) for service, pin in pins.items()}}
    return json.dumps(document, indent=1, sort_keys=True).encode()


def from_json(content: bytes) -> dict[str, Pin]:
    """Return the pins of updates from the record in the bucket; raises OpsError if it is truncated or of another schema."""
    try:
        document = json.loads(content)
        if document["schema"] != SCHEMA:
            raise OpsError(
                f"{KEY} was written by another version of the suite (schema {document['schema']})",
                "use the version of the suite that wrote it",
            )
        return {service: pin_from(reference) for service, reference in document["pins"].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise OpsError(
            f"{KEY} in the bucket is truncated or not a record of pins", f"restore an older version of the object {KEY}"
        ) from error


def deployed(shipped: Mapping[str, str], updated: Mapping[str, Pin]) -> dict[str, str]:
    """Return the images that a deployment runs, from the suite's own (variable to ``name:tag``) and the pins of updates.

    The pin of an update stays, with its digest. If the suite ships a newer version, the deployment uses that one, except for
    a service with data: its version is left to ``ops update``, which takes a backup first and can roll back. If the suite
    ships another image, or one with a digest, the deployment uses it: someone replaced the image on purpose.
    """
    return {variable: _deployed(service_of(variable), reference, updated) for variable, reference in shipped.items()}


def _deployed(service: str, reference: str, updated: Mapping[str, Pin]) -> str:
    shipped, pin = pin_from(reference), updated.get(service)
    if pin is None or pin.name != shipped.name or shipped.digest:
        return reference
    newer = service not in WITH_DATA and versions.is_newer(service, shipped.release, pin.release)
    return reference if newer else str(pin)


def waiting(shipped: Mapping[str, str], updated: Mapping[str, Pin]) -> tuple[str, ...]:
    """Return a line for each newer version that the suite ships and a deployment leaves to ``ops update``."""
    pairs = {service_of(variable): pin_from(reference) for variable, reference in shipped.items()}
    return tuple(
        f"{service} stays at {updated[service].tag}; to {pin.tag}: ops update {service} --to {pin.tag} (on the host)"
        for service, pin in pairs.items()
        if service in WITH_DATA
        and service in updated
        and updated[service].name == pin.name
        and versions.is_newer(service, pin.release, updated[service].release)
    )


class Digests(Protocol):
    """A source of digests, such as ``ops.world.registry.Registry``."""

    def digest(self, image: str) -> str:
        """Return the sha256:... digest of ``name:tag``."""


def pinned_from(text: str) -> dict[str, str]:
    """Return the pins in the text of an images.env; raises ConfigError for a line that is not a pin.

    The result maps Compose variables to ``name:tag``. A moving tag is refused, because it may change after the tests.
    """
    lines = [line.strip() for line in text.splitlines()]
    return dict(_pin(line) for line in lines if line and not line.startswith("#"))


def pinned(compose: Path) -> dict[str, str]:
    """Return the pins of the Compose folder's images.env."""
    return pinned_from((compose / "images.env").read_text(encoding="utf-8"))


def resolve(pins: Mapping[str, str], registry: Digests) -> dict[str, str]:
    """Return each pin as ``name:tag@sha256:...``, so that the deployment uses exactly the images looked up here."""
    return {
        variable: image if "@" in image else f"{image}@{registry.digest(image)}" for variable, image in pins.items()
    }


def _pin(line: str) -> tuple[str, str]:
    variable, _, image = line.partition("=")
    name, _, tag = image.partition("@")[0].rpartition(":")
    if not variable.endswith("_IMAGE") or not name or tag in ("", "latest", "stable", "nightly"):
        raise ConfigError(f"compose/images.env: {line!r} pins no version", "set it as NAME_IMAGE=name:version")
    return variable, image
