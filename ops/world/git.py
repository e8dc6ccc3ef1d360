"""The adapter for git: the committed tree, and whether the work tree differs from it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ops.errors import Refused
from ops.world.environment import environment_for


class Git:
    """A checkout."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def directory(self) -> Path:
        """Return git's own directory of the checkout."""
        return Path(self._run("rev-parse", "--absolute-git-dir"))

    def tree(self) -> str:
        """Return the hash of the committed tree."""
        return self._run("rev-parse", "HEAD^{tree}")

    def commit(self) -> str:
        """Return the hash of the commit that is checked out."""
        return self._run("rev-parse", "HEAD")

    def changed_files(self) -> tuple[str, ...]:
        """Return the files that differ from the commit, including untracked files that are not ignored."""
        lines = self._run("status", "--porcelain", "--untracked-files=all").splitlines()
        return tuple(line[2:].strip() for line in lines)

    def tag_exists(self, name: str) -> bool:
        """Return whether a tag of that name exists."""
        return bool(self._run("tag", "--list", name))

    def tag(self, name: str, message: str) -> None:
        """Make an annotated tag on the commit that is checked out; raises Refused with git's message when git fails."""
        self._run(
            "tag",
            "--annotate",
            name,
            "--message",
            message,
            hint="set git config user.name and user.email, then run it again",
        )

    def _run(self, *arguments: str, hint: str = "run it in a git checkout that has a commit") -> str:
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=self._root, env=environment_for(), capture_output=True, text=True, check=False
            )
        except FileNotFoundError as error:
            raise Refused("git is not installed", "run apt-get install git") from error
        if done.returncode:
            raise Refused(f"git {arguments[0]} failed: {done.stderr.strip()}", hint)
        return done.stdout.rstrip("\n")
