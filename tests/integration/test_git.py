"""git on real repositories: the gate's evidence is about the committed tree, and scripts read repositories of other owners."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ops.backup import contents
from ops.backup.repositories import REPOSITORIES
from ops.errors import Refused
from ops.restore import drill_checks
from ops.world.git import Git

_IDENTITY = ("-c", "user.name=E", "-c", "user.email=e@example.org")


def _git(folder: Path, *arguments: str) -> str:
    argv = ["git", *_IDENTITY, *arguments]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one commit, without a configured identity."""
    for each in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(each, "/dev/null")
    for each in ("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL", "EMAIL"):
        monkeypatch.delenv(each, raising=False)
    folder = tmp_path / "a checkout"
    folder.mkdir()
    _git(folder, "init", "--quiet", "--initial-branch=main")
    _git(folder, "config", "user.useConfigOnly", "true")
    (folder / "kept").write_text("a")
    (folder / ".gitignore").write_text("ignored\n")
    _git(folder, "add", ".")
    _git(folder, "commit", "--quiet", "--message", "first")
    return folder


def test_every_file_that_differs_from_the_commit_is_listed_except_ignored_ones(checkout: Path) -> None:
    git = Git(checkout)
    (checkout / "ignored").touch()
    assert git.changed_files() == ()
    (checkout / "kept").write_text("b")
    (checkout / "folder").mkdir()
    (checkout / "folder/new").touch()
    assert git.changed_files() == ("kept", "folder/new")
    _git(checkout, "add", ".")
    assert set(git.changed_files()) == {"kept", "folder/new"}
    _git(checkout, "reset", "--quiet", "--hard")
    (checkout / "kept").unlink()
    assert git.changed_files() == ("kept",)


def test_the_tree_depends_on_the_committed_files_only(checkout: Path) -> None:
    git = Git(checkout)
    tree, commit = git.tree(), git.commit()
    assert tree == _git(checkout, "write-tree")
    _git(checkout, "commit", "--quiet", "--amend", "--message", "in other words")
    assert (git.tree(), git.commit() == commit) == (tree, False)
    (checkout / "kept").write_text("b")
    assert git.tree() == tree
    _git(checkout, "commit", "--quiet", "--all", "--message", "second")
    assert git.tree() != tree


def test_a_tag_is_annotated_and_points_to_the_commit(checkout: Path) -> None:
    git = Git(checkout)
    with pytest.raises(Refused, match="git tag failed") as error:
        git.tag("v1.2.3", "manifest")
    assert "git config user.name" in error.value.hint
    assert not git.tag_exists("v1.2.3")
    _git(checkout, "config", "user.name", "E")
    _git(checkout, "config", "user.email", "e@example.org")
    git.tag("v1.2.3", "manifest")
    assert git.tag_exists("v1.2.3")
    assert (_git(checkout, "cat-file", "-t", "v1.2.3"), _git(checkout, "rev-parse", "v1.2.3^{commit}")) == (
        "tag",
        git.commit(),
    )
    assert _git(checkout, "tag", "--list", "--format=%(contents)", "v1.2.3") == "manifest"
    with pytest.raises(Refused, match="already exists"):
        git.tag("v1.2.3", "another")


def test_the_git_folder_is_that_of_the_checkout_also_of_a_linked_one(checkout: Path, tmp_path: Path) -> None:
    assert Git(checkout).directory() == checkout / ".git"
    _git(checkout, "worktree", "add", "--quiet", str(tmp_path / "linked"))
    assert Git(tmp_path / "linked").directory() == checkout / ".git/worktrees/linked"


def test_a_folder_without_a_checkout_or_without_a_commit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="not a git repository"):
        Git(tmp_path).tree()
    _git(tmp_path, "init", "--quiet")
    with pytest.raises(Refused, match="git rev-parse failed"):
        Git(tmp_path).tree()


@pytest.mark.parametrize("script", [contents._REFS, drill_checks.FSCK], ids=["listing", "drill"])
def test_git_reads_a_repository_of_another_owner(tmp_path: Path, script: str) -> None:
    repository = tmp_path / REPOSITORIES / "a/b.git"
    work = tmp_path / "work"
    identity = ["-c", "user.name=k", "-c", "user.email=k@example.org"]
    for argv in (
        ["git", "init", "-q", str(work)],
        ["git", "-C", str(work), *identity, "commit", "-q", "--allow-empty", "-m", "one"],
        ["git", "clone", "-q", "--bare", str(work), str(repository)],
    ):
        subprocess.run(argv, check=True)
    # git's own tests use this variable: every repository is another user's.
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}
    local = script.replace("/tmp/", f"{tmp_path}/").replace("/data/", f"{tmp_path}/")
    done = subprocess.run(["sh", "-c", local], env=environment, capture_output=True, text=True, check=True)
    if script is drill_checks.FSCK:
        assert done.stdout == ""
    else:
        (digest,) = contents.refs_from(done.stdout).values()
        assert digest != contents.UNREADABLE
