"""A user with an account creates, pushes and clones repositories, over HTTPS and over ssh."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import requests

from tests.support.deployed_site import Account, DeployedSite, Git


def test_the_administrator_signs_in_with_the_password_from_secrets_manager(
    site: DeployedSite, admin: requests.Session
) -> None:
    answer = admin.get(f"{site.url}/api/v1/user")
    assert answer.status_code == 200
    assert answer.json()["is_admin"] is True


def test_a_wrong_password_is_refused(site: DeployedSite, web: requests.Session) -> None:
    web.auth = (site.administrator, "wrong")
    assert web.get(f"{site.url}/api/v1/user").status_code == 401


def test_a_push_of_100_megabytes_over_https_is_cloned_unchanged(
    site: DeployedSite, account: Account, git: Git, tmp_path: Path
) -> None:
    _create(site, account, "over-https")
    remote = f"https://{account.name}:{account.password}@{site.domain}/{account.name}/over-https.git"
    pushed = _commit(git, tmp_path / "work", os.urandom(100_000_000))
    git("push", remote, "HEAD:refs/heads/main", directory=tmp_path / "work")
    git("clone", "--branch", "main", remote, "copy")
    assert _head(git, tmp_path / "copy") == _head(git, tmp_path / "work")
    assert hashlib.sha256((tmp_path / "copy/content").read_bytes()).hexdigest() == pushed
    git("fsck", "--strict", directory=tmp_path / "copy")


def test_an_anonymous_user_can_neither_see_a_private_repository_nor_push_to_it(
    site: DeployedSite, account: Account, git: Git, web: requests.Session, tmp_path: Path
) -> None:
    _create(site, account, "private")
    assert web.get(f"{site.url}/api/v1/repos/{account.name}/private").status_code == 404
    _commit(git, tmp_path / "work", b"content")
    refused = git(
        "push",
        f"{site.url}/{account.name}/private.git",
        "HEAD:refs/heads/main",
        directory=tmp_path / "work",
        check=False,
    )
    assert refused.returncode != 0


def test_a_push_over_ssh_with_a_key_added_through_the_api_is_cloned_unchanged(
    site: DeployedSite, account: Account, git: Git, tmp_path: Path
) -> None:
    _create(site, account, "over-ssh")
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    requested = {"title": "e2e", "key": key.with_suffix(".pub").read_text().strip()}
    assert account.session.post(f"{site.url}/api/v1/user/keys", json=requested).status_code == 201
    ssh = f"ssh -i {key} -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile={tmp_path}/known"
    remote = f"ssh://git@{site.address}:{site.ssh_port}/{account.name}/over-ssh.git"
    pushed = _commit(git, tmp_path / "work", os.urandom(100_000))
    git("push", remote, "HEAD:refs/heads/main", directory=tmp_path / "work", GIT_SSH_COMMAND=ssh)
    git("clone", "--branch", "main", remote, "copy", GIT_SSH_COMMAND=ssh)
    assert _head(git, tmp_path / "copy") == _head(git, tmp_path / "work")
    assert hashlib.sha256((tmp_path / "copy/content").read_bytes()).hexdigest() == pushed


def test_gitea_shows_the_addresses_at_which_the_site_is_reachable(site: DeployedSite, account: Account) -> None:
    _create(site, account, "addresses")
    shown = account.session.get(f"{site.url}/api/v1/repos/{account.name}/addresses").json()
    assert shown["html_url"] == f"{site.url}/{account.name}/addresses"
    assert shown["clone_url"] == f"{site.url}/{account.name}/addresses.git"
    assert shown["ssh_url"] == f"ssh://git@{site.domain}:{site.ssh_port}/{account.name}/addresses.git"


def test_a_new_issue_is_stored(site: DeployedSite, account: Account) -> None:
    _create(site, account, "issues")
    issues = f"{site.url}/api/v1/repos/{account.name}/issues/issues"
    assert account.session.post(issues, json={"title": "a title", "body": "a body"}).status_code == 201
    assert [each["title"] for each in account.session.get(issues).json()] == ["a title"]


def _create(site: DeployedSite, account: Account, name: str) -> None:
    answer = account.session.post(f"{site.url}/api/v1/user/repos", json={"name": name, "private": True})
    assert answer.status_code == 201, answer.text


def _head(git: Git, folder: Path) -> str:
    return git("rev-parse", "HEAD", directory=folder).stdout.strip()


def _commit(git: Git, folder: Path, content: bytes) -> str:
    folder.mkdir()
    git("init", "--quiet", "--initial-branch=main", directory=folder)
    git("config", "core.compression", "0", directory=folder)
    (folder / "content").write_bytes(content)
    git("add", "content", directory=folder)
    git("commit", "--quiet", "--message", "content", directory=folder)
    return hashlib.sha256(content).hexdigest()
