"""The drill finds what is wrong with a backup, and a backup that was taken under load has nothing wrong."""

from __future__ import annotations

import itertools
import json
import secrets
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.disaster.site.test_cut_off import cut_off_at, steps_of
from tests.support.deployed_site import Account, DeployedSite, Git, Ssh, aws_client, head_of, objects_of, ops, push

pytestmark = pytest.mark.usefixtures("by_hand")


def test_a_drill_makes_a_site_of_the_newest_backup_and_leaves_nothing_of_it(
    site: DeployedSite, account: Account, ssh: Ssh, repository: str, record_property: Callable[[str, object], None]
) -> None:
    assert repository
    taken = ops(ssh, "backup", "take")
    passed = ops(ssh, "restore", "--drill")
    assert (passed["identity"], passed["findings"]) == (taken["identity"], [])
    # The page draws it: in the JUnit file, which the evidence seals.
    record_property("course", json.dumps(passed["course"]))
    assert ops(ssh, "restore", "--drill", "--when-due")["changed"] is False
    # A backup that is not what its manifest says.
    storage, bucket = aws_client(site.document, "s3"), site.document["backup"]["bucket"]
    key = f"manifests/{taken['identity']}.json"
    written = json.loads(storage.get_object(Bucket=bucket, Key=key)["Body"].read())
    lying = written | {"rows": written["rows"] | {"user": written["rows"]["user"] + 1}}
    lying["repositories"] = dict.fromkeys(written["repositories"], "0" * 64)
    storage.put_object(Bucket=bucket, Key=key, Body=json.dumps(lying), ChecksumAlgorithm="SHA256")
    failed = ops(ssh, "restore", "--drill", code=3)
    assert any("table user has" in each for each in failed["findings"])
    assert any(f"repository {account.name}/kept.git differs" in each for each in failed["findings"])
    # The site is not well while its backups may be worth nothing.
    assert _red(ops(ssh, "health", code=3)) == ["drill"]
    # And the restore itself refuses what it fetched, before it touches the site.
    refused = ops(ssh, "restore", "--yes", code=4)
    assert "differs from the manifest of backup" in str(refused["summary"])
    storage.put_object(Bucket=bucket, Key=key, Body=json.dumps(written), ChecksumAlgorithm="SHA256")
    assert ops(ssh, "restore", "--drill", "--when-due")["findings"] == []
    assert ops(ssh, "health")["healthy"] is True
    assert len(objects_of(site, "drills/")) >= 3
    assert _left_of_a_drill(ssh) == ""


def test_a_drill_that_is_killed_at_any_step_is_no_drill_and_is_cleared_away_by_the_next(
    site: DeployedSite, ssh: Ssh, web: requests.Session, repository: str
) -> None:
    assert repository
    ops(ssh, "backup", "take")
    steps = steps_of(ssh("sudo ops restore --drill").stderr)
    assert steps == ["fetch", "database", "start", "compare", "check", "use"]
    before = objects_of(site, "drills/")
    for step in steps:
        cut_off_at(ssh, step, "restore", "--drill")
        assert objects_of(site, "drills/") == before, step
        assert web.get(f"{site.url}/api/healthz").status_code == 200, step
    assert _left_of_a_drill(ssh) != ""
    assert ops(ssh, "restore", "--drill")["findings"] == []
    assert len(objects_of(site, "drills/")) == len(before) + 1
    assert _left_of_a_drill(ssh) == ""


def test_the_scratch_site_of_a_drill_has_no_port_and_no_way_out(site: DeployedSite, ssh: Ssh) -> None:
    # What the site itself reaches, as it reaches the place its mails and webhooks go to.
    reach = f"curl --silent --output /dev/null --max-time 3 {site.document['aws']['endpoint_url']}"
    assert ssh(f"sudo docker exec gitea-suite-gitea-1 {reach}").returncode == 0
    asked = (
        f"docker exec gitea-drill-gitea-1 {reach}; echo reached: $?; "
        "docker port gitea-drill-gitea-1; docker port gitea-drill-postgres-1; echo ports: end"
    )
    script = f'ops restore --drill 2>&1 | while read -r line; do echo "$line"; [ "$line" = \'== compare\' ] && {{ {asked}; }}; done'
    said = ssh(f"sudo sh -c {shlex.quote(script)}").stdout.splitlines()
    # 6 and 7 are curl's for a name and an address that cannot be had, 28 for one that does not answer.
    reached = said.index(next(each for each in said if each.startswith("reached: ")))
    assert said[reached] in {"reached: 6", "reached: 7", "reached: 28"}
    assert said[reached + 1] == "ports: end"


