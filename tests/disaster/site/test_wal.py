"""What was written after the last backup is in the database's log, and a backup without its dump still is one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from tests.support.deployed_site import Account, DeployedSite, Git, Ssh, aws_client, head_of, ops

pytestmark = pytest.mark.usefixtures("by_hand", "streaming")

LOSS_SECONDS = 60


@pytest.fixture
def streaming(ssh: Ssh) -> Iterator[None]:
    """Whatever a test came to, the next one finds the stream at work."""
    yield
    assert ssh("sudo systemctl start gitea-suite-wal").returncode == 0


def test_an_issue_that_was_written_after_the_last_backup_is_found_again(
    site: DeployedSite, account: Account, ssh: Ssh, git: Git, repository: str
) -> None:
    assert repository
    ensure_base(site, ssh)
    ops(ssh, "backup", "take")
    head = head_of(site, account, "kept")
    where = f"{site.url}/api/v1/repos/{account.name}/kept/issues"
    assert account.session.post(where, json={"title": "after the backup"}).status_code == 201
    waited = await_arrival(ssh)
    print(f"in the bucket {waited:.1f} s after it was told")
    # What follows is never sent, and what the host received of it is lost with the host: the bucket alone is to help.
    assert ssh("sudo systemctl stop gitea-suite-wal").returncode == 0
    assert account.session.post(where, json={"title": "never sent"}).status_code == 201
    assert ssh("sudo rm -r /var/backups/gitea-suite/wal").returncode == 0
    rehearsed = ops(ssh, "restore", "--newest-database", "--dry-run")
    assert any(line.startswith("may disagree:") for line in rehearsed["plan"]), rehearsed
    ops(ssh, "restore", "--newest-database", "--yes")
    assert [each["title"] for each in account.session.get(where).json()] == ["after the backup"]
    assert head_of(site, account, "kept") == head
    assert ssh("sudo systemctl start gitea-suite-wal").returncode == 0
    await_arrival(ssh)


def test_a_backup_whose_dump_is_damaged_is_restored_to_its_very_moment_from_base_and_log(
    site: DeployedSite, account: Account, ssh: Ssh, git: Git, repository: str
) -> None:
    assert repository
    ensure_base(site, ssh)
    where = f"{site.url}/api/v1/repos/{account.name}/kept/issues"
    assert account.session.post(where, json={"title": "before"}).status_code == 201
    taken = ops(ssh, "backup", "take")
    assert account.session.post(where, json={"title": "later"}).status_code == 201
    # The restore compares what it made with the manifest's counts and refs, and goes no further when they differ.
    restored = ops(ssh, "restore", "--from-wal", "--yes")
    assert restored["identity"] == taken["identity"]
    assert restored["database_until"]
    assert [each["title"] for each in account.session.get(where).json()] == ["before"]
    # Without a dump it is a backup still, for who asks for its log.
    with _without_dump(site, taken["identity"]):
        assert "is broken: database missing" in str(ops(ssh, "restore", taken["identity"], "--yes", code=4)["summary"])
        ops(ssh, "restore", taken["identity"], "--from-wal", "--yes")
    assert [each["title"] for each in account.session.get(where).json()] == ["before"]


def test_a_stream_that_is_killed_or_whose_database_restarts_goes_on_and_health_is_green(ssh: Ssh) -> None:
    for blow in (
        "docker kill --signal KILL $(docker ps --quiet --filter label=gitea-suite.verb=backup)",
        "docker kill --signal KILL gitea-suite-wal",
        "docker restart gitea-suite-postgres-1",
    ):
        assert ssh(f"sudo sh -c '{blow}'").returncode == 0
        await_arrival(ssh)
    (probe,) = [
        each for each in json.loads(ssh("sudo ops health --json").stdout)["probes"] if each["name"] == "database log"
    ]
    assert probe["healthy"], probe


def ensure_base(site: DeployedSite, ssh: Ssh) -> None:
    """The first backup of a site takes a base, too; none is due then until tomorrow."""
    ops(ssh, "backup", "take")
    found = aws_client(site.document, "s3").list_objects_v2(Bucket=site.document["backup"]["bucket"], Prefix="bases/")
    assert found["KeyCount"]


def await_arrival(ssh: Ssh) -> float:
    """Wait until all that is committed now is in the bucket, within the minute; returns the seconds that it took."""
    now = datetime.fromisoformat(ssh("date --utc --iso-8601=ns").stdout.strip().replace(",", ".")[:26] + "+00:00")
    began = time.monotonic()
    while _covered(ssh) <= now:
        assert time.monotonic() - began < LOSS_SECONDS, "the log does not arrive"
        time.sleep(0.5)
    return time.monotonic() - began


def _covered(ssh: Ssh) -> datetime:
    said = ssh("sudo cat /var/backups/gitea-suite/wal/state.json").stdout
    return datetime.fromisoformat(json.loads(said)["covered"]) if said else datetime.min.replace(tzinfo=UTC)


@contextmanager
def _without_dump(site: DeployedSite, identity: str) -> Iterator[None]:
    """A backup whose dump is lost: its manifest names a snapshot that is not there."""
    bucket, storage = site.document["backup"]["bucket"], aws_client(site.document, "s3")
    key = f"manifests/{identity}.json"
    whole = storage.get_object(Bucket=bucket, Key=key)["Body"].read()
    written = json.loads(whole)
    written["parts"]["database"]["remote"] = "0" * 64
    storage.put_object(Bucket=bucket, Key=key, Body=json.dumps(written), ChecksumAlgorithm="SHA256")
    yield
    # The site's own judgement of its backups is another test's.
    storage.put_object(Bucket=bucket, Key=key, Body=whole, ChecksumAlgorithm="SHA256")
