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


def home(data_directory: Path) -> Path:
    """The home folder of git, which holds its settings."""
    return data_directory / "home"


def write_config(data_directory: Path) -> None:
    """Writes git's settings. Raises OSError."""
    home(data_directory).mkdir(parents=True, exist_ok=True)
    (home(data_directory) / ".gitconfig").write_text(_CONFIG)


def environment(data_directory: Path) -> dict[str, str]:
    """The environment of git: only the necessary part of the caller's."""
    return {
        "PATH": os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin"),
        "HOME": str(home(data_directory)),
        "GITEA_CUSTOM": os.environ.get("GITEA_CUSTOM", "/data/gitea"),
        "LANG": "C.UTF-8",
    }


def run(data_directory: Path, folder: Path, *arguments: str, text: str = "", identity: str = "Gitea") -> str:
    """The output of git without the last newline. Raises GitError."""
    mail = "gitea@localhost"
    names = {
        "GIT_AUTHOR_NAME": identity,
        "GIT_COMMITTER_NAME": identity,
        "GIT_AUTHOR_EMAIL": mail,
        "GIT_COMMITTER_EMAIL": mail,
    }
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        input=text,
        capture_output=True,
        text=True,
        check=False,
        env=environment(data_directory) | names,
    )
    if done.returncode != 0:
        raise GitError(done.stderr.strip() or f"git {arguments[0]} ended with {done.returncode}")
    return done.stdout.rstrip("\n")