def _left_of_a_drill(ssh: Ssh) -> str:
    """What of a scratch site the host still has: containers, networks, files."""
    chosen = "--quiet --filter label=com.docker.compose.project=gitea-drill"
    kinds = ("docker ps --all", "docker network ls", "docker volume ls")
    containers = "".join(ssh(f"sudo {each} {chosen}").stdout for each in kinds)
    return containers + ssh("sudo find /srv/gitea -maxdepth 1 -name .drill").stdout


def test_a_drill_finds_what_git_lacks_though_every_ref_is_as_it_was(
    site: DeployedSite, account: Account, ssh: Ssh, repository: str
) -> None:
    assert repository
    inside = f"/data/git/repositories/{account.name}/kept.git"
    asked = ssh(f"sudo docker exec --user git gitea-suite-gitea-1 git -C {inside} rev-parse HEAD^{{tree}}")
    tree = asked.stdout.strip()
    lies = f"/srv/gitea/gitea/git/repositories/{account.name}/kept.git/objects/{tree[:2]}/{tree[2:]}"
    assert ssh(f"sudo mv {lies} /root/lost").returncode == 0, asked
    taken = ops(ssh, "backup", "take")
    failed = ops(ssh, "restore", "--drill", code=3)
    assert failed["identity"] == taken["identity"]
    assert [each for each in failed["findings"] if f"git fsck of {account.name}/kept.git" in each]
    assert [each for each in failed["findings"] if f"{account.name}/kept.git cannot be cloned" in each]
    # No update begins on backups that may be worth nothing, unless an operator says so.
    refused = ops(ssh, "update", "gitea", "--to", "28.1.1-sour", "--yes", code=4)
    assert "ops restore --drill" in json.dumps(refused)
    assert ssh(f"sudo mv /root/lost {lies}").returncode == 0
    ops(ssh, "backup", "take")
    assert ops(ssh, "restore", "--drill")["findings"] == []


def test_the_configuration_in_a_backup_is_what_the_host_has(site: DeployedSite, ssh: Ssh) -> None:
    taken = ops(ssh, "backup", "take")
    storage, bucket = aws_client(site.document, "s3"), site.document["backup"]["bucket"]
    written = json.loads(storage.get_object(Bucket=bucket, Key=f"manifests/{taken['identity']}.json")["Body"].read())
    snapshot = written["parts"]["configuration"]["local"]
    folders = "/etc/gitea-suite /opt/gitea-suite /srv/gitea/letsencrypt"
    script = (
        "restic --quiet --repo /var/backups/gitea-suite/restic --password-file /run/gitea-suite/secrets/restic-password"
        f" restore {snapshot} --target /tmp/kept && for each in {folders}; do diff -r /tmp/kept$each $each; done"
        " && find /tmp/kept -type f"
    )
    mounts = "".join(f" --volume {each}:{each}" for each in (*folders.split(), "/var/backups", "/run/gitea-suite"))
    image = ssh("grep -o 'gitea-suite/ops:[0-9a-f]*' /usr/local/bin/ops | head -1").stdout.strip()
    read = ssh(f"sudo docker run --rm --entrypoint sh{mounts} {image} -e -c {shlex.quote(script)}")
    assert read.returncode == 0, f"{read.stdout}\n{read.stderr}"
    found = {each.removeprefix("/tmp/kept") for each in read.stdout.split()}
    assert {"/etc/gitea-suite/site.json", "/opt/gitea-suite/compose/.env"} <= found
    assert f"/srv/gitea/letsencrypt/live/{site.domain}/README" in found or [
        each for each in found if each.startswith("/srv/gitea/letsencrypt/archive/") and "privkey" in each
    ]


