"""The data disk is full: no acknowledged write is lost, the verbs report it, and the site recovers as soon as it has space."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.deployed_site import Account, DeployedSite, Git, Ssh, head_of, ops, push, until
from tests.support.updated_site import issue, titles

pytestmark = pytest.mark.usefixtures("by_hand")
_BALLAST = "/srv/gitea/.ballast"
_FILL = f"""mkdir {_BALLAST}; for size in 1G 128M 16M 2M 256K 32K 4K; do
    n=0; while fallocate --length $size {_BALLAST}/$size-$n 2>/dev/null; do n=$((n + 1)); done
done; sync --file-system {_BALLAST}"""


@pytest.fixture
def full_disk(ssh: Ssh, repository: str) -> Iterator[None]:
    """Fill the data disk after the repository was made; free the space after the test."""
    assert repository
    assert ssh(f"sudo sh -c '{_FILL}'").returncode == 0
    yield
    assert ssh(f"sudo rm -rf {_BALLAST}").returncode == 0


@pytest.mark.usefixtures("full_disk")
def test_a_site_with_a_full_disk_keeps_all_acknowledged_writes_and_recovers_with_free_space(
    account: Account, site: DeployedSite, ssh: Ssh, git: Git, repository: str, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    before = head_of(site, account, "kept")
    listed = {each["identity"] for each in ops(ssh, "backup", "list")["backups"]}
    # More than the file system's own reserve.
    (work / "large").write_bytes(secrets.token_bytes(64 * 2**20))
    git("add", "large", directory=work)
    git("commit", "--message", "large", directory=work)
    refused = git("push", repository, "HEAD:refs/heads/main", directory=work, check=False)
    assert refused.returncode != 0, "64 MiB were stored on a full disk"
    acknowledged = [title for title in ("first", "second", "third") if _is_acknowledged(account, site, title)]
    taken = ssh("sudo ops backup take --json")
    report = json.loads(taken.stdout)
    if taken.returncode == 0:
        listed.add(report["identity"])
    else:
        assert "no space left" in f"{report['summary']} {report.get('hint', '')}".lower(), report
        assert taken.returncode == 5, report
    assert ssh(f"sudo rm -rf {_BALLAST}").returncode == 0
    until(lambda: ssh("sudo ops health").returncode == 0, "the site is healthy")
    assert head_of(site, account, "kept") == before
    assert set(acknowledged) <= titles(site, account)
    assert {each["identity"] for each in ops(ssh, "backup", "list")["backups"]} == listed
    after = push(git, repository, work, "with room again")
    assert head_of(site, account, "kept") == after
    issue(site, account, "with room again")
    last = ops(ssh, "backup", "take")
    assert ops(ssh, "backup", "verify")["identity"] == last["identity"]


def _is_acknowledged(account: Account, site: DeployedSite, title: str) -> bool:
    """Post an issue, and tell whether the site acknowledged it."""
    where = f"{site.url}/api/v1/repos/{account.name}/kept/issues"
    return account.session.post(where, json={"title": title}).status_code == 201
