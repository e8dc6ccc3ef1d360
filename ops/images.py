"""The images a site runs: pinned by tag in compose/images.env, and by digest once a registry was asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from ops.errors import ConfigError


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