def test_a_restored_site_that_does_not_come_up_gives_way_to_the_one_before(
    site: DeployedSite, account: Account, ssh: Ssh, git: Git, repository: str, hurried: None, tmp_path: Path
) -> None:
    ask = "sudo docker exec gitea-suite-postgres-1 psql --quiet --username gitea gitea --command"
    # A backup of a database that is newer than Gitea can read.
    assert ssh(f"{ask} 'UPDATE version SET version = version + 1000'").returncode == 0
    taken = ops(ssh, "backup", "take")
    assert ssh(f"{ask} 'UPDATE version SET version = version - 1000'").returncode == 0
    later = push(git, repository, tmp_path / "work", "later")
    undone = ops(ssh, "restore", "--yes", code=5)
    assert "does not start, and the old one is back" in str(undone["summary"])
    assert head_of(site, account, "kept") == later
    push(git, repository, tmp_path / "work", "later still")
    assert ops(ssh, "restore", "--resume")["changed"] is False
    # Nothing of it is left that the next restore would take for the newest.
    assert ops(ssh, "backup", "take")["identity"] > taken["identity"]
    assert ops(ssh, "health")["healthy"] is True


def _red(report: dict[str, Any]) -> list[str]:
    return [each["name"] for each in report["probes"] if not each["healthy"]]


@dataclass
class Acknowledged:
    """What people were told is done, with when they asked and when they were told, in seconds of this machine's clock."""

    over: threading.Event = field(default_factory=threading.Event)
    pushes: list[tuple[float, float, str]] = field(default_factory=list)
    issues: list[tuple[float, float, str]] = field(default_factory=list)


@pytest.fixture
def busy(site: DeployedSite, account: Account, git: Git, repository: str, tmp_path: Path) -> Iterator[Acknowledged]:
    """People who push and who write issues, without a pause, until the fixture is told that it is over."""
    noted = Acknowledged()

    def pusher() -> None:
        while not noted.over.is_set():
            began = time.time()
            noted.pushes.append((began, 0.0, ""))
            commit = push(git, repository, tmp_path / "work", secrets.token_hex(4))
            noted.pushes[-1] = (began, time.time(), commit)

    def writer() -> None:
        while not noted.over.is_set():
            began, title = time.time(), secrets.token_hex(8)
            where = f"{site.url}/api/v1/repos/{account.name}/kept/issues"
            assert account.session.post(where, json={"title": title}).status_code == 201
            noted.issues.append((began, time.time(), title))

    people = [threading.Thread(target=pusher), threading.Thread(target=writer)]
    for each in people:
        each.start()
    yield noted
    noted.over.set()
    for each in people:
        each.join()


def test_a_backup_under_load_has_all_that_was_acknowledged_before_its_moment_and_nothing_torn(
    site: DeployedSite, account: Account, ssh: Ssh, git: Git, repository: str, busy: Acknowledged, tmp_path: Path
) -> None:
    time.sleep(1)
    began = time.time()
    taken = ops(ssh, "backup", "take")
    ended = time.time()
    busy.over.set()
    time.sleep(1)
    assert [each for each in busy.pushes if began < each[0] and each[1] and each[1] < ended], "no one pushed meanwhile"
    # Out of the repository: the picture on the data disk is what was photographed, and not what was stored of it.
    assert ops(ssh, "restore", "--full-copy", "--yes")["picture"] is False
    git("clone", repository, "copy")
    git("fsck", "--strict", directory=tmp_path / "copy")
    there = git("log", "--format=%H", directory=tmp_path / "copy").stdout.split()
    # What was told before the backup began is there; so is no issue that was asked for after it had ended.
    assert {commit for _, told, commit in busy.pushes if told and told < began} <= set(there)
    titles = _titles(site, account, "kept")
    assert {title for _, told, title in busy.issues if told < began} <= titles
    assert not {title for asked, _, title in busy.issues if asked > ended} & titles
    # Of one moment: whatever one of them was told before another asked is not missing when that is there.
    last_push = max((asked for asked, _, commit in busy.pushes if commit in there), default=0.0)
    assert {title for _, told, title in busy.issues if told < last_push} <= titles
    last_issue = max((asked for asked, _, title in busy.issues if title in titles), default=0.0)
    assert {commit for _, told, commit in busy.pushes if told and told < last_issue} <= set(there)
    assert taken["identity"]


def _titles(site: DeployedSite, account: Account, repository: str) -> set[str]:
    """The titles of a repository's issues; Gitea gives 50 at a time."""
    titles: set[str] = set()
    for page in itertools.count(1):
        where = f"{site.url}/api/v1/repos/{account.name}/{repository}/issues"
        found = account.session.get(where, params={"state": "all", "limit": "50", "page": str(page)}).json()
        if not found:
            return titles
        titles |= {each["title"] for each in found}
    raise AssertionError
