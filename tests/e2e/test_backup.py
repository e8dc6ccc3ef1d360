"""Backups are restored, both the whole site and a single repository."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.deployed_site import (
    Account,
    DeployedSite,
    Git,
    Ssh,
    aws_client,
    git_at,
    head_of,
    new_account,
    new_repository,
    ops,
    parent_of,
    push,
    timers_stopped,
    uuid_of,
)


@dataclass(frozen=True)
class Kept:
    """A user's repository, its commit, and two consecutive backups of that state."""

    owner: Account
    remote: str
    head: str
    backups: tuple[dict[str, Any], dict[str, Any]]

    @property
    def identity(self) -> str:
        """The identity of the newer backup."""
        return str(self.backups[1]["identity"])


@pytest.fixture(scope="module")
def kept(
    site: DeployedSite, admin: requests.Session, ssh: Ssh, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kept]:
    """The state that the tests of this module restore. The timers are stopped, so that no other backup is taken."""
    home = tmp_path_factory.mktemp("home")
    with timers_stopped(ssh), new_account(site, admin) as owner:
        remote = new_repository(site, owner, git_at(site, home), home / "work")
        head = head_of(site, owner, "kept")
        yield Kept(owner, remote, head, (ops(ssh, "backup", "take"), ops(ssh, "backup", "take")))


def test_a_backup_is_listed_verified_and_its_status_reported(site: DeployedSite, ssh: Ssh, kept: Kept) -> None:
    listed = {each["identity"]: each for each in ops(ssh, "backup", "list")["backups"]}
    assert listed[kept.identity]["whole"] is True
    assert listed[kept.identity]["verified"] is None
    verified = ops(ssh, "backup", "verify")
    assert (verified["identity"], verified["findings"]) == (kept.identity, [])
    found = {each["name"]: each for each in ops(ssh, "backup", "status")["findings"]}
    assert "this host's repository, the bucket" in found["copies"]["seen"]
    assert "0 min old" in found["age"]["seen"]
    # An invalid manifest is listed as a broken backup.
    storage, bucket = aws_client(site.document, "s3"), site.document["backup"]["bucket"]
    storage.put_object(Bucket=bucket, Key="manifests/20991231T000000Z.json", Body=b"{", ChecksumAlgorithm="SHA256")
    listed = {each["identity"]: each for each in ops(ssh, "backup", "list")["backups"]}
    assert [identity for identity, each in listed.items() if not each["whole"]] == ["20991231T000000Z"]
    assert listed[kept.identity]["verified"]
    status = ops(ssh, "backup", "status", code=3)["findings"]
    assert "backup 20991231T000000Z" in [each["name"] for each in status if not each["healthy"]]
    storage.delete_object(Bucket=bucket, Key="manifests/20991231T000000Z.json")


def test_a_single_repository_is_restored_and_nothing_else_changes(
    site: DeployedSite, ssh: Ssh, git: Git, kept: Kept, tmp_path: Path
) -> None:
    owner = kept.owner
    git("clone", kept.remote, "work")
    push(git, kept.remote, tmp_path / "work", "unwanted")
    assert owner.session.post(f"{site.url}/api/v1/user/repos", json={"name": "beside"}).status_code == 201
    ops(ssh, "restore", "--repository", f"{owner.name}/kept", "--yes")
    git("clone", kept.remote, "copy")
    assert git("rev-parse", "HEAD", directory=tmp_path / "copy").stdout.strip() == kept.head
    assert owner.session.get(f"{site.url}/api/v1/repos/{owner.name}/beside").status_code == 200
    refused = ops(ssh, "restore", "--repository", f"{owner.name}/never", "--yes", code=4)
    assert "has no repository" in str(refused["summary"])


def test_a_restore_brings_back_the_old_state_and_sets_aside_later_changes(
    site: DeployedSite, ssh: Ssh, git: Git, kept: Kept, tmp_path: Path
) -> None:
    owner, (first, taken) = kept.owner, kept.backups
    assert 0 < taken["paused"] < 1
    # Nothing was written in between: the second backup stored only the database and small files, and shares the data snapshot.
    assert data_of(site, taken["identity"]) == data_of(site, first["identity"])
    git("clone", kept.remote, "work")
    push(git, kept.remote, tmp_path / "work", "later")
    path = Path("/srv/gitea/gitea/git/repositories", owner.name, "kept.git")
    damage = f"touch -r {path}/HEAD /tmp/then && sed -i s/main/niam/ {path}/HEAD && touch -r /tmp/then {path}/HEAD"
    assert ssh(f"sudo sh -c '{damage}'").returncode == 0
    assert owner.session.post(f"{site.url}/api/v1/user/repos", json={"name": "later"}).status_code == 201
    restored = ops(ssh, "restore", "--yes")
    assert (restored["identity"], restored["picture"]) == (kept.identity, True)
    assert parent_of(ssh, "/srv/gitea/gitea") == uuid_of(ssh, f"/srv/gitea/.moment/{kept.identity}")
    assert head_of(site, owner, "kept") == kept.head
    assert owner.session.get(f"{site.url}/api/v1/repos/{owner.name}/later").status_code == 404
    # The file that was changed with an unchanged timestamp is as before, and the later repository is gone.
    assert ssh(f"sudo cat {path}/HEAD").stdout == "ref: refs/heads/main\n"
    assert ssh(f"sudo ls -d {path} {path.with_name('later.git')}").stdout.split() == [str(path)]
    git("clone", kept.remote, "copy")
    git("fsck", "--strict", directory=tmp_path / "copy")
    assert ssh(f"sudo find /srv/gitea/.restore/before -path '*{owner.name}/later.git/HEAD'").stdout
    # The restored site accepts pushes as before.
    after = push(git, kept.remote, tmp_path / "copy", "after")
    last = ops(ssh, "backup", "take")
    assert data_of(site, last["identity"]) != data_of(site, taken["identity"])
    # A full copy from the restic repository, as on another host.
    push(git, kept.remote, tmp_path / "copy", "later still")
    full_copy = ops(ssh, "restore", "--full-copy", "--yes")
    assert (full_copy["identity"], full_copy["picture"]) == (last["identity"], False)
    assert head_of(site, owner, "kept") == after
    git("clone", kept.remote, "fetched")
    git("fsck", "--strict", directory=tmp_path / "fetched")


def data_of(site: DeployedSite, identity: str) -> str:
    """Return the restic snapshot of a backup's data, from its manifest."""
    key = {"Bucket": site.document["backup"]["bucket"], "Key": f"manifests/{identity}.json"}
    content = aws_client(site.document, "s3").get_object(**key)["Body"].read()
    return str(json.loads(content)["parts"]["data"]["remote"])
