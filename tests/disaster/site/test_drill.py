"""The drill finds the defects of a backup, and a backup that was taken under load has no defect."""

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

from tests.disaster.site.test_killed_backup_and_restore import kill_at_step, steps_in
from tests.support.deployed_site import Account, DeployedSite, Git, Ssh, aws_client, head_of, objects_of, ops, push

pytestmark = pytest.mark.usefixtures("by_hand")


def test_a_drill_restores_the_newest_backup_into_a_scratch_site_and_removes_it(
    site: DeployedSite, account: Account, ssh: Ssh, repository: str, record_property: Callable[[str, object], None]
) -> None:
    assert repository
    taken = ops(ssh, "backup", "take")
    passed = ops(ssh, "restore", "--drill")
    assert (passed["identity"], passed["findings"]) == (taken["identity"], [])
    # The report page draws it; the signed evidence covers the JUnit file that holds it.
    record_property("course", json.dumps(passed["course"]))
    assert ops(ssh, "restore", "--drill", "--when-due")["changed"] is False
    # A backup that differs from its manifest.
    storage, bucket = aws_client(site.document, "s3"), site.document["backup"]["bucket"]
    key = f"manifests/{taken['identity']}.json"
    original = json.loads(storage.get_object(Bucket=bucket, Key=key)["Body"].read())
    tampered = original | {"rows": original["rows"] | {"user": original["rows"]["user"] + 1}}
    tampered["repositories"] = dict.fromkeys(original["repositories"], "0" * 64)
    storage.put_object(Bucket=bucket, Key=key, Body=json.dumps(tampered), ChecksumAlgorithm="SHA256")
    failed = ops(ssh, "restore", "--drill", code=3)
    assert any("table user has" in each for each in failed["findings"])
    assert any(f"repository {account.name}/kept.git differs" in each for each in failed["findings"])
    # The site is unhealthy while its backups may be unusable.
    assert _failing(ops(ssh, "health", code=3)) == ["drill"]
    # The restore refuses the fetched backup, too, before it changes the site.
    refused = ops(ssh, "restore", "--yes", code=4)
    assert "differs from the manifest of backup" in str(refused["summary"])
    storage.put_object(Bucket=bucket, Key=key, Body=json.dumps(original), ChecksumAlgorithm="SHA256")
    assert ops(ssh, "restore", "--drill", "--when-due")["findings"] == []
    assert ops(ssh, "health")["healthy"] is True
    assert len(objects_of(site, "drills/")) >= 3
    assert _leftovers_of_a_drill(ssh) == ""


def test_a_drill_that_is_killed_at_any_step_does_not_count_and_the_next_one_removes_its_leftovers(
    site: DeployedSite, ssh: Ssh, web: requests.Session, repository: str
) -> None:
    assert repository
    ops(ssh, "backup", "take")
    steps = steps_in(ssh("sudo ops restore --drill").stderr)
    assert steps == ["fetch", "database", "start", "compare", "check", "use"]
    before = objects_of(site, "drills/")
    for step in steps:
        kill_at_step(ssh, step, "restore", "--drill")
        assert objects_of(site, "drills/") == before, step
        assert web.get(f"{site.url}/api/healthz").status_code == 200, step
    assert _leftovers_of_a_drill(ssh) != ""
    assert ops(ssh, "restore", "--drill")["findings"] == []
    assert len(objects_of(site, "drills/")) == len(before) + 1
    assert _leftovers_of_a_drill(ssh) == ""


