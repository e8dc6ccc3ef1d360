"""The WAL brings back writes after the last backup, and restores a backup whose database dump is damaged."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.deployed_site import Account, DeployedSite, Git, Ssh, aws_client, head_of, ops

pytestmark = pytest.mark.usefixtures("by_hand", "streaming")

LOSS_SECONDS = 60
_DATA = "/srv/gitea/gitea"


@pytest.fixture
def streaming(ssh: Ssh) -> Iterator[None]:
    """Start the WAL stream again after the test, whatever its result."""
    yield
    assert ssh("sudo systemctl start gitea-suite-wal").returncode == 0


def test_an_issue_and_an_ssh_key_from_after_the_last_backup_are_recovered_from_the_wal(
    site: DeployedSite, account: Account, ssh: Ssh, git: Git, repository: str, tmp_path: Path
) -> None:
    assert repository
    ensure_base(site, ssh)
    # In the data of the backup: a hook with a path of another host, and the index of another moment.
    hook = f"{_DATA}/git/repositories/{account.name}/kept.git/hooks/post-receive.d/gitea"
    outdated, index = "exec /elsewhere/gitea hook post-receive", f"{_DATA}/gitea/indexers/of-the-backup"
    assert ssh(f"sudo sh -c 'echo {outdated} >{hook}; mkdir -p {index}'").returncode == 0
    ops(ssh, "backup", "take")
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public = key.with_suffix(".pub").read_text().strip()
    added = account.session.post(f"{site.url}/api/v1/user/keys", json={"title": "later", "key": public})
    assert added.status_code == 201
    head = head_of(site, account, "kept")
    where = f"{site.url}/api/v1/repos/{account.name}/kept/issues"
    assert account.session.post(where, json={"title": "after the backup"}).status_code == 201
    waited = await_arrival(ssh)
    print(f"in the bucket {waited:.1f} s after the acknowledgement")
    # The WAL from here on is never shipped, and the host's own copy is deleted, so that only the bucket's WAL is used.
    assert ssh("sudo systemctl stop gitea-suite-wal").returncode == 0
    assert account.session.post(where, json={"title": "never sent"}).status_code == 201
    assert ssh("sudo rm -r /var/backups/gitea-suite/wal").returncode == 0
    dry_run = ops(ssh, "restore", "--newest-database", "--dry-run")
    assert any(line.startswith("may disagree:") for line in dry_run["plan"]), dry_run
    ops(ssh, "restore", "--newest-database", "--yes")
    assert [each["title"] for each in account.session.get(where).json()] == ["after the backup"]
    assert head_of(site, account, "kept") == head
    # Keys and hooks are those of the database, and the index is made again.
    assert public.split()[1] in ssh(f"sudo cat {_DATA}/git/.ssh/authorized_keys").stdout
    assert outdated not in ssh(f"sudo cat {hook}").stdout
    assert ssh(f"sudo test -e {index}").returncode == 1
    assert ssh("sudo systemctl start gitea-suite-wal").returncode == 0
    await_arrival(ssh)


def test_a_backup_with_a_damaged_dump_is_restored_to_its_moment_from_base_backup_and_wal(
    site: DeployedSite, account: Account, ssh: Ssh, git: Git, repository: str
) -> None:
    assert repository
    ensure_base(site, ssh)
    where = f"{site.url}/api/v1/repos/{account.name}/kept/issues"
    assert account.session.post(where, json={"title": "before"}).status_code == 201
    taken = ops(ssh, "backup", "take")
    assert account.session.post(where, json={"title": "later"}).status_code == 201
    # The restore compares its result with the manifest's counts and refs, and stops when they differ.
    restored = ops(ssh, "restore", "--from-wal", "--yes")
    assert restored["identity"] == taken["identity"]
    assert restored["database_until"]
    assert [each["title"] for each in account.session.get(where).json()] == ["before"]
    # Without its dump the backup can still be restored with --from-wal.
    with _without_dump(site, taken["identity"]):
        assert "is broken: database missing" in str(ops(ssh, "restore", taken["identity"], "--yes", code=4)["summary"])
        ops(ssh, "restore", taken["identity"], "--from-wal", "--yes")
    assert [each["title"] for each in account.session.get(where).json()] == ["before"]


def test_the_wal_stream_continues_after_a_kill_or_a_restart_of_the_database_and_is_healthy(ssh: Ssh) -> None:
    for interruption in (
        "docker kill --signal KILL $(docker ps --quiet --filter label=gitea-suite.verb=backup)",
        "docker kill --signal KILL gitea-suite-wal",
        "docker restart gitea-suite-postgres-1",
    ):
        assert ssh(f"sudo sh -c '{interruption}'").returncode == 0
        await_arrival(ssh)
    (probe,) = [
        each for each in json.loads(ssh("sudo ops health --json").stdout)["probes"] if each["name"] == "WAL stream"
    ]
    assert probe["healthy"], probe


def ensure_base(site: DeployedSite, ssh: Ssh) -> None:
    """Take a backup: the first one of a site takes a base backup, too, and the next base backup is due a day later."""
    ops(ssh, "backup", "take")
    found = aws_client(site.document, "s3").list_objects_v2(Bucket=site.document["backup"]["bucket"], Prefix="bases/")
    assert found["KeyCount"]


def await_arrival(ssh: Ssh) -> float:
    """Wait until the bucket covers all current commits, for at most a minute; returns the seconds that it took."""
    now = datetime.fromisoformat(ssh("date --utc --iso-8601=ns").stdout.strip().replace(",", ".")[:26] + "+00:00")
    began = time.monotonic()
    while _covered(ssh) <= now:
        assert time.monotonic() - began < LOSS_SECONDS, "the WAL does not arrive"
        time.sleep(0.5)
    return time.monotonic() - began


def _covered(ssh: Ssh) -> datetime:
    state = ssh("sudo cat /var/backups/gitea-suite/wal/state.json").stdout
    return datetime.fromisoformat(json.loads(state)["covered"]) if state else datetime.min.replace(tzinfo=UTC)


@contextmanager
def _without_dump(site: DeployedSite, identity: str) -> Iterator[None]:
    """Make a backup lose its dump during the block: its manifest names a missing restic snapshot."""
    bucket, storage = site.document["backup"]["bucket"], aws_client(site.document, "s3")
    key = f"manifests/{identity}.json"
    original = storage.get_object(Bucket=bucket, Key=key)["Body"].read()
    document = json.loads(original)
    document["parts"]["database"]["remote"] = "0" * 64
    storage.put_object(Bucket=bucket, Key=key, Body=json.dumps(document), ChecksumAlgorithm="SHA256")
    yield
    # The next tests expect the original manifest.
    storage.put_object(Bucket=bucket, Key=key, Body=original, ChecksumAlgorithm="SHA256")
