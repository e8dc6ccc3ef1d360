"""The git program, run with Gitea's settings."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
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


# A name and an e-mail address.
Person = tuple[str, str]
_GITEA: Person = ("Gitea", "gitea@localhost")
_FORMAT = "%H%x00%T%x00%P%x00%an%x00%ae%x00%aI%x00%cn%x00%ce%x00%cI%x00%B"


class GitError(Exception):
    """git failed; the message is its error output."""


@dataclass(frozen=True)
class Commit:
    """One commit; `parents` are commits, times are in ISO 8601."""

    id: str
    tree: str
    parents: tuple[str, ...]
    author: Person
    authored: str
    committer: Person
    committed: str
    message: str


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


def commit(data_directory: Path, folder: Path, revision: str) -> Commit:
    """The commit of a branch, a tag or a number. Raises GitError."""
    shown = run(data_directory, folder, "show", "-s", f"--format={_FORMAT}", f"{revision}^{{commit}}", "--")
    number, tree, parents, name, mail, authored, by, by_mail, committed, message = shown.split("\0")
    return Commit(
        number, tree, tuple(parents.split()), (name, mail), authored, (by, by_mail), committed, f"{message.rstrip()}\n"
    )


def run(data_directory: Path, folder: Path, *arguments: str, text: str = "", author: Person = _GITEA) -> str:
    """The output of git without the last newline; commits are by `author`. Raises GitError."""
    names = dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"), author[0])
    mails = dict.fromkeys(("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"), author[1])
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
