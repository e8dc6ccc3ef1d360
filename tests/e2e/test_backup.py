"""Backups are proven by restoring them: whole, and in part."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import Account, DeployedSite, Git, Ssh, aws_client, head_of, ops, push

pytestmark = pytest.mark.usefixtures("by_hand")


def test_a_restore_brings_back_what_was_and_keeps_aside_what_came_later(
    site: DeployedSite, account: Account, ssh: Ssh, git: Git, repository: str, tmp_path: Path
) -> None:
    before = head_of(site, account, "kept")
    first, taken = (ops(ssh, "backup", "take") for _ in range(2))
    assert 0 < taken["paused"] < 1
    # No one wrote between the two, so that there was nothing to store but the database and what is small.
    assert data_of(site, taken["identity"]) == data_of(site, first["identity"])
    push(git, repository, tmp_path / "work", "later")
    kept = Path("/srv/gitea/gitea/git/repositories", account.name, "kept.git")
    damage = f"touch -r {kept}/HEAD /tmp/then && sed -i s/main/niam/ {kept}/HEAD && touch -r /tmp/then {kept}/HEAD"
    assert ssh(f"sudo sh -c '{damage}'").returncode == 0
    assert account.session.post(f"{site.url}/api/v1/user/repos", json={"name": "later"}).status_code == 201
    restored = ops(ssh, "restore", "--yes")
    assert restored["identity"] == taken["identity"]
    assert head_of(site, account, "kept") == before
    assert account.session.get(f"{site.url}/api/v1/repos/{account.name}/later").status_code == 404
    # What was altered without a trace, and what was not there, is as it was.
    assert ssh(f"sudo cat {kept}/HEAD").stdout == "ref: refs/heads/main\n"
    assert ssh(f"sudo ls -d {kept} {kept.with_name('later.git')}").stdout.split() == [str(kept)]
    git("clone", repository, "copy")
    git("fsck", "--strict", directory=tmp_path / "copy")
    assert ssh(f"sudo find /srv/gitea/.restore/before -path '*{account.name}/later.git/HEAD'").stdout
    # The site that was restored takes pushes as before.
    push(git, repository, tmp_path / "copy", "after")
    last = ops(ssh, "backup", "take")
    assert data_of(site, last["identity"]) != data_of(site, taken["identity"])


def data_of(site: DeployedSite, identity: str) -> str:
    """Return the snapshot that a backup has for its data, as its manifest tells."""
    key = {"Bucket": site.document["backup"]["bucket"], "Key": f"manifests/{identity}.json"}
    content = aws_client(site.document, "s3").get_object(**key)["Body"].read()
    return str(json.loads(content)["parts"]["data"]["remote"])


def test_a_single_repository_comes_back_and_nothing_else_changes(
    site: DeployedSite, account: Account, ssh: Ssh, git: Git, repository: str, tmp_path: Path
) -> None:
    before = head_of(site, account, "kept")
    ops(ssh, "backup", "take")
    push(git, repository, tmp_path / "work", "unwanted")
    assert account.session.post(f"{site.url}/api/v1/user/repos", json={"name": "later"}).status_code == 201
    ops(ssh, "restore", "--repository", f"{account.name}/kept", "--yes")
    git("clone", repository, "copy")
    assert git("rev-parse", "HEAD", directory=tmp_path / "copy").stdout.strip() == before
    assert account.session.get(f"{site.url}/api/v1/repos/{account.name}/later").status_code == 200
    refused = ops(ssh, "restore", "--repository", f"{account.name}/never", "--yes", code=4)
    assert "has no repository" in str(refused["summary"])


def test_a_backup_is_listed_verified_and_judged(site: DeployedSite, ssh: Ssh, repository: str) -> None:
    assert repository
    taken = ops(ssh, "backup", "take")
    listed = {each["identity"]: each for each in ops(ssh, "backup", "list")["backups"]}
    assert listed[taken["identity"]]["whole"] is True
    assert listed[taken["identity"]]["verified"] is None
    verified = ops(ssh, "backup", "verify")
    assert (verified["identity"], verified["findings"]) == (taken["identity"], [])
    listed = {each["identity"]: each for each in ops(ssh, "backup", "list")["backups"]}
    assert listed[taken["identity"]]["verified"]
    found = {each["name"]: each for each in ops(ssh, "backup", "status")["findings"]}
    assert "this host's repository, the bucket" in found["copies"]["seen"]
    assert "0 min old" in found["age"]["seen"]
    # What only looks like a backup is named, and is none.
    storage, bucket = aws_client(site.document, "s3"), site.document["backup"]["bucket"]
    storage.put_object(Bucket=bucket, Key="manifests/20991231T000000Z.json", Body=b"{", ChecksumAlgorithm="SHA256")
    broken = [each for each in ops(ssh, "backup", "list")["backups"] if not each["whole"]]
    assert [each["identity"] for each in broken] == ["20991231T000000Z"]
    status = ops(ssh, "backup", "status", code=3)["findings"]
    assert "backup 20991231T000000Z" in [each["name"] for each in status if not each["healthy"]]
    storage.delete_object(Bucket=bucket, Key="manifests/20991231T000000Z.json")
