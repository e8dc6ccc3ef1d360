"""The adapter for the files of the stages: reports/evidence/<tree>/<stage>.json and its JUnit file."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ops.errors import ConfigError
from ops.model import Circumstances, Proof

KEY_VARIABLE = "GATE_KEY"
NOTE_VARIABLE = "GATE_NOTE"
BENCHMARKS = "bench.json"


def note(
    *,
    image_set: str = "",
    reason: str = "",
    images: Mapping[str, str] | None = None,
    sites: Mapping[str, str] | None = None,
) -> None:
    """Add images and sites (name to digest) to the note of the running stage. Does nothing outside the gate.

    ``reason`` says why the stage runs on the image set.
    """
    if not (named := os.environ.get(NOTE_VARIABLE)):
        return
    path = Path(named)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        noted = _noted(path)
        document = {
            "set": image_set or noted["set"],
            "reason": reason or noted["reason"],
            "images": {**noted["images"], **(images or {})},
            "sites": {**noted["sites"], **(sites or {})},
        }
        _replace(path, json.dumps(document, indent=2).encode())


class Evidence:
    """The evidence of a checkout, all of it below ``reports``."""

    def __init__(self, reports: Path, git_directory: Path) -> None:
        self.reports = reports
        self._key_file = git_directory / "gitea-suite-gate.key"

    def key(self) -> bytes:
        """Return the key that signs evidence: GATE_KEY where CI passes evidence between jobs, or this checkout's own key.

        Raises ConfigError for a GATE_KEY that is not 32 bytes or more in hex.
        """
        if named := os.environ.get(KEY_VARIABLE):
            return _from_hex(named)
        try:
            descriptor = os.open(self._key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return _from_hex(self._key_file.read_text(encoding="ascii"))
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        return self.key()

    def proofs(self, tree: str, stages: Iterable[str]) -> dict[str, Proof]:
        """Return the stored evidence of each stage for a tree."""
        return {
            stage: Proof(_content(self._envelope(tree, stage)), _content(self._junit(tree, stage))) for stage in stages
        }

    def begin(self, stage: str) -> Path:
        """Delete the pending files of the stage's earlier run, and return the path for its JUnit file."""
        pending = self.reports / "junit" / f"{stage}.xml"
        for stale in (pending, self.note_path(stage)):
            stale.unlink(missing_ok=True)
        pending.parent.mkdir(parents=True, exist_ok=True)
        return pending

    def note_path(self, stage: str) -> Path:
        """Return the path of the stage's note. Each stage has its own, because stages may run at the same time."""
        return self.reports / "junit" / f"{stage}.note.json"

    def forget(self, stage: str, tree: str) -> None:
        """Delete the stage's evidence for a tree."""
        for stale in (self._envelope(tree, stage), self._junit(tree, stage)):
            stale.unlink(missing_ok=True)

    def keep(self, stage: str, tree: str, junit: bytes, envelope: bytes) -> None:
        """Store a stage's evidence; the envelope is written last, so that every envelope has its JUnit file."""
        _replace(self._junit(tree, stage), junit)
        _replace(self._envelope(tree, stage), envelope)

    def circumstances(self, stage: str, given: Circumstances) -> Circumstances:
        """Return the given circumstances of a stage together with its own note."""
        noted = _noted(self.note_path(stage))
        return replace(
            given,
            image_set=noted["set"],
            image_set_reason=noted["reason"],
            images=noted["images"],
            sites=noted["sites"],
        )

    def measured(self) -> bytes | None:
        """Return the benchmarks' file, or None where no benchmark has run."""
        return _content(self.reports / BENCHMARKS)

    def drop(self, name: str) -> None:
        """Delete a file of the report."""
        (self.reports / name).unlink(missing_ok=True)

    def write(self, name: str, text: str) -> Path:
        """Write a file of the report and return its path."""
        _replace(self.reports / name, text.encode())
        return self.reports / name

    def _envelope(self, tree: str, stage: str) -> Path:
        return self.reports / "evidence" / tree / f"{stage}.json"

    def _junit(self, tree: str, stage: str) -> Path:
        return self.reports / "evidence" / tree / f"{stage}.xml"


def _from_hex(text: str) -> bytes:
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) < 32:
        raise ConfigError(f"{KEY_VARIABLE} is not a key", "set it to 32 bytes or more in hex: openssl rand -hex 32")
    return key


def _noted(path: Path) -> dict[str, Any]:
    nothing: dict[str, Any] = {"set": "", "reason": "", "images": {}, "sites": {}}
    return nothing | (json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {})


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    partial.write_bytes(content)
    partial.replace(path)
