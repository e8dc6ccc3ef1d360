"""The git program, run with Gitea's settings."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_CONFIG = """\
[safe]
\tdirectory = *
[receive]
\tadvertisePushOptions = true
\tautogc = false
[uploadpack]
\tallowFilter = true
\tallowAnySHA1InWant = true
[gc]
\tauto = 0
[core]
\tlogAllRefUpdates = true
"""


class GitError(Exception):
    """git failed; the message is its error output."""


def write_config(data_directory: Path) -> None:
    """Writes git's settings. Raises OSError."""
    home = data_directory / "home"
    home.mkdir(parents=True, exist_ok=True)
    (home / ".gitconfig").write_text(_CONFIG)


def environment(data_directory: Path) -> dict[str, str]:
    """The environment of git: only the necessary part of the caller's."""
    return {
        "PATH": os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin"),
        "HOME": str(data_directory / "home"),
        "GITEA_CUSTOM": os.environ.get("GITEA_CUSTOM", "/data/gitea"),
        "LANG": "C.UTF-8",
    }


def run(data_directory: Path, folder: Path, *arguments: str, text: str = "", author: str = "Gitea") -> str:
    """The output of git without the last newline; commits are by `author`. Raises GitError."""
    names = dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"), author)
    mails = dict.fromkeys(("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"), "gitea@localhost")
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        input=text,
        capture_output=True,
        text=True,
        check=False,
        env=environment(data_directory) | names | mails,
    )
    if done.returncode != 0:
        raise GitError(done.stderr.strip() or f"git {arguments[0]} ended with {done.returncode}")
    return done.stdout.rstrip("\n")