def test_the_scratch_site_of_a_drill_has_no_published_port_and_no_outbound_network(
    site: DeployedSite, ssh: Ssh
) -> None:
    # The site reaches this endpoint, as it reaches its mail server and the targets of its webhooks.
    request = f"curl --silent --output /dev/null --max-time 3 {site.document['aws']['endpoint_url']}"
    assert ssh(f"sudo docker exec gitea-suite-gitea-1 {request}").returncode == 0
    questions = (
        f"docker exec gitea-drill-gitea-1 {request}; echo reached: $?; "
        "docker port gitea-drill-gitea-1; docker port gitea-drill-postgres-1; echo ports: end"
    )
    script = f'ops restore --drill 2>&1 | while read -r line; do echo "$line"; [ "$line" = \'== compare\' ] && {{ {questions}; }}; done'
    output = ssh(f"sudo sh -c {shlex.quote(script)}").stdout.splitlines()
    # curl exits with 6 for an unknown name, 7 for an unreachable address and 28 for a timeout.
    reached = output.index(next(each for each in output if each.startswith("reached: ")))
    assert output[reached] in {"reached: 6", "reached: 7", "reached: 28"}
    assert output[reached + 1] == "ports: end"


def _leftovers_of_a_drill(ssh: Ssh) -> str:
    """Return the host's leftovers of a scratch site: containers, networks, volumes, files."""
    chosen = "--quiet --filter label=com.docker.compose.project=gitea-drill"
    kinds = ("docker ps --all", "docker network ls", "docker volume ls")
    containers = "".join(ssh(f"sudo {each} {chosen}").stdout for each in kinds)
    return containers + ssh("sudo find /srv/gitea -maxdepth 1 -name .drill").stdout


def test_a_drill_finds_a_missing_git_object_although_every_ref_is_unchanged(
    site: DeployedSite, account: Account, ssh: Ssh, repository: str
) -> None:
    assert repository
    inside = f"/data/git/repositories/{account.name}/kept.git"
    asked = ssh(f"sudo docker exec --user git gitea-suite-gitea-1 git -C {inside} rev-parse HEAD^{{tree}}")
    tree = asked.stdout.strip()
    path = f"/srv/gitea/gitea/git/repositories/{account.name}/kept.git/objects/{tree[:2]}/{tree[2:]}"
    assert ssh(f"sudo mv {path} /root/lost").returncode == 0, asked
    taken = ops(ssh, "backup", "take")
    failed = ops(ssh, "restore", "--drill", code=3)
    assert failed["identity"] == taken["identity"]
    assert [each for each in failed["findings"] if f"git fsck of {account.name}/kept.git" in each]
    assert [each for each in failed["findings"] if f"{account.name}/kept.git cannot be cloned" in each]
    # No update begins while the backups may be unusable, unless the operator overrides it.
    refused = ops(ssh, "update", "gitea", "--to", "28.1.1-sour", "--yes", code=4)
    assert "ops restore --drill" in json.dumps(refused)
    assert ssh(f"sudo mv /root/lost {path}").returncode == 0
    ops(ssh, "backup", "take")
    assert ops(ssh, "restore", "--drill")["findings"] == []


def test_the_configuration_in_a_backup_equals_the_host_s(site: DeployedSite, ssh: Ssh) -> None:
    taken = ops(ssh, "backup", "take")
    storage, bucket = aws_client(site.document, "s3"), site.document["backup"]["bucket"]
    stored = json.loads(storage.get_object(Bucket=bucket, Key=f"manifests/{taken['identity']}.json")["Body"].read())
    snapshot = stored["parts"]["configuration"]["local"]
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


def test_a_restore_that_does_not_become_healthy_is_undone(
    site: DeployedSite, account: Account, ssh: Ssh, git: Git, repository: str, short_watch: None, tmp_path: Path
) -> None:
    ask = "sudo docker exec gitea-suite-postgres-1 psql --quiet --username gitea gitea --command"
    # A backup of a database that is too new for this Gitea.
    assert ssh(f"{ask} 'UPDATE version SET version = version + 1000'").returncode == 0
    taken = ops(ssh, "backup", "take")
    assert ssh(f"{ask} 'UPDATE version SET version = version - 1000'").returncode == 0
    later = push(git, repository, tmp_path / "work", "later")
    undone = ops(ssh, "restore", "--yes", code=5)
    assert "does not start, and the old one is back" in str(undone["summary"])
    assert head_of(site, account, "kept") == later
    push(git, repository, tmp_path / "work", "later still")
    assert ops(ssh, "restore", "--resume")["changed"] is False
    # The next backup is newer than the unusable one, so that the next restore chooses it.
    assert ops(ssh, "backup", "take")["identity"] > taken["identity"]
    assert ops(ssh, "health")["healthy"] is True


