"""What a stage ran on, noted for its evidence: every image with its content's digest, and the tools by version."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

import docker

from ground.images import ImageSet

_TOOLS: Mapping[str, tuple[str, ...]] = {
    "ansible": ("ansible-playbook", "--version"),
    "docker compose": ("docker", "compose", "version", "--short"),
    "git": ("git", "--version"),
    "terraform": ("terraform", "version"),
}


def write(client: docker.DockerClient, images: ImageSet, path: Path) -> None:
    """Write the notes to ``path``, whole or not at all: two processes may write the same at once."""
    notes = {"set": images.name, "images": _digests(client, images), "tools": _tools(client)}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(notes, indent=2), encoding="utf-8")
    partial.replace(path)


def _digests(client: docker.DockerClient, images: ImageSet) -> dict[str, str]:
    return {name: str(client.images.get(reference).id) for name, reference in images.references.items()}


def _tools(client: docker.DockerClient) -> dict[str, str]:
    said = {name: _first_line(argv) for name, argv in _TOOLS.items()}
    return said | {"docker engine": str(client.version()["Version"]), "python": platform.python_version()}


def _first_line(argv: tuple[str, ...]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[0].strip() if done.stdout else "says nothing"