def _failing(report: dict[str, Any]) -> list[str]:
    return [each["name"] for each in report["probes"] if not each["healthy"]]


@dataclass
class Acknowledged:
    """The acknowledged writes, each with the times of request and acknowledgement in seconds of this machine's clock."""

    over: threading.Event = field(default_factory=threading.Event)
    pushes: list[tuple[float, float, str]] = field(default_factory=list)
    issues: list[tuple[float, float, str]] = field(default_factory=list)


@pytest.fixture
def busy(site: DeployedSite, account: Account, git: Git, repository: str, tmp_path: Path) -> Iterator[Acknowledged]:
    """Push and write issues without a pause until the event ``over`` is set."""
    acknowledged = Acknowledged()

    def pusher() -> None:
        while not acknowledged.over.is_set():
            began = time.time()
            acknowledged.pushes.append((began, 0.0, ""))
            commit = push(git, repository, tmp_path / "work", secrets.token_hex(4))
            acknowledged.pushes[-1] = (began, time.time(), commit)

    def writer() -> None:
        while not acknowledged.over.is_set():
            began, title = time.time(), secrets.token_hex(8)
            where = f"{site.url}/api/v1/repos/{account.name}/kept/issues"
            assert account.session.post(where, json={"title": title}).status_code == 201
            acknowledged.issues.append((began, time.time(), title))

    clients = [threading.Thread(target=pusher), threading.Thread(target=writer)]
    for each in clients:
        each.start()
    yield acknowledged
    acknowledged.over.set()
    for each in clients:
        each.join()


def test_a_backup_under_load_has_every_write_acknowledged_before_its_moment_and_is_consistent(
    site: DeployedSite, account: Account, ssh: Ssh, git: Git, repository: str, busy: Acknowledged, tmp_path: Path
) -> None:
    time.sleep(1)
    began = time.time()
    taken = ops(ssh, "backup", "take")
    ended = time.time()
    busy.over.set()
    time.sleep(1)
    assert [each for each in busy.pushes if began < each[0] and each[1] and each[1] < ended], (
        "no push completed during the backup"
    )
    # From the repository: the snapshot on the data disk is the source of the backup, not the stored copy.
    assert ops(ssh, "restore", "--full-copy", "--yes")["picture"] is False
    git("clone", repository, "copy")
    git("fsck", "--strict", directory=tmp_path / "copy")
    restored = git("log", "--format=%H", directory=tmp_path / "copy").stdout.split()
    # It has every write acknowledged before the backup began, and no issue requested after the backup ended.
    assert {commit for _, acknowledged, commit in busy.pushes if acknowledged and acknowledged < began} <= set(restored)
    titles = _titles(site, account, "kept")
    assert {title for _, acknowledged, title in busy.issues if acknowledged < began} <= titles
    assert not {title for requested, _, title in busy.issues if requested > ended} & titles
    # It is consistent: a write in the backup implies every write acknowledged before that one was requested.
    last_push = max((requested for requested, _, commit in busy.pushes if commit in restored), default=0.0)
    assert {title for _, acknowledged, title in busy.issues if acknowledged < last_push} <= titles
    last_issue = max((requested for requested, _, title in busy.issues if title in titles), default=0.0)
    assert {commit for _, acknowledged, commit in busy.pushes if acknowledged and acknowledged < last_issue} <= set(
        restored
    )
    assert taken["identity"]


def _titles(site: DeployedSite, account: Account, repository: str) -> set[str]:
    """Return the titles of a repository's issues, which Gitea lists by 50."""
    titles: set[str] = set()
    for page in itertools.count(1):
        where = f"{site.url}/api/v1/repos/{account.name}/{repository}/issues"
        found = account.session.get(where, params={"state": "all", "limit": "50", "page": str(page)}).json()
        if not found:
            return titles
        titles |= {each["title"] for each in found}
    raise AssertionError
